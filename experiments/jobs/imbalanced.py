"""An ensemble on a table with 4 % positives. `python -m experiments.jobs.imbalanced`"""

import numpy as np
from sklearn.datasets import make_classification

import bayesal
from bayesal import acquire, metrics, networks, posteriors


def main(small=False):
    """Average precision of the rare class on 2,000 unseen rows; chance is its share, .05."""
    x, y = make_classification(
        4000, 12, n_informative=6, weights=[0.96], class_sep=1.5, random_state=0
    )
    x = np.float32((x - x.mean(0)) / x.std(0))
    pool, test, labels, answers = x[:2000], x[2000:], y[:2000], y[2000:]
    posterior = posteriors.ensemble(networks.mlp(12, 2, (32,)), members=5)
    learner = bayesal.learner(
        posterior, acquire.top(bayesal.scores.margin), size=20, class_weights="balanced"
    )
    state = learner.init(0, pool)
    for _ in range(3 if small else 10):
        picks = np.asarray(learner.ask(state, pool).indices)
        state = learner.tell(state, pool, picks, labels[picks])
    log_probs = np.asarray(bayesal.predictive_of(posterior, state).log_probs(test))
    print(metrics.confusion_matrix(log_probs, answers))
    return metrics.average_precision(log_probs[:, 1], answers == 1)


if __name__ == "__main__":
    print(f"average precision {main():.3f}")
