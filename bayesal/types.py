"""The nouns of bayesal: records of functions and of arrays.

Axes, the same letters everywhere: `K` draws (axis 0), `N` pool points, `n` points of one chunk, `C`
classes (axis -1), `D` features, `M` capacity of the labeled set, `B` points asked per round, `S`
label configurations, `*B` any batch axes. `T` target points, `Q` parts of one point (pixels, boxes,
tokens), `L` labels of one point that are on or off each for itself. Values are normalized
log-probabilities, information is in nats, a higher score is more worth labeling, `-inf` may not be
picked, and every public index is a row of the pool that the caller passed in.
"""

import enum
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from bayesal import _shown

__all__ = [
    "REJECTED",
    "FitInfo",
    "Gaussian",
    "HParams",
    "Labeled",
    "Likelihood",
    "Mixture",
    "Network",
    "Pool",
    "Posterior",
    "Selection",
    "Strategy",
]

PyTree = Any
if TYPE_CHECKING:
    Array = jax.Array
    ArrayLike = jax.Array | np.ndarray
    Key = PRNGKeyArray
else:  # one class for several: `help()` prints its name, and not their union
    Array = _shown.one_of("Array", jax.Array)
    ArrayLike = _shown.one_of("ArrayLike", jax.Array, np.ndarray)
    Key = _shown.one_of("Key", *typing.get_args(PRNGKeyArray))

# a class label that says "none of my classes": never fitted, never asked again
REJECTED = -1
# share of its ceiling from which on the joint information of a batch is used up and later gains are
# mostly noise
USED_UP = 0.95


class Network(NamedTuple):
    """What the user brings: pure functions for ONE example.

    init:  `(key, x) -> params`; `x` is one example, looked at for its shape only.
    apply: `(params, x, key, rate) -> logits [C]`. `key` fixes every dropout mask, and `None` means
           no dropout; `rate` is the dropout rate, a traced number, so that a retuner can search
           over it without compiling again.
    embed: `(params, x) -> [D]`, the features before the last layer, or None.
    takes_rate: whether `rate` changes anything; False: `HParams.dropout` is never searched.
    """

    init: Callable[[Key, Array], PyTree]
    apply: Callable[[PyTree, Array, Key | None, Any], Float[Array, " C"]]
    embed: Callable[[PyTree, Array], Float[Array, " D"]] | None = None
    takes_rate: bool = True


class Labeled(NamedTuple):
    """A labeled set of fixed capacity: rows `>= count` are padding and may change nothing.

    x:      examples `[M, ...]`.
    y:      labels: a pytree, every leaf `[M, ...]`; most often one array `[M]`.
    count:  number of labels.
    weight: weight of each label `[M]`, at least 0: 0 is a row that is absent, 2 one that is there
            twice. None: all are 1.
    """

    x: Array
    y: PyTree
    count: Int[Array, ""]  # type: ignore[assignment]  # a field named as a method of tuple
    weight: Float[Array, " M"] | None = None


class Gaussian(NamedTuple):
    """Normal predictions of a number: means and variances of one shape, in the label's unit and its
    square.
    """

    mean: Float[Array, "*B"]
    variance: Float[Array, "*B"]


class Mixture(NamedTuple):
    """Predictions of a number by a mixture of J normals, along the last axis; the weights are
    normalized logarithms.
    """

    log_weight: Float[Array, "*B J"]
    mean: Float[Array, "*B J"]
    variance: Float[Array, "*B J"]


class Scaling(NamedTuple):
    """What calibration does to log-probabilities class by class: divide by a temperature, add a
    bias, normalize again.
    """

    temperature: Float[Array, " C"]
    bias: Float[Array, " C"]


# What one draw says about an example: log-probabilities of classes [C], a normal, or a mixture of
# normals. See `predictions`.
if TYPE_CHECKING:
    Prediction = jax.Array | Gaussian | Mixture
else:
    Prediction = _shown.one_of("Prediction", jax.Array, Gaussian, Mixture)


class Likelihood(NamedTuple):
    """What a network's outputs say about a label. Built by `bayesal.likelihoods`.

    predict: `(outputs) -> Prediction` for ONE example; the loss is minus its log-likelihood.
    outputs: number of outputs of the network; None: one per class.
    real: whether labels are real numbers; otherwise they are classes.
    blank: `(capacity, classes) -> y`, room for labels: zeros, every leaf `[capacity, ...]`.
      `classes` is C, and None where predictions are not log-probabilities of classes.
    check: `(labels, count, classes) -> y`, labels from outside as NumPy leaves `[count, ...]`, or a
      typed error.
    strata: `(y) -> [M]`, a class or a number per label; cross-validation folds are balanced by it.
    standard: the likelihood of labels of mean 0 and standard deviation 1, or `(scale) ->` it where
      something is known in the label's unit. Posteriors then standardize the labels of each fit,
      and predict in the label's unit. None: labels enter a fit as they are.

    Where `blank`, `check` or `strata` is None, labels are classes `[M]`, or real numbers `[M]`.
    """

    predict: Callable[[Array], Any]
    outputs: int | None = None
    real: bool = False
    blank: Callable[..., PyTree] | None = None
    check: Callable[..., PyTree] | None = None
    strata: Callable[[PyTree], Array] | None = None
    standard: Any = None


@_shown.refusing_typos
class HParams(NamedTuple):
    """Hyperparameters as data: every field is traced, so changing one never compiles again.

    The defaults come within .01 nats of the lowest mean test NLL of a fixed setting, over data sets
    of several kinds with 20 to 1,000 labels (`experiments/defaults.py`, `docs/defaults.md`).

    learning_rate: peak rate of Adam; from there it falls along a cosine until `steps` are done.
    weight_decay:  decoupled decay, per unit of learning rate, shared by all labels: a fit on N
      labels decays by `weight_decay / N`, so that it weighs less as labels come, as a prior does.
    dropout:       dropout rate in [0, 1).
    prior_scale:   standard deviation of the prior over weights, times 1/sqrt(fan-in) (variational,
      NUTS, SG-MCMC; Laplace, where labels do not tell).
    steps:         optimizer steps of one fit.
    warmup:        share of the steps over which the rate first rises, linearly from 0 to its peak,
                   in [0, 1) (SWAG: of those before its first snapshot; not SG-MCMC).
    final_rate:    where the cosine ends, as a share of the peak, in [0, 1]; 1: no fall (not SWAG
      and SG-MCMC, whose own arguments say it).
    label_smoothing: share of every label's mass that a fit spreads evenly over all classes, in [0,
                   1) (trained networks, those under Laplace and the last-layer NUTS too; not what
                   has a prior and a likelihood: variational, SVI, SG-MCMC, NUTS, GPs; not real
                   labels). What judges a fit, and what calibrates it, sees the labels as they are.
    architecture:  which of the posteriors of `posteriors.any_of` is fitted, counted from 0;
      elsewhere 0.
    """

    learning_rate: Any = 1e-2
    weight_decay: Any = 30.0
    dropout: Any = 0.3
    prior_scale: Any = 1.0
    steps: Any = 600
    warmup: Any = 0.1
    final_rate: Any = 0.0
    label_smoothing: Any = 0.0
    architecture: Any = 0

    def __repr__(self) -> str:
        return _shown.fields(self)


class FitInfo(NamedTuple):
    """What happened during a fit, as values: `failed_at` is the first step with a non-finite loss,
    or -1.
    """

    loss: Float[Array, "..."]
    failed_at: Int[Array, "..."]


class Posterior(NamedTuple):
    """A way to be uncertain, as pure functions. A draw names ONE function of x: the same for every
    x, chunk and device.

    init:  `(key, x) -> State`; `x` is one example, looked at for its shape only.
    fit:   `(key, State, Labeled, HParams) -> (State, FitInfo)`.
    draw:  `(key, State, K) -> Draws`, every leaf `[K, ...]`.
    apply: `(State, Draw, x) -> log-probabilities [C]` (or another `Prediction`) for ONE draw and
      ONE example.
    embed: `(State, x) -> [D]`, or None.
    members: the only number of draws there are (an ensemble has exactly its members), or None for
      any.
    trunk: `(State, x) -> H`, what all draws share, computed once for each example, or None.
    head:  `(State, Draw, H) -> ` what `apply` gives, from what the trunk gave; None where there is
      no trunk.
    real:  whether labels are real numbers; otherwise they are classes.
    marginal: `(State, x) -> Gaussian`, mean and variance over all draws there could be, in closed
      form for ONE example; or None.
    warm: `(fitted State, fresh State) -> State`, where a fit begins that keeps what an earlier one
      has learned; or None.
    online: `(fitted State, Labeled) -> (State, FitInfo)`, what is known after more labels: those
            given are new ones, and its cost does not depend on those seen before; or None.
    architectures: how many there are for `HParams.architecture` to choose from
      (`posteriors.any_of`).
    likelihood: what its labels are; None: classes, or real numbers where `real`.
    unused: fields of `HParams` without effect on it: a retuner leaves them as they are.
    scales: whether it brings features to a scale of its own.
    name: the call that built it, for people.
    """

    init: Callable[[Key, Array], PyTree]
    fit: Callable[[Key, PyTree, Labeled, HParams], tuple[PyTree, FitInfo]]
    draw: Callable[[Key, PyTree, int], PyTree]
    apply: Callable[[PyTree, PyTree, Array], Any]
    embed: Callable[[PyTree, Array], Float[Array, " D"]] | None = None
    members: int | None = None
    trunk: Callable[[PyTree, Array], PyTree] | None = None
    head: Callable[[PyTree, PyTree, PyTree], Any] | None = None
    real: bool = False
    marginal: Callable[[PyTree, Array], Gaussian] | None = None
    warm: Callable[[PyTree, PyTree], PyTree] | None = None
    online: Callable[[PyTree, Labeled], tuple[PyTree, FitInfo]] | None = None
    architectures: int = 1
    likelihood: Likelihood | None = None
    unused: tuple[str, ...] = ()
    scales: bool = False
    name: str = ""

    def __repr__(self) -> str:
        return _shown.record(self)


@jax.tree_util.register_static
class About(enum.StrEnum):
    """What the joint information of a batch is about: part of a `Selection`'s structure, not a
    leaf, so that it passes through jit.

    DRAWS:    which of the K draws is right: at most log K.
    TARGETS:  the labels of target points: at most the targets' mean BALD, because a label tells
      about a target through the draws alone.
    FUNCTION: a Gaussian function, or the weights of a linear model: no ceiling.
    """

    DRAWS = "draws"
    TARGETS = "targets"
    FUNCTION = "function"

    @property
    def fallback(self) -> str:
        """What orders near ties of gains once the information is used up."""
        return {
            About.DRAWS: "BALD",
            About.TARGETS: "a bound on EPIG",
            About.FUNCTION: "nothing",  # information about a function is never used up
        }[self]


class Selection(NamedTuple):
    """What to label next, best first, and what certifies it.

    indices:   rows of the pool that was passed in. Under jit, -1 fills up a batch that the pool
      could not.
    scores:    the score of each pick; for greedy selectors its gain given the picks before it, in
      nats.
    joint:     information in the batch up to and including each pick, in nats (greedy selectors).
    about:     what that information is about; None where there is no `joint`.
    ceiling:   the most it can be, in nats; None where nothing bounds it.
    saturated: whether the picks before this one had already used up 95 % of the ceiling: then its
      gain is mostly noise (see `note`).
    certified: whether no point that a screening left out could have entered the batch, given the
               gains as computed (sampled
               gains: up to their sampling error). None: nothing was screened.
    constant:  whether all available points had the same score, so that the ranking says nothing.
    nonfinite: how many available points had a NaN or +inf score; none of them is picked.
    evaluated: share of the candidates' gains that had to be computed; a gain estimated from part of
      the configurations counts as that part.
    gap:       how much larger, in nats, the gain of a point that a screening left out could be than
               that of a pick; 0 where certified, inf where nothing bounds it.
    audit:     which picks were drawn at random for an audit (their scores are NaN); None where
      there is none.
    """

    indices: Int[Array, " B"] | np.ndarray
    scores: Float[Array, " B"] | np.ndarray
    joint: Float[Array, " B"] | np.ndarray | None = None
    about: About | None = None
    ceiling: Float[Array, ""] | np.ndarray | None = None
    saturated: Bool[Array, " B"] | np.ndarray | None = None
    certified: Bool[Array, ""] | None = None
    constant: Bool[Array, ""] | None = None
    nonfinite: Int[Array, ""] | None = None
    evaluated: Float[Array, ""] | None = None
    gap: Float[Array, ""] | None = None
    audit: Bool[Array, " B"] | None = None

    @_shown.safe
    def __repr__(self) -> str:
        caption, head, rows, foot = _shown.selection(self)
        return "\n".join(filter(None, [caption, _shown.table(head, rows), foot]))

    def _repr_html_(self) -> str:
        caption, head, rows, foot = _shown.selection(self)
        return _shown.table_html(f"{caption}. {foot}" if foot else caption, head, rows)

    def note(self) -> str:
        """What people should know of the batch: which picks came after its information was used up,
        and what ordered them. Else "".

        >>> picked = Selection(
        ...     np.arange(3),
        ...     np.ones(3),
        ...     saturated=np.array([False, True, True]),
        ...     about=About.DRAWS,
        ...     ceiling=np.log(2),
        ... )
        >>> picked.note()[:71]
        'the first 1 of 3 picks use up 95 % of log K = 0.69 nats, the most that '
        """
        return _shown.note(self, USED_UP)


@typing.runtime_checkable
class Score(Protocol):
    """A number per point from the predictions of K draws; a higher one is more worth labeling."""

    def __call__(self, log_probs: Float[Array, "K *B C"], /) -> Float[Array, "*B"]: ...


class Pool(NamedTuple):
    """Where the rows are: an array, a file, a mesh of devices, a person's own predictions.

    Built by `bayesal.pools`. Chunks are cut here and nowhere else.

    rows:  number of rows N; None for an iterator whose length only a whole pass tells.
    map:   `(predictive, fn) -> leaves [N, ...]`, where `fn(predictive, x [n, ...])` gives leaves
           `[n, ...]` of one chunk.
    take:  `(rows [n]) -> x [n, ...]`, for rows that are looked at twice.
    x:     the examples `[N, ...]`, where a compiled program can take them as one argument.
    predictive: the pool's own predictive, where rows are predictions already.
    """

    rows: int | None
    map: Callable[[Any, Callable[[Any, Any], PyTree]], PyTree]
    take: Callable[[Any], Any]
    x: ArrayLike | None = None
    predictive: Any = None

    def __repr__(self) -> str:
        return _shown.pool(self)


class Strategy(NamedTuple):
    """What to ask next, as a pair of functions that run on every pool. Built by `bayesal.acquire`.

    measure: `(aux, predictive, x [n, ...]) -> leaves [n, ...]` of one chunk; what is kept of each
             row. None: nothing has to be measured.
    pick:    `(key, aux, measured [N, ...], again, available [N], size) -> Selection`. On an array
             it runs under jit, so it computes in jax.numpy. `again(rows)` predicts some rows once
             more, `[K, n, C]`; `again.embedded(rows)` gives their features, `again.among(rows)` the
             same for a part of the pool.
    prepare: `(key, predictive, pool) -> aux`, what a measurement needs of the whole pool, such as
             the target points of EPIG. None: `aux` is None. It gets the key that `pick` gets: split
             it where both draw.
    memory:  `(init, observe)`, carried from round to round, or None; no learner does so yet.
    nested:  whether the first picks of a batch are the batch of that size: then a learner asked for
             fewer points computes nothing else.
    name:    the call that built it, for people.
    """

    measure: Callable[[PyTree, Any, Any], PyTree] | None
    pick: Callable[..., Selection]
    prepare: Callable[[Key, Any, Pool], PyTree] | None = None
    memory: tuple[Callable[..., PyTree], Callable[..., PyTree]] | None = None
    nested: bool = False
    name: str = ""

    def __repr__(self) -> str:
        return _shown.record(self)


def __dir__() -> list[str]:
    return __all__
