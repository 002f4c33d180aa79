"""Two million rows on disk. `python -m experiments.jobs.memory_map`"""

import tempfile
from pathlib import Path

import numpy as np

import bayesal
from bayesal import acquire, metrics, networks, posteriors


def main(small=False):
    """Accuracy on 2,000 unseen rows after 100 labels."""
    rows, random = (20_000 if small else 2_000_000), np.random.default_rng(0)
    centers = random.normal(size=(5, 16)).astype(np.float32)
    classes = random.integers(0, 5, rows)
    file = Path(tempfile.mkdtemp()) / "pool.npy"
    pool = np.lib.format.open_memmap(file, "w+", np.float32, (rows, 16))
    for start in range(0, rows, 100_000):
        part = classes[start : start + 100_000]
        pool[start : start + len(part)] = centers[part] + random.normal(size=(len(part), 16))
    posterior = posteriors.mc_dropout(networks.mlp(16, 5))
    learner = bayesal.learner(posterior, acquire.power(), size=20, num_draws=10)
    state = learner.init(0, file)
    for _ in range(3 if small else 5):
        picks = np.asarray(learner.ask(state, file).indices)
        state = learner.tell(state, file, picks, classes[picks])
    labels = random.integers(0, 5, 2000)
    test = centers[labels] + random.normal(size=(2000, 16)).astype(np.float32)
    return float(metrics.accuracy(bayesal.predictive_of(posterior, state).log_probs(test), labels))


if __name__ == "__main__":
    print(f"accuracy {main():.3f}")
