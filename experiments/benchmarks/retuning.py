"""What does a search cost beside the fits in it, and does it ever compile again? `python -m
experiments.benchmarks.retuning`

scikit-learn digits, 100 labels, mc_dropout(mlp(64, 10)), and the reference cnn. One round of
`retune.successive_halving` (its race, proposals and judging, in one program) beside the same
candidates and folds as plain fits one after another, each a call of one compiled `posterior.fit`,
without any
judging: the ratio is what a candidate and fold cost in plain fits. Then the number of fits run
together (`_chunks.fits_together` says which one is chosen), and 50 rounds of a whole learner with
their compilations counted by JAX's own events.
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import _chunks, acquire, calibrate, networks, posteriors, retune
from bayesal._checks import as_traced
from bayesal.loop import _folds as folds
from bayesal.loop import _programs as programs
from bayesal.retune import _racing
from bayesal.types import HParams, Labeled
from experiments.benchmarks.copies import interleaved

LABELS, CAPACITY, FOLDS, ROUNDS = 100, 200, 3, 50


def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return jnp.asarray((x / 16).astype(np.float32)[order]), y.astype(np.int32)[order]


def problems():
    x, y = digits()
    yield (
        "mlp, 64-128-128-10",
        posteriors.mc_dropout(networks.mlp(64, 10)),
        x,
        y,
        retune.space(),
        HParams(),
    )
    images = jax.image.resize(x.reshape(-1, 8, 8, 1), (len(x), 16, 16, 1), "nearest")
    yield (
        "reference cnn, 16x16",
        posteriors.mc_dropout(networks.cnn((16, 16, 1), 10)),
        images,
        y,
        retune.space(steps=(25, 100)),
        HParams(steps=50),
    )


def search(title, posterior, x, y, space, start, repeats):
    """The ratio, for races and for whole populations, and the ways to run fits together."""
    start, labeled = (
        as_traced(start),
        Labeled(x[:CAPACITY], jnp.asarray(y[:CAPACITY]), jnp.int32(LABELS)),
    )
    split = folds.split(jax.random.key(0), labeled, FOLDS)
    keys = folds.keys(jax.random.key(1), FOLDS)
    task = lambda: folds.task(
        keys,
        posterior,
        labeled,
        split,
        20,
        folds.beginnings(keys, posterior, x[0]),
        jnp.asarray(programs.LOG_TEMPERATURES),
        final=False,
        kept=False,
    )
    one = jax.jit(
        lambda fold, hparams: folds.fit_apart(
            jax.random.key(2),
            posterior,
            posterior.init(jax.random.key(3), x[0]),
            labeled,
            hparams,
            fold,
        )[0]
    )
    for halve in (True, False):
        retuner = retune.successive_halving(8, space, halve=halve)
        run = jax.jit(
            lambda key, retuner=retuner: retuner.run(
                key, task(), start, retuner.init(start), jnp.int32(0)
            )[1]
        )
        tuning = jax.block_until_ready(run(jax.random.key(4)))
        pick = lambda tree, at: jax.tree.map(lambda leaf: leaf[at], tree)
        calls = [
            (pick(split, fold), pick(tuning.candidates, c))
            for c in range(8)
            for fold in range(int(tuning.folds[c]))
        ]
        medians = interleaved(
            {
                "search": lambda run=run: run(jax.random.key(4)),
                "plain": lambda calls=calls: [one(*call) for call in calls],
            },
            repeats,
        )
        print(
            f"{title:<24}{'race' if halve else 'all folds':<12}{len(calls):>3} "
            f"fits{1e3 * medians['search']:>10.0f} ms{1e3 * medians['plain']:>10.0f} ms"
            f"{medians['search'] / medians['plain']:>8.2f} plain fits for each",
            flush=True,
        )
    many = tuning.candidates
    chosen = _chunks.fits_together() or 8
    ways = {
        n: jax.jit(lambda many, n=n: _racing.race(task(), many, 0.5, n).losses)
        for n in (1, 2, 4, 8)
    }
    medians = interleaved({n: lambda way=way: way(many) for n, way in ways.items()}, repeats)
    print(
        f"{'':<24}together: "
        + ", ".join(
            f"{n}{'*' if n == chosen else ''} {1e3 * s:.0f} ms" for n, s in medians.items()
        ),
        flush=True,
    )


def rounds():
    """Fifty rounds; what was compiled after the first."""
    x, y = digits()
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **more: (
            compiled.append(event)
            if event == "/jax/core/compile/backend_compile_duration"
            else None
        )
    )
    learner = bayesal.learner(
        posteriors.mc_dropout(networks.mlp(64, 10, (32,))),
        acquire.batch_bald(),
        size=10,
        capacity=20 + 10 * ROUNDS,
        num_draws=20,
        retune=retune.successive_halving(8, retune.space(steps=(20, 100))),
        calibrate=calibrate.temperature(),
    )
    state = learner.tell(learner.init(jax.random.key(0), x), x, np.arange(20), y[:20])
    for round in range(ROUNDS):
        picks = np.asarray(learner.ask(state, x).indices)
        state = learner.tell(state, x, picks, y[picks])
        if round == 0:
            compiled.clear()
    after = len(compiled)
    steps = retune.table(state.search)
    kept = [int(s) for s, chosen in zip(steps["steps"], steps["chosen"], strict=True) if chosen]
    print(
        f"{ROUNDS} rounds of tell (retuned, tempered) and ask: {after} programs compiled "
        f"after the first round; steps kept, every tenth round: {kept[::10]}; "
        "median of the differences of those kept: "
        f"{statistics.median(steps['difference'][steps['chosen']]):.3f} nats"
    )


def main():
    print(
        f"one round of a retuner, {LABELS} labels, {FOLDS} folds, 8 candidates; medians of "
        "interleaved runs; * as chosen"
    )
    for at, problem in enumerate(problems()):
        search(*problem, repeats=(5, 3)[at])
    rounds()


if __name__ == "__main__":
    main()
