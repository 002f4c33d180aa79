"""From how many labels on does a temperature not harm? Ten data sets, 20 to 500 labels, the default
hyperparameters.

    python -m experiments.held_back --data FOLDER      # or BAYESAL_DATA=FOLDER; see
    experiments.defaults; about ten minutes of one core

Labels are chosen at random, by margin, or by PowerBALD, always at T = 1: 20 random ones first, then
batches of 10 up to 50, 25 up to 100, 50 up to 200 and 100 up to 500. At each checkpoint a
temperature is fitted on out-of-fold predictions (five stratified folds), and the test NLL at T
less that at T = 1 is kept, with the mean NLL at every temperature of a grid, out of fold and on the
test set: any other prior or rule can then be judged without another fit.

Cells that are in the folder are not computed again.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import calibrate, scores, select
from bayesal.predictive import bind
from experiments import defaults, priors, runs, screen

CHECKPOINTS = (20, 50, 100, 200, 500)
BATCH = {20: 10, 50: 25, 100: 50, 200: 100}  # labels from which on so many are asked at a time
WAYS = ("uniform", "margin", "power")


@dataclasses.dataclass(frozen=True)
class Config:
    """Ways of a seed share rows, test sets and first labels; `steps` of -1: the library's own."""

    sets: tuple[str, ...] = defaults.CLASSES
    seeds: int = 3
    draws: int = 50
    test: int = 500
    folds: int = 5
    steps: int = -1


def hparams_of(config: Config) -> bayesal.HParams:
    """The default hyperparameters, or those with other steps."""
    own = bayesal.HParams()
    return own if config.steps < 0 else own._replace(steps=config.steps)


def program_of(posterior: bayesal.Posterior, draws: int) -> Callable[..., jax.Array]:
    """`(key, x, y, weight, others, hparams) -> log_probs [K, N + n, C]` of all rows and of others,
    by a fit on the rows of weight 1: one program for all labels and folds.
    """

    @jax.jit
    def program(key, x, y, weight, others, hparams):
        begin, fit, draw = jax.random.split(key, 3)
        labeled = bayesal.Labeled(x, y, jnp.int32(x.shape[0]), weight)
        state, _ = posterior.fit(fit, posterior.init(begin, x[0]), labeled, hparams)
        bound = bind(posterior, state, posterior.draw(draw, state, draws))
        return bound(jnp.concatenate([x, others]))

    return program


def folds_of(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """A fold for each label, classes spread evenly over folds.

    >>> np.bincount(folds_of(np.array([0, 1] * 5), 5, 0)).tolist()
    [2, 2, 2, 2, 2]
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    fold = np.empty(len(labels), int)
    fold[order] = np.arange(len(labels)) % number
    return fold


def picked(way: str, key: jax.Array, log_probs: jax.Array, free: np.ndarray, size: int):
    """The next rows to label."""
    free = jnp.asarray(free)
    if way == "uniform":
        return np.asarray(select.uniform(key, len(free), size, available=free).indices)
    if way == "margin":
        return np.asarray(select.top(scores.margin(log_probs), size, available=free).indices)
    return np.asarray(select.power(key, scores.bald(log_probs), size, available=free).indices)


def checkpoint(
    predict: Callable[..., jax.Array],
    keys: jax.Array,
    y: np.ndarray,
    test_y: np.ndarray,
    picks: np.ndarray,
    said: jax.Array,
    config: Config,
    seed: int,
) -> dict:
    """A temperature of one labeled set, and what it does to the test NLL."""
    rows, fold = len(y), folds_of(y[picks], config.folds, seed)
    held_out = jnp.full((config.draws, rows, said.shape[-1]), -np.log(said.shape[-1]), jnp.float32)
    for number in range(config.folds):
        weight = np.zeros(rows, np.float32)
        weight[picks[fold != number]] = 1.0
        out = jnp.asarray(picks[fold == number])
        held_out = held_out.at[:, out].set(predict(keys[number], weight)[:, out])
    valid = jnp.zeros(rows, bool).at[jnp.asarray(picks)].set(True)
    fitted = calibrate.temperature()(held_out, jnp.asarray(y), valid)
    curves = {
        "held_out": priors.curve(held_out, jnp.asarray(y), valid),
        "test": priors.curve(said[:, rows:], jnp.asarray(test_y), jnp.ones(len(test_y), bool)),
    }
    test, log_t = np.asarray(curves["test"]), float(jnp.log(fitted.temperature))
    return {
        "log_t": log_t,
        "gap": float(np.interp(log_t, priors.LOG_T, test) - test[len(test) // 2]),
        "best_log_t": float(priors.LOG_T[test.argmin()]),
    } | {k: np.asarray(v).astype(float).round(4).tolist() for k, v in curves.items()}


def play(
    name: str, way: str, seed: int, folder: str | None, config: Config, kept: defaults.Kept
) -> None:
    """All checkpoints of a set, a way to choose and a seed."""
    x, y, program = prepared(name, folder, config.draws)
    (x, y), (test, test_y), rows = defaults.parts(x, y, config.test, seed)
    about = {"grid": way, "net": "mlp", "set": name, "seed": seed}
    mine = [c for c in CHECKPOINTS if c <= rows]
    if all(defaults.Kept.name(about | {"labels": c}) in kept.names for c in mine):
        return
    hparams, rounds = hparams_of(config), jax.random.split(jax.random.key(seed), 1 + mine[-1])
    known, others = jnp.asarray(x), jnp.asarray(test)

    def predict(key, weight):
        return program(key, known, jnp.asarray(y), jnp.asarray(weight), others, hparams)

    first = np.random.default_rng(seed).permutation(rows)[:20]
    weight = np.zeros(len(y), np.float32)
    weight[first] = 1.0
    while True:
        count = int(weight.sum())
        fit, choose, folds = jax.random.split(rounds[count], 3)
        said = predict(fit, weight)
        if count in mine:
            picks = np.flatnonzero(weight)
            keys = jax.random.split(folds, config.folds)
            found = checkpoint(predict, keys, y, test_y, picks, said, config, seed)
            classes = {"labels": count, "classes": int(said.shape[-1])}
            kept.add(about | classes | found)
        if count == mine[-1]:
            return
        size = BATCH[max(c for c in BATCH if c <= count)]
        free = (weight == 0) & (np.arange(len(y)) < rows)
        weight[picked(way, choose, said[:, : len(y)], free, size)] = 1.0


@functools.cache
def prepared(name: str, folder: str | None, draws: int):
    """Data and compiled program of a set."""
    x, y = defaults.load("mlp", name, folder)
    return x, y, program_of(defaults.posterior_of("mlp", x, y), draws)


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Seed by seed, all sets and ways."""
    kept = defaults.Kept(out)
    for seed in range(config.seeds):
        for name in config.sets:
            for way in WAYS:
                play(name, way, seed, data_folder, config, kept)
            screen.say(f"seed {seed}, {name}: done")
    return kept.records


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, dict.fromkeys(defaults.CLASSES), "runs/held_back"))
