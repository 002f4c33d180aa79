"""What a simulation runs: its arguments checked, its test set held out, its first labels drawn."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, acquire, errors, likelihoods, pools
from bayesal._choose import strategy_of
from bayesal._simulate._data import Data, first_rows, hard, how_many_first, split
from bayesal._warnings import warn
from bayesal.loop import Learner, learner, predictive_of
from bayesal.types import REJECTED, Posterior, Strategy

CHANCE = "chance"  # the strategy that all others are compared with


class Plan(NamedTuple):
    """Everything that the runs of a simulation share.

    first: rows of `data.x` that are labeled first, `[seeds, F]`.
    classes: their number C; None where predictions are not of classes.
    """

    strategies: dict[str, Strategy]
    learners: dict[str, Learner]
    posterior: Posterior
    data: Data
    seeds: tuple[int, ...]
    first: np.ndarray
    rounds: int
    size: int
    num_draws: int | None
    calibrated: bool
    classes: int | None

    @property
    def labels(self) -> np.ndarray:
        """Number of labels after each fit, `[rounds + 1]`."""
        return self.first.shape[1] + self.size * np.arange(self.rounds + 1)


def plan(
    strategies: dict[str, Strategy],
    pool: Any,
    labels: Any,
    test: Any,
    posterior: Any,
    seeds: tuple[int, ...],
    rounds: int,
    size: int,
    first: Any,
    options: Mapping[str, Any],
) -> Plan:
    """The plan of a simulation, or an error that names the argument.

    Args:
      options: the other arguments of `bayesal.learner`.
    """
    opened: Any = pools.of(pool)
    capacity = how_many_first(first, size) + rounds * size
    build = lambda strategy, groups: learner(
        posterior, strategy, size=size, capacity=capacity, **(dict(options) | {"groups": groups})
    )
    # One state, to learn what the posterior predicts; with it come the learner's own checks. It is
    # of the runs' shapes, so that nothing is traced twice.
    blank = build(strategies[CHANCE], options["groups"]).init(jax.random.key(seeds[0]), opened)
    classes = _classes(posterior, blank, opened)
    data = _data(opened, labels, test, posterior, options["groups"], classes)
    rows = first_rows(first, data, seeds, size)
    if capacity > len(data.rows):
        raise errors.WrongSize(
            "rounds",
            f"{rows.shape[1]} first labels and {rounds} rounds of {size} are {capacity} labels, "
            f"and the pool has {len(data.rows)} rows besides the test set. Pass fewer `rounds`, a "
            "smaller `size`, or a test set of its own by `test=(x, y)`.",
        )
    if classes is not None:
        _of_one_class(data.y, rows, seeds)
    return Plan(
        strategies=strategies,
        learners={name: build(strategy, data.groups) for name, strategy in strategies.items()},
        posterior=posterior,
        data=data,
        seeds=seeds,
        first=rows,
        rounds=rounds,
        size=size,
        num_draws=options["num_draws"],
        calibrated=options["calibrate"] is not None,
        classes=classes,
    )


def _data(
    pool: Any, labels: Any, test: Any, posterior: Posterior, groups: Any, classes: int | None
) -> Data:
    """Labels and groups, checked, and the test set held out."""
    check = likelihoods.labels_of(posterior).check
    assert check is not None  # `labels_of` gave it one
    y = check(labels, pool.rows, classes)
    if classes is not None:
        _several(y)
    if groups is not None:
        groups = np.asarray(_checks.groups(groups))
        _checks.groups_of(groups, pool.rows)
    return split(pool, y, test, posterior, groups, classes)


def named_strategies(strategies: Any) -> dict[str, Strategy]:
    """Strategies by name, chance among them."""
    if isinstance(strategies, Strategy):
        strategies = {"strategy": strategies}
    if not isinstance(strategies, Mapping):
        raise errors.WrongType(
            "strategies",
            "`strategies` must be a dict of names and strategies, such as {'margin': "
            f"acquire.top(scores.margin)}}, or one Strategy; got {type(strategies).__name__}.",
        )
    wrong = [name for name in strategies if not isinstance(name, str) or not name]
    if wrong:
        raise errors.WrongType(
            "strategies", f"names in `strategies` must be strings, got {wrong[0]!r}."
        )
    named = {name: strategy_of(strategy) for name, strategy in strategies.items()}
    return named if CHANCE in named else {CHANCE: acquire.uniform()} | named


def seed_numbers(seeds: Any) -> tuple[int, ...]:
    """Distinct seeds in `[0, 2^32)`: an int is so many of them, from 0 on."""
    if isinstance(seeds, int | np.integer):
        return tuple(range(_checks.at_least(1, seeds, "seeds", most=1_000_000)))
    found = np.asarray(seeds)
    if found.ndim != 1 or len(found) == 0 or found.dtype.kind not in "iu":
        raise errors.WrongType(
            "seeds", f"`seeds` must be an int (how many) or a list of ints, got {seeds!r}."
        )
    numbers = tuple(int(seed) for seed in found)
    if len(set(numbers)) < len(numbers) or min(numbers) < 0 or max(numbers) >= 2**32:
        raise errors.OutOfRange(
            "seeds", f"`seeds` must be distinct ints in [0, 2^32), got {list(numbers)}."
        )
    return numbers


def _classes(posterior: Posterior, state: Any, pool: Any) -> int | None:
    """Number of classes that are predicted; None where predictions are something else."""
    one = pool.take(np.zeros(1, np.int32)) if pool.x is None else pool.x[:1]
    shape = jax.eval_shape(
        lambda state, x: predictive_of(posterior, state)(x),
        state._replace(report=None, search=None),
        jax.ShapeDtypeStruct(one.shape, jnp.asarray(one).dtype),
    )
    return shape.shape[-1] if isinstance(shape, jax.ShapeDtypeStruct) else None


def _several(y: Any) -> None:
    """Labels are of more than one class."""
    present = np.unique(hard(y))
    present = present[present != REJECTED]
    if len(present) < 2:
        raise errors.WrongLabel(
            "labels",
            f"all {len(y)} labels are of class {present.tolist()}: every model is right, and "
            "nothing can be compared. Pass labels of two classes or more.",
        )


def _of_one_class(y: Any, first: np.ndarray, seeds: tuple[int, ...]) -> None:
    """Warns where the first labels leave classes out for sure, or are of one class."""
    classes = hard(y)
    present = len(np.unique(classes[classes != REJECTED]))
    if first.shape[1] < present:
        warn(
            f"`first` is {first.shape[1]} labels, fewer than the {present} classes: every run "
            f"begins without some of them. Pass first={2 * present} or more.",
        )
    alone = [s for s, rows in zip(seeds, first, strict=True) if len(set(classes[rows])) == 1]
    if alone:
        warn(
            f"all first labels are of one class for {len(alone)} of {len(seeds)} seeds (seed "
            f"{_checks.listed(alone)}): information scores know nothing of the others yet. Pass "
            "a larger `first`, or the rows of each seed: first=rows [seeds, F].",
        )
