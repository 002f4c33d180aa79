"""The prior's precision of softmax regression, by cross-validation of what draws predict."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bayesal import _maths
from bayesal.posteriors._heads._mode import PRECISE, ClassLabels, Effort, mode
from bayesal.types import Array, Key

FOLDS = 5
LOGS = np.linspace(np.log(1e2), np.log(1e-4), 9, dtype=np.float32)  # precisions tried, strong first
# of a weak normal prior on the logarithm: it decides where labels say nothing
MIDDLE, WIDTH = float(np.log(0.1)), 3.0
DRAWS = 32  # of the logits, in pairs of opposite sign
# of a fit on the way: it begins at the last precision's solution, and a rough step is enough
ON_THE_WAY = Effort(steps=2, within=0.1)
LEAST = 1e-5  # share of a row's information that the other rows have, at least: float32 has no less


class Deal(NamedTuple):
    """Rows dealt to folds, as a table: `row [F, m]`, whether there is one, and each row's fold."""

    row: Int[Array, "F m"]
    there: Bool[Array, "F m"]
    fold: Int[Array, " M"]


def deal(key: Key, labels: ClassLabels) -> Deal:
    """Rows sorted by class and at random within a class, to the folds in turn; absent ones last."""
    count = labels.weight.shape[0]
    classes = jnp.where(labels.weight > 0, jnp.argmax(labels.mass, axis=1), labels.mass.shape[1])
    order = jnp.lexsort((jax.random.uniform(key, (count,)), classes))
    padded = -(-count // FOLDS) * FOLDS
    place = np.arange(padded).reshape(-1, FOLDS).T
    row = order[np.minimum(place, count - 1)]
    fold = jnp.zeros(count, jnp.int32).at[order].set(np.arange(count) % FOLDS)
    return Deal(row, jnp.asarray(place < count) & (labels.weight[row] > 0), fold)


class Found(NamedTuple):
    """A precision, the most probable weights under it, and whether the labels determined it."""

    precision: Float[Array, ""]
    weights: Float[Array, "r C"]
    determined: Bool[Array, ""]


class Path(NamedTuple):
    """Where the search stands.

    weights: each fit's last solution; the last fit holds nothing out.
    losses:  of held-out rows under each precision, in nats.
    whole:   solutions on all rows under each precision.
    """

    weights: Float[Array, "F+1 r C"]
    losses: Float[Array, " G"]
    whole: Float[Array, "G r C"]


@_maths.precise
def cross_validated(key: Key, labels: ClassLabels, energy: Float[Array, " r"]) -> Found:
    """The precision at which held-out labels are most probable under the average of draws, and the
    weights there.

    The fits of all folds and the one on all rows go from the strongest prior to the weakest, each
    beginning at its last solution; at the end comes the fit under the best precision. One loop does
    all, so that Newton's method is compiled once.
    """
    dealt = deal(key, labels)
    fits, places = FOLDS + 1, LOGS.size
    logs = jnp.asarray(LOGS)

    def step(i, path):
        last = i == fits * places  # after all places: the fit that is returned
        place, fit = jnp.minimum(i // fits, places - 1), jnp.where(last, FOLDS, i % fits)
        log, best = chosen(path.losses)  # means nothing before all losses are there
        precision = jnp.exp(jnp.where(last, log, logs[place]))
        weights = mode(
            labels._replace(weight=jnp.where(dealt.fold == fit, 0.0, labels.weight)),
            precision,
            energy,
            jnp.where(last, path.whole[best], path.weights[fit]),
            effort=jax.tree.map(lambda a, b: jnp.where(last, a, b), PRECISE, ON_THE_WAY),
        )
        loss = held_out(labels, dealt, jnp.minimum(fit, FOLDS - 1), weights, energy, precision)
        return Path(
            weights=path.weights.at[fit].set(weights),
            losses=path.losses.at[place].add(jnp.where(fit < FOLDS, loss, 0.0)),
            whole=path.whole.at[place].set(weights),  # the fit on all rows is a place's last
        )

    none = jnp.zeros((energy.shape[0], labels.mass.shape[1]))
    start = Path(
        weights=jnp.zeros((fits, *none.shape)),
        losses=jnp.zeros(places),
        whole=jnp.zeros((places, *none.shape)),
    )
    end = jax.lax.fori_loop(0, fits * places + 1, step, start)
    lowest = jnp.argmin(end.losses)
    return Found(
        precision=jnp.exp(chosen(end.losses)[0]),
        weights=end.weights[-1],
        determined=(lowest > 0) & (lowest < places - 1),
    )


def chosen(losses: Float[Array, " G"]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The logarithm of the best precision, and the nearest place to it."""
    totals = losses + 0.5 * jnp.square((jnp.asarray(LOGS) - MIDDLE) / WIDTH)
    best = jnp.argmin(totals)
    return LOGS[0] + (LOGS[1] - LOGS[0]) * (best + vertex(totals, best)), best


def vertex(values: Float[Array, " G"], best: Int[Array, ""]) -> Float[Array, ""]:
    """How far the least of a parabola through the best value and its neighbors is from it, in
    steps, between -1/2 and 1/2; 0 at the ends.

    >>> vertex(jnp.array([1.0, 0.0, 3.0]), jnp.int32(1))
    Array(-0.25, dtype=float32)
    """
    at = jnp.clip(best, 1, values.size - 2)
    before, here, after = values[at - 1], values[at], values[at + 1]
    bend = before - 2.0 * here + after
    inside = (best == at) & (bend > 0)
    return jnp.where(inside, 0.5 * (before - after) / jnp.where(inside, bend, 1.0), 0.0)


def held_out(
    labels: ClassLabels,
    dealt: Deal,
    fold: Int[Array, ""],
    weights: Float[Array, "r C"],
    energy: Float[Array, " r"],
    precision: Float[Array, ""],
) -> Float[Array, ""]:
    """Loss of a fold's rows under the fit that did not see them, of the average of draws, in nats.

    Args:
      energy: of all rows. The weights know nothing of the fold, and a row's variance nothing of
        that row, as it will be for rows of the pool.
    """
    row, there = dealt.row[fold], dealt.there[fold]
    weight = jnp.where(there, labels.weight[row], 0.0)
    features = labels.features[row]
    # variance of an output without this row: h / (1 - w h / 2) with h = f^T A f (Sherman-Morrison)
    seen = jnp.square(features) @ (1.0 / (energy + precision))
    own = seen / jnp.maximum(1.0 - 0.5 * weight * seen, LEAST)
    # the same noise for every precision, as numbers: a generator in a loop is slow to compile
    half = np.random.default_rng(0).normal(size=(DRAWS // 2, 1, labels.mass.shape[1]))
    noise = jnp.sqrt(own)[:, None] * jnp.asarray(np.concatenate([half, -half]), jnp.float32)
    averaged = _maths.log_mean_exp(jax.nn.log_softmax(features @ weights + noise))
    mass = labels.mass[row]
    losses = -jnp.sum(jnp.where(mass > 0, mass * averaged, 0.0), axis=-1)
    return jnp.sum(jnp.where(weight > 0, weight * losses, 0.0))
