"""Five strategies, five seeds, one figure. `python -m experiments.jobs.comparison`"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, networks, posteriors, scores

STRATEGIES = {
    "margin": acquire.top(scores.margin),
    "entropy": acquire.top(scores.entropy),
    "power": acquire.power(),
    "badge": acquire.badge(),
}  # and chance, which is always there


def main(small=False, out="runs/comparison.png"):
    """The results; the figure is written to `out`."""
    images, digits = load_digits(return_X_y=True)
    results = bayesal.simulate(
        dict(list(STRATEGIES.items())[:1]) if small else STRATEGIES,
        np.float32(images / 16),
        digits,
        test=500,
        posterior=posteriors.mc_dropout(networks.mlp(64, 10)),
        seeds=2 if small else 5,
        rounds=3 if small else 10,
        size=20,
        num_draws=20,
        progress=not small,
    )
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    results.plot().figure.savefig(out)
    return results


if __name__ == "__main__":
    print(main(), file=sys.stdout)
