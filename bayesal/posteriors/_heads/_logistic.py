"""Bayesian logistic (softmax) regression on given features."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from bayesal import _checks, _shown, _training, errors, likelihoods
from bayesal.posteriors._gp._process import masses
from bayesal.posteriors._heads import _layer
from bayesal.posteriors._heads._mode import ClassLabels, mode
from bayesal.posteriors._heads._precision import Found, cross_validated
from bayesal.posteriors._laplace._fisher import last_good
from bayesal.types import Array, FitInfo, HParams, Key, Labeled, Likelihood, Posterior

__all__ = ["logistic"]


class Logistic(NamedTuple):
    """A fitted softmax regression.

    layer:      its weights, as a normal.
    determined: whether the labels determined the prior's precision.
    """

    layer: _layer.Layer
    determined: Bool[Array, ""]


@_shown.named
def logistic(
    classes: int,
    *,
    features: Callable[[Array], Array] | None = None,
    tune: bool = True,
    likelihood: Likelihood | None = None,
) -> Posterior:
    """Bayesian logistic (softmax) regression on given features. A draw is the weights `[D, C]`.

    For embeddings of a frozen model, or any vectors: one convex problem, solved by Newton's method.
    No step size and no number of steps has to be found, and no `HParams` count while `tune` is on.
    Features are centered and scaled by one number for all, so neither their unit nor their offset
    matters; bring columns of different units to one scale first.

    The posterior is normal. Its mean is the most probable weights (MAP) under a normal prior. Its
    precision is the prior's plus Böhning's bound on the curvature, `1/2 sum_i w_i f_i f_i^T` for
    each class. Laplace's own curvature vanishes where classes are separated, as embeddings of few
    labels are, and its normal is then far too wide: with 200 digits its averaged prediction loses
    .61 nats, this one .26, as the MAP alone, and scikit-learn's regression as shipped .40
    (`experiments/embeddings.py`, 10 seeds). Where classes overlap, the bound makes variances too
    small, by a factor of at most `4 p (1 - p)`.

    The prior's precision is where held-out labels are most probable under the average of draws
    (5 folds, within every fit). With fewer labels than features the average may lose more than
    the MAP (50 digits: .87 against .67). The marginal likelihood was tried: it chose far too strong
    a prior for few labels of many classes.

    Exact up to 4,096 features or labels; with more of both, variances are too wide.

    Args:
      classes: C.
      features: `x -> [D]` for one example; default: x as one vector. Stored float16 is fine.
      tune: find the prior's precision. False: it is `1 / HParams.prior_scale^2`, for a retuner to
        search.
      likelihood: `likelihoods.categorical(soft=True)` for labels that are distributions.
    Raises:
      WrongSize: fewer than two classes. WrongType: a likelihood of real labels.
    References:
      Böhning 1992, Multinomial logistic regression algorithm; Murphy 2012, section 21.8.2 (the
      bound's normal posterior)

    >>> posterior = logistic(3)
    >>> state = posterior.init(jax.random.key(0), jnp.zeros(4))
    >>> data = Labeled(jnp.eye(3, 4), jnp.arange(3), jnp.int32(3))
    >>> state, info = posterior.fit(jax.random.key(1), state, data, HParams())
    >>> posterior.draw(jax.random.key(2), state, 5).shape  # four features and the bias
    (5, 5, 3)
    """
    _checks.at_least(2, classes, "classes")
    likelihood = likelihood or likelihoods.CATEGORICAL
    if likelihood.real:
        raise errors.WrongType(
            "likelihood",
            "`likelihood` is of real labels: use `posteriors.linear()` for them.",
        )

    of = _Of(classes, features, tune, likelihood)
    return Posterior(
        init=functools.partial(_init, of),
        fit=functools.partial(_fit, of),
        draw=lambda key, state, num: _layer.draw(key, state.layer, num),
        apply=lambda state, draw, x: _head(of, state, draw, _trunk(of, state, x)),
        embed=lambda state, x: _trunk(of, state, x)[:-1],
        trunk=functools.partial(_trunk, of),
        head=functools.partial(_head, of),
        likelihood=likelihood,
        # where a fixed prior begins, in the old center and unit; a search begins at the strongest
        warm=lambda old, fresh: fresh._replace(layer=fresh.layer._replace(mean=old.layer.mean)),
        online=functools.partial(_online, of),
        unused=tuple(name for name in HParams._fields if tune or name != "prior_scale"),
        scales=True,
    )


class _Of(NamedTuple):
    """What a factory was given."""

    classes: int
    features: Callable[[Array], Array] | None
    tune: bool
    likelihood: Likelihood


def _init(of: _Of, key: Key, x: Any) -> Logistic:
    del key
    width = jax.eval_shape(lambda: _layer.vector(of.features, x)).shape[0]
    return Logistic(_layer.empty(width, of.classes), jnp.bool_(False))


def _fit(
    of: _Of, key: Key, state: Logistic, labeled: Labeled, hparams: HParams
) -> tuple[Logistic, FitInfo]:
    rows = _layer.rows_of(of.features, labeled)
    layer = _layer.placed(state.layer, rows)
    at = _layer.seen(layer, rows.at)
    basis, energy = _layer.frame(jnp.sqrt(0.5 * rows.weight)[:, None] * at)
    labels = ClassLabels(
        features=at @ basis,
        mass=masses(labeled.y, of.classes),
        weight=rows.weight,
        offset=jnp.zeros((at.shape[0], of.classes)),
    )
    if of.tune:
        found = cross_validated(key, labels, energy)
    else:
        precision = jnp.asarray(hparams.prior_scale, jnp.float32) ** -2
        weights = mode(labels, precision, energy, basis.T @ state.layer.mean)
        found = Found(precision, weights, jnp.bool_(False))
    layer = _layer.known(layer, basis, energy)
    layer = layer._replace(mean=basis @ found.weights, precision=found.precision)
    return _finished(Logistic(layer, found.determined), state, labels, found.weights)


def _online(of: _Of, state: Logistic, labeled: Labeled) -> tuple[Logistic, FitInfo]:
    rows = _layer.rows_of(of.features, labeled)
    _layer.exact(state.layer)
    at = _layer.seen(state.layer, rows.at)
    # in units of the normal that is there, which is the prior now: its precision is 1
    moves = jax.vmap(lambda row: _layer.root(state.layer, row[:, None])[:, 0])(at)
    labels = ClassLabels(
        features=moves,
        mass=masses(labeled.y, of.classes),
        weight=rows.weight,
        offset=at @ state.layer.mean,
    )
    energy = 0.5 * rows.weight @ jnp.square(moves)
    found = mode(labels, jnp.float32(1.0), energy, jnp.zeros_like(state.layer.mean))
    layer = _layer.learned(state.layer, jnp.sqrt(0.5 * rows.weight)[:, None] * at)
    mean = state.layer.mean + _layer.root(state.layer, found)
    return _finished(state._replace(layer=layer._replace(mean=mean)), state, labels, found)


def _trunk(of: _Of, state: Logistic, x: Any) -> Float[Array, " D"]:
    return _layer.seen(state.layer, _layer.vector(of.features, x))


def _head(of: _Of, state: Logistic, draw: Float[Array, "D C"], at: Float[Array, " D"]) -> Any:
    del state
    return of.likelihood.predict(at @ draw)


def _finished(
    found: Logistic, before: Logistic, labels: ClassLabels, weights: Float[Array, "r C"]
) -> tuple[Logistic, FitInfo]:
    loss = labels.nll(weights) / _training.total_weight(labels.weight)
    return last_good(found, before, FitInfo(loss, jnp.int32(-1)), HParams(steps=0))
