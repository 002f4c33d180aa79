"""The nouns of bayesal: records of functions and of arrays.

Axes, the same letters everywhere: `K` draws (axis 0), `N` pool points, `n` points of one chunk, `C` classes (axis -1),
`D` features, `M` capacity of the labeled set, `B` points asked per round, `S` label configurations, `*B` any batch axes.
`T` target points, `Q` parts of one point (pixels, boxes, tokens), `L` labels of one point that are on or off each for itself.
Values are normalized log-probabilities, information is in nats, a higher score is more worth labeling, `-inf` may not be
picked, and every public index is a row of the pool that the caller passed in.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

PyTree = Any
ArrayLike = jax.Array | np.ndarray
Key = PRNGKeyArray


class Network(NamedTuple):
    """What the user brings: pure functions for ONE example.

    init:  `(key, x) -> params`; `x` is one example, looked at for its shape only.
    apply: `(params, x, key, rate) -> logits [C]`. `key` fixes every dropout mask, and `None` means no dropout; `rate` is
           the dropout rate, a traced number, so that a retuner can search over it without compiling again.
    embed: `(params, x) -> [D]`, the features before the last layer, or None.
    """

    init: Callable[[Key, Array], PyTree]
    apply: Callable[[PyTree, Array, Key | None, Any], Float[Array, " C"]]
    embed: Callable[[PyTree, Array], Float[Array, " D"]] | None = None


class Labeled(NamedTuple):
    """A labeled set of fixed capacity: rows `>= count` are padding and may change nothing."""

    x: Array  # [M, ...]
    y: Int[Array, " M"]
    count: Int[Array, ""]


class HParams(NamedTuple):
    """Hyperparameters as data: every field is traced, so changing one never compiles again.

    learning_rate: peak rate of Adam; it falls to zero along a cosine over `steps`.
    weight_decay:  decoupled decay, per unit of learning rate.
    dropout:       dropout rate in [0, 1).
    prior_scale:   standard deviation of the prior over weights, times 1/sqrt(fan-in) (variational only).
    steps:         optimizer steps of one fit.
    """

    learning_rate: Any = 3e-3
    weight_decay: Any = 1e-4
    dropout: Any = 0.3
    prior_scale: Any = 1.0
    steps: Any = 300


class FitInfo(NamedTuple):
    """What happened during a fit, as values: `failed_at` is the first step with a non-finite loss, or -1."""

    loss: Float[Array, "..."]
    failed_at: Int[Array, "..."]


class Posterior(NamedTuple):
    """A way to be uncertain, as pure functions. A draw names ONE function of x: the same for every x, chunk and device.

    init:  `(key, x) -> State`; `x` is one example, looked at for its shape only.
    fit:   `(key, State, Labeled, HParams) -> (State, FitInfo)`.
    draw:  `(key, State, K) -> Draws`, every leaf `[K, ...]`.
    apply: `(State, Draw, x) -> log-probabilities [C]` for ONE draw and ONE example.
    embed: `(State, x) -> [D]`, or None.
    members: the only number of draws there are (an ensemble has exactly its members), or None for any.
    """

    init: Callable[[Key, Array], PyTree]
    fit: Callable[[Key, PyTree, Labeled, HParams], tuple[PyTree, FitInfo]]
    draw: Callable[[Key, PyTree, int], PyTree]
    apply: Callable[[PyTree, PyTree, Array], Float[Array, " C"]]
    embed: Callable[[PyTree, Array], Float[Array, " D"]] | None = None
    members: int | None = None


class Selection(NamedTuple):
    """What to label next, best first, and what certifies it.

    indices:   rows of the pool that was passed in. Under jit, -1 fills up a batch that the pool could not.
    scores:    the score of each pick; for greedy selectors its gain given the picks before it, in nats.
    joint:     information in the batch up to and including each pick, in nats; never above log K (greedy selectors).
    saturated: whether the picks before this one had already used up 95 % of log K: then more draws are needed.
    certified: whether no point that a screening left out could have entered the batch, given the gains as computed (sampled
               gains: up to their sampling error). None: nothing was screened.
    constant:  whether all available points had the same score, so that the ranking says nothing.
    nonfinite: how many available points had a NaN or +inf score; none of them is picked.
    evaluated: share of the candidates' gains that had to be computed; a gain estimated from part of the configurations counts as that part.
    gap:       how much larger, in nats, the gain of a point that a screening left out could be than that of a pick; 0 where certified.
    """

    indices: Int[Array, " B"] | np.ndarray
    scores: Float[Array, " B"] | np.ndarray
    joint: Float[Array, " B"] | np.ndarray | None = None
    saturated: Bool[Array, " B"] | np.ndarray | None = None
    certified: Bool[Array, ""] | None = None
    constant: Bool[Array, ""] | None = None
    nonfinite: Int[Array, ""] | None = None
    evaluated: Float[Array, ""] | None = None
    gap: Float[Array, ""] | None = None


Score = Callable[[Float[Array, "K *B C"]], Float[Array, "*B"]]
# (key, predictive, x, available [N], size) -> Selection; built by the factories of `bayesal.acquire`.
Strategy = Callable[[Key, Any, Array, Bool[Array, " N"], int], Selection]
