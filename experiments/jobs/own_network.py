"""A Flax CNN of one's own learns digits. `python -m experiments.jobs.own_network`"""

import jax
import numpy as np
from flax import nnx
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, calibrate, metrics, networks, posteriors


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.drop = nnx.Dropout(0.3)
        self.last = nnx.Linear(16 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x, rngs=None):
        x = nnx.max_pool(jax.nn.relu(self.first(x)), (2, 2), (2, 2))
        return self.last(self.drop(x, rngs=rngs).reshape(1, -1))


def main(small=False):
    """Accuracy on 500 unseen digits."""
    images, digits = load_digits(return_X_y=True)
    x = np.float32(images / 16).reshape(-1, 8, 8, 1)
    pool, test, labels, answers = x[:1297], x[1297:], digits[:1297], digits[1297:]
    posterior = posteriors.mc_dropout(networks.from_nnx(Net))
    learner = bayesal.learner(
        posterior, acquire.power(), size=20, num_draws=20, calibrate=calibrate.temperature()
    )
    state = learner.init(0, pool)
    for _ in range(2 if small else 6):
        picks = np.asarray(learner.ask(state, pool).indices)
        state = learner.tell(state, pool, picks, labels[picks])
    return float(metrics.accuracy(bayesal.predictive_of(posterior, state).log_probs(test), answers))


if __name__ == "__main__":
    print(f"accuracy {main():.3f}")
