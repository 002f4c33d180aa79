"""How fast are picks from embeddings? `python -m experiments.benchmarks.embeddings [--pairs 5]`

100,000 vectors of 384 numbers in 20 classes, 500 of them labeled, 50 draws: `tell` (fit with the
prior's precision found), `ask` by power(bald) and by margin, in a fresh process without a
compilation cache, first calls and warm ones. scikit-learn's `LogisticRegression` takes turns with
`tell` in the same process: its fit on the same 500 labels (one C, as shipped), and the search over
as many C in five folds that finds its prior. Processor and wall seconds, medians over the pairs.

With `--peer`, one batch of 50 of the first 50,000 rows by BADGE and by TypiClust, ours (warm) and
scikit-activeml's, where that is installed: it retrains a logistic regression for BADGE; some
minutes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS, WIDTH, CLASSES, LABELS, DRAWS = 100_000, 384, 20, 500, 50


def vectors():
    """Unit vectors around 20 centers, stored as float16, and their classes."""
    import numpy as np

    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, ROWS).astype(np.int32)
    centers = 0.09 * random.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    x = centers[labels] + 0.18 * random.normal(size=(ROWS, WIDTH)).astype(np.float32)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16), labels


def timed(call):
    start = time.process_time(), time.perf_counter()
    result = call()
    return result, (time.process_time() - start[0], time.perf_counter() - start[1])


def learners(posterior, learner):
    from bayesal import acquire, scores

    common = dict(size=50, num_draws=DRAWS, capacity=512)
    return {
        "ask, power(bald)": learner(posterior, acquire.power(), **common),
        "ask, top(margin)": learner(posterior, acquire.top(scores.margin), **common),
    }


def measured(pairs):
    """Rows of the table: a name, and seconds of each run."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

    x, y = vectors()
    rows = np.random.default_rng(1).choice(ROWS, LABELS, replace=False)
    first, more = rows[:-50], rows[-50:]
    few = x[rows].astype(np.float32)

    def starts():
        import bayesal
        from bayesal import posteriors

        posterior = posteriors.logistic(CLASSES)
        return posterior, learners(posterior, bayesal.learner)

    (posterior, both), spent = timed(starts)
    yield "import", [spent]
    power, margin = both.values()
    state, spent = timed(lambda: power.init(0, x))
    yield "init", [spent]
    told, spent = timed(lambda: power.tell(state, x, first, y[first]))
    yield "first tell", [spent]
    for name, learner in both.items():
        _, spent = timed(lambda learner=learner: np.asarray(learner.ask(told, x).indices))
        yield f"first {name}", [spent]
    import bayesal

    said = np.asarray(bayesal.predictive_of(posterior, told, DRAWS).predict(x))
    print(f"accuracy on all rows: {np.mean(said == y):.4f}")
    peers = {
        "scikit-learn fit": LogisticRegression(max_iter=1_000),
        "scikit-learn fit, C searched": LogisticRegressionCV(
            Cs=9,
            cv=5,
            max_iter=1_000,
            scoring="neg_log_loss",
            use_legacy_attributes=False,
            l1_ratios=(0.0,),
        ),
    }
    calls = {
        "tell": lambda: power.tell(told, x, more, y[more]),
        "ask, power(bald)": lambda: np.asarray(power.ask(told, x).indices),
        "ask, top(margin)": lambda: np.asarray(margin.ask(told, x).indices),
        **{name: lambda peer=peer: peer.fit(few, y[rows]) for name, peer in peers.items()},
    }
    seen = {name: [] for name in calls}
    for _ in range(pairs):
        for name, call in calls.items():
            seen[name].append(timed(call)[1])
    yield from seen.items()


def batches(known):
    """Rows of the table: BADGE and TypiClust, ours and scikit-activeml's, after `known` labels."""
    import numpy as np
    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import Badge, TypiClust
    from sklearn.linear_model import LogisticRegression

    import bayesal
    from bayesal import acquire, posteriors

    x, y = (part[:50_000] for part in vectors())
    rows = np.random.default_rng(1).choice(len(x), known, replace=False)
    wide, answers = x.astype(np.float32), np.full(len(x), np.nan)
    answers[rows] = y[rows]
    head = SklearnClassifier(LogisticRegression(max_iter=1_000), classes=np.arange(CLASSES))
    theirs = {
        "BADGE": lambda: Badge(random_state=0).query(wide, answers, clf=head, batch_size=50),
        "TypiClust": lambda: TypiClust(random_state=0).query(wide, answers, batch_size=50),
    }
    strategies = {"BADGE": acquire.badge(), "TypiClust": acquire.typiclust()}
    for name, strategy in strategies.items():
        learner = bayesal.learner(
            posteriors.logistic(CLASSES), strategy, size=50, num_draws=DRAWS, capacity=512
        )
        state = learner.tell(learner.init(0, x), x, rows, y[rows])
        ask = lambda learner=learner, state=state: np.asarray(learner.ask(state, x).indices)
        ask()
        yield f"{name}, ours", [timed(ask)[1]]
        yield f"{name}, scikit-activeml", [timed(theirs[name])[1]]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5, help="warm runs of each")
    parser.add_argument("--peer", action="store_true", help="scikit-activeml beside ours")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.here:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
        command = [sys.executable, "-m", "experiments.benchmarks.embeddings", "--here"]
        command += ["--pairs", str(given.pairs), *["--peer"] * given.peer]
        subprocess.run(command, cwd=ROOT, env=env, check=True)
        return
    warnings.simplefilter("ignore")
    print(f"{'':<32}{'processor s':>12}{'wall s':>10}", flush=True)
    rows = batches(LABELS) if given.peer else measured(given.pairs)
    for name, runs in rows:
        processor, wall = (statistics.median(run[i] for run in runs) for i in range(2))
        print(f"{name:<32}{processor:>12.2f}{wall:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
