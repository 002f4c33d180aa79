"""Real labels, of which one region matters: EPIG. `python -m experiments.jobs.region`"""

import numpy as np

import bayesal
from bayesal import acquire, metrics, posteriors, select
from bayesal.scores import regression


def main(small=False):
    """RMSE inside the region, by labels that tell about it (EPIG) and by the widest variances."""
    x = np.random.default_rng(0).uniform(-4, 4, (400 if small else 1000, 2)).astype(np.float32)
    y = np.float32(np.sin(2 * x[:, 0]) + 0.5 * np.cos(3 * x[:, 1]))
    inside = (np.abs(x - 2) < 1).all(axis=1)
    posterior, found = posteriors.gp_regression(), {}
    learner = bayesal.learner(posterior, acquire.top(regression.variance), size=10)
    for name in ("variance", "epig"):
        state = learner.init(0, x)
        picks = np.asarray(learner.ask(state, x).indices)  # both begin alike
        for _ in range(3 if small else 6):
            state = learner.tell(state, x, picks, y[picks])
            predictive = bayesal.predictive_of(posterior, state, 50)
            picks = np.asarray(learner.ask(state, x).indices)
            if name == "epig":
                score = regression.epig(*predictive(x), *predictive(x[inside][:40]))
                picks = select.top(score, 10, available=state.ledger.available(len(x))).indices
                picks = np.asarray(picks)
        found[name] = float(metrics.rmse(predictive.moments(x[inside]), y[inside]))
    return found


if __name__ == "__main__":
    print(main())
