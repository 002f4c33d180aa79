"""Real labels, of which one region matters: batch EPIG. `python -m experiments.jobs.region`"""

import numpy as np

import bayesal
from bayesal import acquire, metrics, posteriors
from bayesal.scores import regression


def main(small=False):
    """RMSE inside the region, by labels that tell about it, by the widest variances, by chance."""
    x = np.random.default_rng(0).uniform(-4, 4, (400 if small else 1000, 2)).astype(np.float32)
    y = np.float32(np.sin(2 * x[:, 0]) + 0.5 * np.cos(3 * x[:, 1]))
    inside = (np.abs(x - 2) < 1).all(axis=1)
    posterior, found = posteriors.gp_regression(), {}
    strategies = {
        "epig": acquire.batch_epig(x[inside][:40]),
        "variance": acquire.top(regression.variance),
        "uniform": acquire.uniform(),
    }
    for name, strategy in strategies.items():
        learner = bayesal.learner(posterior, strategy, size=10, capacity=70)
        state = learner.init(0, x)
        for _ in range(3 if small else 6):
            rows = np.asarray(learner.ask(state, x).indices)
            state = learner.tell(state, x, rows, y[rows])
        prediction = bayesal.predictive_of(posterior, state, 50).moments(x[inside])
        found[name] = float(metrics.rmse(prediction, y[inside]))
    return found


if __name__ == "__main__":
    print(main())
