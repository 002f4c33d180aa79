"""A campaign of two days, with mistakes. `python -m experiments.jobs.campaign`"""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, checkpoint, metrics, networks, posteriors


def main(small=False):
    """Accuracy after the second day, and what the ledger knows."""
    images, digits = load_digits(return_X_y=True)
    pool, test = np.float32(images[:1297] / 16), np.float32(images[1297:] / 16)
    posterior = posteriors.mc_dropout(networks.mlp(64, 10))
    learner = bayesal.learner(posterior, acquire.power(), size=20)
    file = Path(tempfile.mkdtemp()) / "campaign.npz"

    state = learner.init(0, pool)  # the first day
    picks = np.asarray(learner.ask(state, pool).indices)
    labels = digits[picks].copy()
    labels[0] = bayesal.REJECTED  # none of the ten
    weights = np.r_[1.0, 0.0, np.ones(18)]  # the second one cannot be read
    state = learner.tell(state, pool, picks, labels, weights=weights)
    checkpoint.save(file, state)

    state = checkpoint.restore(file, like=learner.init(0, pool))  # the second day
    state = learner.relabel(state, pool, picks[2:3], digits[picks[2:3]])  # looked at again
    for _ in range(1 if small else 4):
        later = np.asarray(learner.ask(state, pool).indices[:3])  # too hard for today
        picks = np.asarray(learner.ask(state, pool, exclude=later, size=15).indices)
        state = learner.tell(state, pool, picks, digits[picks])
    log_probs = bayesal.predictive_of(posterior, state).log_probs(test)
    accuracy = float(metrics.accuracy(log_probs, digits[1297:]))
    return accuracy, int(state.ledger.count), bayesal.rejected(state).tolist()


if __name__ == "__main__":
    print("accuracy {:.3f} with {} answers, rejected rows {}".format(*main()))
