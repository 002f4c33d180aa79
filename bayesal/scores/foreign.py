"""How foreign a row looks beside the labeled rows: features `[N, D]` in, one number per row out;
higher = more foreign.

Only labeled rows say what is normal. Whatever learns it from the pool takes a cluster of rubbish
for a class. Features are those of the fitted network (`predictive.embed`) or of a frozen model. A
class without labels looks foreign, so rank by these scores once every class has two labels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _chunks, _maths, errors
from bayesal._checks import precision
from bayesal.types import Array, ArrayLike, PyTree

__all__ = ["energy", "mahalanobis", "nearest", "relative_mahalanobis"]

BLOCK = 256  # rows of one matrix product, always: its order of additions depends on its shape
LEAST = 1e-6  # of the total variance: less within the classes is rounding


def mahalanobis(
    features: Float[ArrayLike, "N D"],
    labeled_features: Float[ArrayLike, "M D"],
    labels: Int[ArrayLike, " M"],
    *,
    valid: Bool[ArrayLike, " M"] | None = None,
    classes: int | None = None,
) -> Float[Array, " N"]:
    """Squared Mahalanobis distance to the nearest class mean, in squared standard deviations.

    min_c (x - m_c)' S^-1 (x - m_c) >= 0, with one covariance S of all classes:
    S = (1 - r) W + r (tr W / D) I,  r = D / (n + D), W the covariance within the n labels' classes.

    Shrinkage makes it finite for fewer labels than features, for copies and for constant features.
    Where no class has two different rows, the variance of all labels takes the place of `tr W / D`.

    Args:
      features: of the rows to judge.
      labeled_features: of the labeled rows, from the same model.
      labels: their classes from 0 on; rows below 0 (`bayesal.REJECTED`) are left out.
      valid: which labeled rows count; padding may hold anything. All if None.
      classes: number of classes; the highest label plus 1 if None. Needed under jit.
    Returns:
      Higher is more foreign. A row has the same bits in every chunk, under jit.
    Raises:
      NonFinite, WrongShape, WrongType: the argument by name. WrongSize: no labeled row counts.
    References:
      Lee et al. 2018, https://arxiv.org/abs/1807.03888

    >>> labeled, labels = jnp.array([[-1.0], [1.0], [9.0], [11.0]]), jnp.array([0, 0, 1, 1])
    >>> mahalanobis(jnp.array([[0.0], [10.0], [5.0]]), labeled, labels)
    Array([ 0.,  0., 25.], dtype=float32)
    """
    return _of_classes("mahalanobis", features, labeled_features, labels, valid, classes)


def relative_mahalanobis(
    features: Float[ArrayLike, "N D"],
    labeled_features: Float[ArrayLike, "M D"],
    labels: Int[ArrayLike, " M"],
    *,
    valid: Bool[ArrayLike, " M"] | None = None,
    classes: int | None = None,
) -> Float[Array, " N"]:
    """`mahalanobis` less the same distance under one normal of all labels: what is far from every
    class, and not only far from the center.

    min_c (x - m_c)' S^-1 (x - m_c) - (x - m)' S_0^-1 (x - m), where m and S_0 are the mean and the
    covariance of all labels, shrunk in the same way. It may be negative. Best of the gates for
    near foreigners from about 50 labels on (`docs/results/messy.md`).

    Args, Returns, Raises: see `mahalanobis`.
    References:
      Ren et al. 2021, https://arxiv.org/abs/2106.09022

    >>> labeled, labels = jnp.array([[-1.0], [1.0], [9.0], [11.0]]), jnp.array([0, 0, 1, 1])
    >>> relative_mahalanobis(jnp.array([[0.0], [5.0]]), labeled, labels).round(2)
    Array([-0.96, 25.  ], dtype=float32)
    """
    return _of_classes("relative_mahalanobis", features, labeled_features, labels, valid, classes)


def nearest(
    features: Float[ArrayLike, "N D"],
    labeled_features: Float[ArrayLike, "M D"],
    labels: Int[ArrayLike, " M"] | None = None,
    *,
    valid: Bool[ArrayLike, " M"] | None = None,
    classes: int | None = None,
) -> Float[Array, " N"]:
    """Euclidean distance to the nearest labeled row, in units of the features; 0 for a copy.

    It needs no classes, one label is enough, and it finds noise with the fewest labels. Neighbors
    are ranked by float32 products, how far they are is exact.

    Args, Returns, Raises: see `mahalanobis`. `labels` only leave out rows below 0.

    >>> nearest(jnp.array([[0.0], [5.0]]), jnp.array([[1.0], [9.0]]))
    Array([1., 4.], dtype=float32)
    """
    labels = np.zeros(np.shape(labeled_features)[:1], np.int32) if labels is None else labels
    return _of_classes("nearest", features, labeled_features, labels, valid, classes)


def energy(
    logits: Float[ArrayLike, "K *B C"], *, temperature: float | ArrayLike = 1.0
) -> Float[Array, "*B"]:
    """Free energy of a network's logits, averaged over the draws.

    -T mean_k log sum_c exp(f_kc / T). A baseline of the literature: it needs the logits before they
    are normalized, because the energy of log-probabilities is 0 everywhere.

    Args:
      logits: of K draws, not normalized.
      temperature: T > 0.
    Returns:
      Higher is more foreign, in units of the logits.
    Raises:
      NonFinite, WrongShape, OutOfRange. WrongType: normalized log-probabilities.
    References:
      Liu et al. 2020, https://arxiv.org/abs/2010.03759

    >>> energy(jnp.array([[[4.0, 0.0], [0.0, 0.0]]])).round(2)
    Array([-4.02, -0.69], dtype=float32)
    """
    logits = _checks.numbers(logits, "logits", "[K draws, ..., C classes]")
    if logits.ndim < 2 or 0 in (logits.shape[0], logits.shape[-1]):
        raise errors.WrongShape(
            "logits", f"`logits` must be [K draws, ..., C classes], got shape {logits.shape}."
        )
    temperature = _checks.numbers(
        jnp.asarray(temperature, jnp.float32), "temperature", "a number", shape=(), above=0.0
    )
    if logits.size and _checks.concrete(logits) and not _checks.unnormalized(logits).any():
        raise errors.WrongType(
            "logits",
            "`logits` are normalized log-probabilities, whose energy is 0 everywhere. Pass the "
            "network's outputs before `log_softmax`, or use `relative_mahalanobis` on features.",
        )
    return _energy(logits, temperature)


@jax.jit
def _energy(logits, temperature):
    scaled = jnp.moveaxis(logits / temperature, -1, 0)
    free = _maths.log_mean_exp(scaled) + np.log(logits.shape[-1])
    return -temperature * _maths.tree_sum(free, axis=0) / logits.shape[0]


# --- a score in two parts: what the labeled rows say, once, and what it means for any row


class Parts(NamedTuple):
    """A foreign score as a pair.

    fit: `(labeled_features [M, D], labels [M], valid [M], classes) -> summary`.
    apply: `(summary, features [n, D]) -> [n]`, with the same bits in every chunk.
    """

    fit: Callable[[Array, Array, Array, int], PyTree]
    apply: Callable[[PyTree, Array], Float[Array, " n"]]


class _Normals(NamedTuple):
    """Normals of all classes and one of all labels, in axes in which both covariances are diagonal.

    center: mean of all labels `[D]`, the origin.
    basis: orthonormal directions that hold all labeled rows `[D, r]`; None: all D.
    axes: from there to coordinates of unit variance within the classes `[r, r]`.
    means: of the classes, in these coordinates `[C, r]`.
    present: which classes have a label.
    total: one over the variance of all labels along each axis `[r]`.
    outside: one over the variance of any direction outside of `basis`, within and in total `[2]`.
    """

    center: Float[Array, " D"]
    basis: Float[Array, "D r"] | None
    axes: Float[Array, "r r"]
    means: Float[Array, "C r"]
    present: Bool[Array, " C"]
    total: Float[Array, " r"]
    outside: Float[Array, " 2"]


@_maths.precise
def _normals(labeled: Array, labels: Array, valid: Array, classes: int) -> _Normals:
    rows, width = labeled.shape
    member = (labels[:, None] == jnp.arange(classes)[None]) & valid[:, None]
    member = member.astype(jnp.float32)  # [M, C]
    per_class = jnp.sum(member, axis=0)
    count = jnp.maximum(jnp.sum(per_class), 1.0)
    some = jnp.sum(member, axis=1)[:, None]
    labeled = jnp.where(some > 0, labeled, 0.0)
    center = jnp.sum(labeled, axis=0) / count
    apart = (labeled - center[None]) * some
    # Fewer rows than features: all that the labels say happens in their span, and any orthonormal
    # basis that holds it will do.
    basis = jnp.linalg.qr(apart.T)[0] if rows < width else None
    inside = apart if basis is None else apart @ basis  # [M, r]
    means = member.T @ inside / jnp.maximum(per_class, 1.0)[:, None]
    left = inside - member @ means
    within, total = (part.T @ part / count for part in (left, inside))
    spread = jnp.trace(total) / width
    spread = jnp.where(spread > 0, spread, 1.0)  # one point: distances in units of the features
    own = jnp.trace(within) / width
    own = jnp.where(own > LEAST * spread, own, spread)
    shrink = width / (count + width)
    shrunk = lambda part, level: (1.0 - shrink) * part + shrink * level * jnp.eye(len(part))
    # with L L' = S, the eigenvectors of L^-1 S_0 L^-T diagonalize both covariances at once
    lower = jnp.linalg.cholesky(shrunk(within, own))
    solve = lambda b, trans: jax.scipy.linalg.solve_triangular(lower, b, trans=trans, lower=True)
    between = solve(solve(shrunk(total, spread), 0).T, 0)
    variances, turned = jnp.linalg.eigh(0.5 * (between + between.T))
    axes = solve(turned, 1)
    return _Normals(
        center=center,
        basis=basis,
        axes=axes,
        means=means @ axes,
        present=per_class > 0,
        total=1.0 / jnp.maximum(variances, 1e-12),
        outside=1.0 / (shrink * jnp.stack([own, spread])),
    )


@_maths.precise
def _distances(found: _Normals, x: Array) -> tuple[Array, Array]:
    """Squared distances to the nearest class, and under the normal of all labels."""
    apart = x - found.center[None]
    if found.basis is None:
        inside, outside = apart @ found.axes, jnp.zeros(x.shape[0])
    else:
        within = apart @ found.basis
        # what the basis does not hold; the digits that the difference loses are of |x|^2 / D, the
        # unit that it is divided by, and the residual itself would double the time
        outside = jnp.maximum(_squares(apart) - _squares(within), 0.0)
        inside = within @ found.axes
    gap = lambda mean: _squares(inside - mean[None])
    to_classes = jax.lax.map(gap, found.means)  # [C, n]: one pass for each class, in cache
    to_classes = jnp.where(found.present[:, None], to_classes, jnp.inf)
    class_wise = jnp.min(to_classes, axis=0) + outside * found.outside[0]
    overall = _maths.tree_sum(jnp.square(inside) * found.total[None], axis=1)
    return class_wise, overall + outside * found.outside[1]


def _mahalanobis(found: _Normals, x: Array) -> Array:
    return _distances(found, x)[0]


def _relative(found: _Normals, x: Array) -> Array:
    class_wise, overall = _distances(found, x)
    return class_wise - overall


class _Rows(NamedTuple):
    """The labeled rows themselves."""

    features: Float[Array, "M D"]
    valid: Bool[Array, " M"]


def _rows(labeled: Array, labels: Array, valid: Array, classes: int) -> _Rows:
    del classes
    valid = valid & (labels >= 0)
    return _Rows(features=jnp.where(valid[:, None], labeled, 0.0), valid=valid)


@_maths.precise
def _nearest(found: _Rows, x: Array) -> Array:
    count = jnp.maximum(jnp.sum(found.valid.astype(jnp.float32)), 1.0)
    origin = jnp.sum(found.features, axis=0) / count
    apart, labeled = x - origin[None], found.features - origin[None]
    squares = _squares(labeled)[None] - 2.0 * (apart @ labeled.T)  # and |x|^2, the same for all
    who = jnp.argmin(jnp.where(found.valid[None], squares, jnp.inf), axis=1)
    distances = _maths.root(_squares(x - found.features[who]))
    return jnp.where(jnp.any(jnp.isnan(x), axis=1), jnp.nan, distances)


def _squares(x: Float[Array, "n D"]) -> Float[Array, " n"]:
    return _maths.tree_sum(jnp.square(x), axis=-1)


def _in_blocks(kernel: Callable[[PyTree, Array], Array]) -> Callable[[PyTree, Array], Array]:
    """The kernel on blocks of one size, whatever the number of rows, so that no row's bits depend
    on the others.
    """

    def apply(summary, x):
        rows = x.shape[0]
        fixed = lambda part: kernel(summary, part.astype(jnp.float32))
        if rows < BLOCK:
            return fixed(jnp.pad(x, ((0, BLOCK - rows), (0, 0))))[:rows]
        return _chunks.over_rows(fixed, x, BLOCK)

    return apply


_PARTS = {
    "mahalanobis": Parts(fit=_normals, apply=_in_blocks(_mahalanobis)),
    "relative_mahalanobis": Parts(fit=_normals, apply=_in_blocks(_relative)),
    "nearest": Parts(fit=_rows, apply=_in_blocks(_nearest)),
}


def parts_of(score: Any) -> Parts:
    """A foreign score in two parts; of a person's own function the first part is the rows."""
    if score is energy:
        raise errors.WrongType(
            "score",
            "a gate has features and log-probabilities, and `energy` needs logits: pass "
            "scores.foreign.relative_mahalanobis.",
        )
    for name, parts in _PARTS.items():
        if score is globals()[name]:
            return parts
    example = "a function of (features, labeled_features, labels, *, valid, classes), such as "
    _checks.function(score, "score", example + "scores.foreign.relative_mahalanobis")

    def fit(labeled, labels, valid, classes):
        return labeled, labels, valid, np.zeros(classes, bool)  # a shape, which no jit traces

    def apply(summary, x):
        labeled, labels, valid, classes = summary
        return score(x, labeled, labels, valid=valid, classes=classes.shape[0])

    return Parts(fit=fit, apply=apply)


def _of_classes(name, features, labeled_features, labels, valid, classes):
    """The edge of every score of features."""
    rows = np.shape(labeled_features)[:1]
    valid, labels = _counted(labels, valid, rows)
    classes = _number_of(labels, valid, classes)
    if _checks.concrete(labels, valid) and not np.asarray(valid & (labels >= 0)).any():
        raise errors.WrongSize(
            "labels", "no labeled row counts: nothing says what a familiar row looks like."
        )
    if _checks.concrete(labeled_features, valid) and len(rows):
        host = np.asarray(labeled_features)
        shown = np.asarray(valid).reshape(-1, *[1] * (host.ndim - 1))
        labeled_features = np.where(shown, host, np.zeros((), host.dtype))
    x = _checks.numbers(features, "features", "[N rows, D features]", ndim=2)
    labeled = _checks.numbers(
        labeled_features, "labeled_features", "[M labeled rows, D features]", ndim=2
    )
    if labeled.shape[1] != x.shape[1]:
        raise errors.WrongShape(
            "labeled_features",
            f"`labeled_features` must have the {x.shape[1]} features of `features`; got shape "
            f"{labeled.shape}. Embed both by the same model.",
        )
    if precision.wide(labeled_features) or precision.wide(features):
        labeled, x = precision.centered(labeled_features, features, used=valid)
    return _compiled(name, classes, x, labeled, labels, valid)


def _compiled_kernel(name, classes, x, labeled, labels, valid):
    parts = _PARTS[name]
    return parts.apply(parts.fit(labeled, labels, valid, classes), x)


_compiled = jax.jit(_compiled_kernel, static_argnums=(0, 1))


def _counted(labels: Any, valid: Any, rows: tuple[int, ...]) -> tuple[Array, Array]:
    """Which labeled rows count, and their classes."""
    dtype = getattr(valid, "dtype", None)
    if valid is not None and (np.shape(valid) != rows or dtype != np.bool_):
        raise errors.WrongShape(
            "valid", f"`valid` must be boolean of shape {rows}, one entry per labeled row."
        )
    labels = _checks.plain(labels, "labels")
    if np.shape(labels) != rows or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise errors.WrongShape(
            "labels",
            f"`labels` must be whole numbers of shape {rows}, one class per labeled row; got shape "
            f"{np.shape(labels)}, dtype {labels.dtype}.",
        )
    return jnp.ones(rows, bool) if valid is None else jnp.asarray(valid), jnp.asarray(labels)


def _number_of(labels: Array, valid: Array, classes: int | None) -> int:
    if classes is not None:
        return _checks.at_least(1, classes, "classes")
    if not _checks.concrete(labels, valid):
        raise errors.WrongSize(
            "classes", "`classes` is missing: under jit nothing else says how many there are."
        )
    return max(int(np.max(np.where(valid, labels, 0), initial=0)) + 1, 1)


def __dir__() -> list[str]:
    return __all__
