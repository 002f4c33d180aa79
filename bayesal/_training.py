"""The optimizer loop of all posteriors that are trained by gradients.

The number of steps is data, not structure.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from bayesal import likelihoods
from bayesal.types import Array, FitInfo, HParams, Key, Labeled, Likelihood, Network, PyTree

__all__ = [
    "LossFn",
    "Minibatch",
    "ObserveFn",
    "Rule",
    "adam",
    "center_and_distance",
    "cosine",
    "decay_of",
    "nll",
    "row_weights",
    "sgd",
    "shrink_and_perturb",
    "total_weight",
    "walk",
    "weighted_mean",
]


class Minibatch(NamedTuple):
    """Rows of one optimizer step, with weights.

    x:      examples `[b, ...]`.
    y:      their labels: a pytree, every leaf `[b, ...]`.
    weight: of each row, above 0.
    total:  the weight of all labels: what a prior's share in the loss is divided by.
    """

    x: Array
    y: PyTree
    weight: Float[Array, " b"]
    total: Float[Array, ""]


# (params, key, minibatch) -> nats per unit of weight
LossFn = Callable[[PyTree, Key, Minibatch], Float[Array, ""]]
ObserveFn = Callable[[PyTree, Array, PyTree], PyTree]


class Rule(NamedTuple):
    """Update rule: from gradients to parameters.

    init: `(params) -> memory`, what the rule keeps from step to step.
    move: `(key, i, grads, params, memory) -> (params, memory)` at step `i`; `key` is for noise.
    """

    init: Callable[[PyTree], PyTree]
    move: Callable[[Key, Array, PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]


def cosine(hparams: HParams) -> Callable[[Array], Float[Array, ""]]:
    """Learning-rate schedule: linear warmup, then a cosine to `final_rate` of the peak.

    >>> rate = cosine(HParams(learning_rate=8.0, steps=8, warmup=0.5, final_rate=0.25))
    >>> [round(float(rate(i)), 2) for i in range(9)]
    [0.0, 2.0, 4.0, 6.0, 8.0, 7.12, 5.0, 2.88, 2.0]
    """
    steps = jnp.maximum(hparams.steps, 1)
    rising = hparams.warmup * steps

    def rate(i):
        fall = 0.5 * (1.0 + jnp.cos(jnp.pi * (i - rising) / (steps - rising)))
        share = jnp.where(
            i < rising,
            i / jnp.maximum(rising, 1.0),
            hparams.final_rate + (1.0 - hparams.final_rate) * fall,
        )
        return hparams.learning_rate * share

    return rate


def adam(rate: Callable[[Array], Float[Array, ""]], decay: Any) -> Rule:
    """Adam with decoupled weight decay, per unit of the rate: parameters move by Adam's step, then
    shrink by `1 / (1 + rate * decay)`.

    To first order that is the usual `1 - rate * decay`, and it never overshoots zero.

    References:
      Kingma & Ba 2015; Loshchilov & Hutter 2019; the proximal form: Zhuang et al. 2022,
      https://arxiv.org/abs/2202.00089
    """
    scaled = optax.scale_by_adam()

    def move(key, i, grads, params, memory):
        del key
        updates, memory = scaled.update(grads, memory)
        return jax.tree.map(
            lambda p, u: ((p - rate(i) * u) / (1.0 + rate(i) * decay)).astype(p.dtype),
            params,
            updates,
        ), memory

    return Rule(scaled.init, move)


def decay_of(hparams: HParams, labeled: Labeled) -> Float[Array, ""]:
    """The weight decay of one fit: `HParams.weight_decay` divided by the weight of all labels, as a
    prior's share in a mean loss.

    >>> labeled = Labeled(jnp.zeros((3, 1)), jnp.zeros(3, jnp.int32), jnp.int32(2))
    >>> decay_of(HParams(weight_decay=1.0), labeled)
    Array(0.5, dtype=float32)
    """
    return jnp.asarray(hparams.weight_decay / total_weight(row_weights(labeled)), jnp.float32)


def row_weights(labeled: Labeled) -> Float[Array, " M"]:
    """The weight of every row; 0 for padding.

    >>> row_weights(Labeled(jnp.zeros((3, 1)), jnp.zeros(3, jnp.int32), jnp.int32(2)))
    Array([1., 1., 0.], dtype=float32)
    """
    rows = labeled.x.shape[0]
    given = jnp.ones(rows) if labeled.weight is None else labeled.weight
    return jnp.where(jnp.arange(rows) < labeled.count, given, 0.0).astype(jnp.float32)


def total_weight(weight: Float[Array, " M"]) -> Float[Array, ""]:
    """The sum of weights, as a divisor: 1 where there are none.

    >>> total_weight(jnp.array([0.5, 2.0, 0.0])), total_weight(jnp.zeros(2))
    (Array(2.5, dtype=float32), Array(1., dtype=float32))
    """
    total = jnp.sum(weight)
    return jnp.where(total > 0, total, 1.0)


def weighted_mean(values: Float[Array, " b"], weight: Float[Array, " b"]) -> Float[Array, ""]:
    """`sum_i w_i v_i / sum_i w_i`.

    >>> weighted_mean(jnp.array([1.0, 4.0]), jnp.array([2.0, 1.0]))
    Array(2., dtype=float32)
    """
    return jnp.sum(values * weight.astype(values.dtype)) / total_weight(weight).astype(values.dtype)


def center_and_distance(
    rows: Float[Array, "M D"], weight: Float[Array, " M"]
) -> tuple[Float[Array, " D"], Float[Array, ""]]:
    """Mean of rows by weight, and their root mean squared distance from it: 0 where all rows that
    count are alike.

    >>> center, distance = center_and_distance(jnp.array([[1.0], [5.0]]), jnp.ones(2))
    >>> float(center[0]), float(distance)
    (3.0, 2.0)
    """
    there = weight[:, None] > 0
    share = weight[:, None] / total_weight(weight)
    # from a row that counts: exact, however large the common offset
    first = jnp.where(jnp.any(there), rows[jnp.argmax(weight > 0)], 0.0)
    apart = jnp.where(there, rows - first, 0.0)
    middle = jnp.sum(share * apart, axis=0)
    apart = jnp.where(there, apart - middle, 0.0)
    largest = jnp.max(jnp.abs(apart))
    one = jnp.where(largest > 0, largest, 1.0)  # no square leaves float32
    return first + middle, one * jnp.sqrt(jnp.sum(share * jnp.square(apart / one)))


def smoothed(likelihood: Likelihood, outputs: Array, y: Array, share: Any) -> Array:
    """Loss with label smoothing: a share of the label's mass is spread evenly over all classes.

    For training only. The minimum is at probabilities `(1 - share) onehot(y) + share / C`, so a net
    is not driven to higher confidence. Real labels are not smoothed.

    References:
      Szegedy et al. 2016, section 7, https://arxiv.org/abs/1512.00567

    >>> from bayesal import likelihoods
    >>> # the entropy of (0.95, 0.05)
    >>> round(
    ...     float(
    ...         smoothed(
    ...             likelihoods.categorical(), jnp.log(jnp.array([0.95, 0.05])), jnp.array(0), 0.1
    ...         )
    ...     ),
    ...     4,
    ... )
    0.1985
    """
    predicted = likelihood.predict(outputs)
    plain = -likelihoods.log_likelihood(predicted, y)
    if likelihood.real:
        return plain
    everywhere = -jnp.mean(predicted)
    # the choice is for a class that is impossible: 0 * inf
    return jnp.where(share > 0, (1.0 - share) * plain + share * everywhere, plain)


def sgd(
    key: Key,
    params: PyTree,
    loss: LossFn,
    labeled: Labeled,
    hparams: HParams,
    *,
    batch_size: int = 32,
) -> tuple[PyTree, FitInfo]:
    """Minimize `loss(params, key, minibatch)` by Adam on a cosine schedule (see `walk`)."""
    params, _, info = walk(
        key,
        params,
        loss,
        labeled,
        hparams.steps,
        adam(cosine(hparams), decay_of(hparams, labeled)),
        batch_size=batch_size,
    )
    return params, info


def walk(
    key: Key,
    params: PyTree,
    loss: LossFn,
    labeled: Labeled,
    steps: Any,
    rule: Rule,
    *,
    batch_size: int = 32,
    observe: ObserveFn | None = None,
    seen: PyTree = (),
) -> tuple[PyTree, PyTree, FitInfo]:
    """Optimizer loop: follow gradients of `loss(params, key, minibatch)` by an update rule.

    Returns the last parameters, what was observed, and a report.

    Minibatches walk round and round one random order of the rows that count: those `< count` with a
    weight above 0. So every such row is used equally often, rows of padding or of weight 0 are
    never touched, and the result does not depend on the capacity. A non-finite loss, or a step to
    non-finite parameters, freezes the parameters at the last good step and is reported in
    `FitInfo.failed_at`.

    Args:
      steps: how many, a number or a traced one.
      observe: `(seen, i, params) -> seen`, called after each step with the parameters kept, for
        moments and snapshots of the path; after a failure it goes on seeing the last good ones.
      seen: what `observe` begins with.
    """
    order_key, loss_key, move_key = jax.random.split(key, 3)
    weight = row_weights(labeled)
    order, count = _order(order_key, weight), jnp.maximum(jnp.sum(weight > 0), 1)
    total = total_weight(weight)

    def step(i, carry):
        params, memory, seen, _, failed_at = carry
        rows = order[(i * batch_size + jnp.arange(batch_size)) % count]
        x, y, each = jax.tree.map(lambda leaf: leaf[rows], (labeled.x, labeled.y, weight))
        value, grads = jax.value_and_grad(loss)(
            params, jax.random.fold_in(loss_key, i), Minibatch(x, y, each, total)
        )
        moved = rule.move(jax.random.fold_in(move_key, i), i, grads, params, memory)
        finite = jax.tree.reduce(
            lambda ok, p: ok & jnp.isfinite(p).all(), moved[0], jnp.isfinite(value)
        )
        failed_at = jnp.where((failed_at < 0) & ~finite, i, failed_at)
        params, memory = jax.tree.map(
            lambda new, old: jnp.where(failed_at < 0, new, old), moved, (params, memory)
        )
        seen = seen if observe is None else observe(seen, i, params)
        return params, memory, seen, value.astype(jnp.float32), failed_at

    start = (params, rule.init(params), seen, jnp.float32(jnp.nan), jnp.int32(-1))
    params, _, seen, value, failed_at = jax.lax.fori_loop(
        0, jnp.asarray(steps, jnp.int32), step, start
    )
    return params, seen, FitInfo(value, failed_at)


def _order(key: Key, weight: Float[Array, " M"]) -> Array:
    """A random order of the rows that count, followed by the others."""
    luck = jax.random.uniform(key, weight.shape)
    return jnp.argsort(jnp.where(weight > 0, luck, jnp.inf))


def nll(
    network: Network,
    rate: Any,
    likelihood: Likelihood | None = None,
    smoothing: Any = 0.0,
) -> LossFn:
    """Weighted mean of a minibatch's negative log-likelihoods, in nats, with fresh dropout masks
    for every example.

    Args:
      rate: of dropout.
      likelihood: what the outputs mean; default classes.
      smoothing: of the labels: see `smoothed`.
    """
    likelihood = likelihood or likelihoods.CATEGORICAL

    def loss(params, key, batch):
        def one(x, y, key):
            outputs = network.apply(params, x, key, rate)
            return smoothed(likelihood, outputs, y, smoothing)

        keys = jax.random.split(key, batch.x.shape[0])
        return weighted_mean(jax.vmap(one)(batch.x, batch.y, keys), batch.weight)

    return loss


SHRINK, PERTURB = 0.5, 0.5  # shares of the old weights and of fresh ones in a warm beginning


def shrink_and_perturb(old: PyTree, fresh: PyTree) -> PyTree:
    """Warm start: half of the earlier weights plus half of a fresh initialization.

    Weights that simply go on from where they were generalize worse than fresh ones; shrunk and
    perturbed they do not, and keep what they have learned.

    References:
      Ash & Adams 2020, https://arxiv.org/abs/1910.08475

    >>> shrink_and_perturb({"w": jnp.array([2.0])}, {"w": jnp.array([1.0])})
    {'w': Array([1.5], dtype=float32)}
    """
    return jax.tree.map(lambda o, f: (SHRINK * o + PERTURB * f).astype(f.dtype), old, fresh)
