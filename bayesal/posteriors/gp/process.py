"""Gaussian processes on features: exact up to a few thousand labels. A draw is a whole function, by
Matheron's rule.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bayesal import _checks, training
from bayesal.posteriors.gp.kernels import RBF, Kernel, basis, covariance
from bayesal.types import ArrayLike, FitInfo, Gaussian, HParams, Labeled, Posterior

# times `HParams.learning_rate`: three logarithms have further to go than thousands of weights
SPEED = 10.0
# kernel parameters stay within a factor of e^REACH of where they start, so that float32 can factor
# the matrices
REACH = 3.0
FIRST_NOISE = 0.1  # variance of the noise at the start, in units of the labels' variance
SURE = 0.01  # Dirichlet concentration of a class that was not seen


class KernelParams(NamedTuple):
    """Logarithms, relative to where they start: length in units of the labeled points' typical
    distance, variance, noise variance.
    """

    length: Float[Array, ""]
    variance: Float[Array, ""]
    noise: Float[Array, ""]


class GPState(NamedTuple):
    """A fitted process. Rows of padding have root 0: they say nothing.

    params: of the kernel.
    waves:  frequencies of the prior's random waves.
    offset, unit: what features are centered at and divided by.
    x:      labeled points, as parts of features.
    root:   square roots of the sites' precisions; site m says that output c at x[m] is `target`
      with variance 1/root^2.
    target: of the sites.
    factor: Cholesky factors of `1 + root K root`, one per output.
    """

    params: KernelParams
    waves: Float[Array, "F D"]
    offset: Float[Array, " D"]
    unit: Float[Array, ""]
    x: Float[Array, "M P D"]
    root: Float[Array, "C M"]
    target: Float[Array, "C M"]
    factor: Float[Array, "C M M"]


class Sites(NamedTuple):
    """What the labels say about the latent outputs, as independent normals; and a correction of
    their log evidence.
    """

    root: Float[Array, "C M"]
    target: Float[Array, "C M"]
    correction: Float[Array, ""]


def gp_regression(
    *,
    kernel: Kernel = RBF,
    features: Callable[[Array], Array] | None = None,
    center: float = 0.0,
    scale: float = 1.0,
    waves: int = 1024,
    inducing: int | None = None,
) -> Posterior:
    """Exact Gaussian-process regression. A draw is a function of the posterior process: prior
    waves, corrected at the labeled points.

    Length, variance and noise maximize the marginal likelihood (under a weak normal prior on their
    logarithms), by `HParams.steps` steps of Adam at ten times `HParams.learning_rate`. The
    predicted variance is that of the noise; how draws disagree is the rest. The prior part of a
    draw has `waves` random frequencies (relative error of a covariance about `1/sqrt(waves)`); what
    the labels add to it is exact. So small variances among many labels are least accurate in draws
    (up to 19 % off, with 1,024 waves); `posterior.marginal` has them in closed form. Memory grows
    with the square of the labeled set's capacity; with `inducing` points it does not, and above a
    few thousand labels they are needed.

    Args:
      kernel: `RBF` or `MATERN52` of `posteriors.kernels`.
      features: `x -> [D]` for one example, such as a trained net's `embed`; default: x as one
        vector.
      center, scale: mean and standard deviation of the labels to expect.
      waves: frequencies of the prior.
      inducing: how many labeled points (farthest first) stand for all in a sparse process (Titsias'
        bound); None: the exact process.
    References:
      Rasmussen & Williams 2006, chapter 2; draws: Wilson et al. 2020,
      https://arxiv.org/abs/2002.09309

    >>> posterior = gp_regression(center=3.0)
    >>> state = posterior.init(jax.random.key(0), jnp.zeros(2))
    >>> posterior.apply(
    ...     state,
    ...     jax.tree.map(lambda a: a[0], posterior.draw(jax.random.key(1), state, 1)),
    ...     jnp.zeros(2),
    ... ).mean.shape
    ()
    """

    def sites(params, labeled, valid, prior):
        del prior
        root = jnp.where(valid, jnp.exp(-0.5 * params.noise) * FIRST_NOISE**-0.5, 0.0)
        return Sites(
            root[None], jnp.where(valid, (labeled.y - center) / scale, 0.0)[None], jnp.float32(0.0)
        )

    def predict(state, latent):
        noise = FIRST_NOISE * jnp.exp(state.params.noise) * scale**2
        return Gaussian(center + scale * latent[0], noise)

    return _built(Process(kernel, features, 1, waves, sites, predict), inducing, real=True)


def gp_classification(
    classes: int,
    *,
    kernel: Kernel = RBF,
    features: Callable[[Array], Array] | None = None,
    waves: int = 1024,
    inducing: int | None = None,
) -> Posterior:
    """Gaussian-process classification by Dirichlet regression: one latent function per class, exact
    given its sites.

    A label is a Dirichlet with concentration 1.01 for its class and 0.01 for the others; its
    logarithms are matched by normals, which leaves heteroscedastic regression. See `gp_regression`
    for what a draw is and how the kernel is chosen.

    Args:
      classes: C, how many.
      kernel, features, waves, inducing: see `gp_regression`.
    References:
      Milios et al. 2018, https://arxiv.org/abs/1805.10915

    >>> posterior = gp_classification(3)
    >>> state = posterior.init(jax.random.key(0), jnp.zeros(2))
    >>> posterior.apply(
    ...     state,
    ...     jax.tree.map(lambda a: a[0], posterior.draw(jax.random.key(1), state, 1)),
    ...     jnp.zeros(2),
    ... ).shape
    (3,)
    """
    classes = _checks.at_least(2, classes, "classes")
    alpha = jnp.array([SURE, 1.0 + SURE])
    variances = jnp.log1p(1.0 / alpha)
    targets = jnp.log(alpha) - 0.5 * variances
    targets = (
        targets - (targets[1] + (classes - 1) * targets[0]) / classes
    )  # of mean 0 over classes; a common shift changes no probability

    def sites(params, labeled, valid, prior):
        del params, prior
        own = (jnp.arange(classes)[:, None] == labeled.y[None]).astype(jnp.int32)
        return Sites(
            jnp.where(valid[None], variances[own] ** -0.5, 0.0),
            jnp.where(valid[None], targets[own], 0.0),
            jnp.float32(0.0),
        )

    return _built(
        Process(
            kernel,
            features,
            classes,
            waves,
            sites,
            lambda state, latent: jax.nn.log_softmax(latent),
            amplitude=4.0,
        ),
        inducing,
        real=False,
    )


def _built(of: "Process", points: int | None, real: bool) -> Posterior:
    if points is None:
        return of.posterior(real)
    from bayesal.posteriors.gp import inducing  # it stands on this file

    return inducing.posterior(of, _checks.at_least(1, points, "inducing"), real)


def latent(
    state: GPState,
    x: Float[Array, "n P D"],
    *,
    kernel: Kernel = RBF,
    signs: tuple[int, ...] = (1,),
    amplitude: float = 1.0,
) -> Gaussian:
    """Mean and variance `[C, n]` of the latent outputs, in closed form; x as parts of features.

    mean = k R B^-1 R t,  variance = k(x, x) - |L^-1 R k|^2,  with B = 1 + R K R = L L'.

    >>> state = gp_regression().init(jax.random.key(0), jnp.zeros(2))
    >>> latent(state, jnp.zeros((1, 1, 2))).variance  # nothing is known
    Array([[1.]], dtype=float32)
    """
    at = scaled(state, x)
    own = jax.vmap(lambda part: covariance(kernel, part[None], part[None], signs)[0, 0])(at)
    cross = covariance(kernel, at, scaled(state, state.x), signs)
    size = amplitude * jnp.exp(state.params.variance)

    def one(root, target, factor):
        solved = jax.scipy.linalg.solve_triangular(
            factor, size * root[:, None] * cross.T, lower=True
        )  # [M, n]
        weighted = jax.scipy.linalg.solve_triangular(factor, root * target, lower=True)
        return Gaussian(
            solved.T @ weighted, jnp.maximum(size * own - jnp.sum(solved * solved, axis=0), 0.0)
        )

    return jax.vmap(one)(state.root, state.target, state.factor)


def evidence(
    factor: Float[Array, "M M"], sites_root: Float[Array, " M"], target: Float[Array, " M"]
) -> Float[Array, ""]:
    """Log marginal likelihood of one output's sites, in nats: `log N(target; 0, K + 1/root^2)` over
    the rows with root > 0.

    >>> # N(0; 0, 2)
    >>> round(float(evidence(jnp.sqrt(jnp.array([[2.0]])), jnp.ones(1), jnp.zeros(1))), 4)
    -1.2655
    """
    solved = jax.scipy.linalg.solve_triangular(factor, sites_root * target, lower=True)
    known = sites_root > 0
    logs = jnp.sum(
        jnp.where(
            known, jnp.log(jnp.where(known, sites_root, 1.0)) - 0.5 * jnp.log(2 * jnp.pi), 0.0
        )
    )
    return logs - 0.5 * jnp.sum(solved * solved) - jnp.sum(jnp.log(jnp.diag(factor)))


def scaled(state: Any, x: Float[Array, "n P D"]) -> Float[Array, "n P D"]:
    """Features in units of the kernel's length."""
    return (x - state.offset) / (state.unit * jnp.exp(state.params.length))


def _factors(kernel_matrix, root):
    """Cholesky factors of 1 + root K root, per output."""
    one = lambda r: jnp.linalg.cholesky(jnp.eye(r.shape[0]) + r[:, None] * kernel_matrix * r[None])
    return jax.vmap(one)(root)


class Process(NamedTuple):
    """What tells one Gaussian process here from another.

    sites:     `(params, labeled, valid, K) -> Sites`.
    predict:   `(state, latent [C]) -> Prediction`.
    signs:     (1,) where an example is one point, (1, -1) where it is a pair and the latent value a
      difference.
    amplitude: prior variance of a latent output.
    """

    kernel: Kernel
    features: Callable[[Array], Array] | None
    outputs: int
    waves: int
    sites: Callable[..., Sites]
    predict: Callable[[GPState, Array], Any]
    signs: tuple[int, ...] = (1,)
    amplitude: float = 1.0

    def posterior(self, real: bool = False) -> Posterior:
        """The five functions."""
        _checks.at_least(1, self.waves, "waves")

        def trunk(state, x):
            at = _parts(self, x)[None]
            return {
                "waves": basis(state.waves, scaled(state, at), self.signs)[0],
                "labels": matrix(self, state, at, state.x)[0],
            }

        def head(state, draw, seen):
            return self.predict(
                state, draw["waves"] @ seen["waves"] + draw["labels"] @ seen["labels"]
            )

        closed = functools.partial(
            latent, kernel=self.kernel, signs=self.signs, amplitude=self.amplitude
        )
        return Posterior(
            functools.partial(start, self),
            functools.partial(_fit, self),
            functools.partial(_draw, self),
            lambda state, draw, x: head(state, draw, trunk(state, x)),
            lambda state, x: _parts(self, x).reshape(-1),
            None,
            trunk,
            head,
            real,
            marginal(self, closed) if real else None,
        )


def marginal(
    of: Process, closed: Callable[[Any, Array], Gaussian]
) -> Callable[[Any, Array], Gaussian]:
    """`Posterior.marginal` of regression, from the closed form of the latent outputs: what draws'
    waves approximate, exactly.
    """

    def one(state, x):
        at = jax.tree.map(lambda a: a[:, 0], closed(state, _parts(of, x)[None]))
        label, slope = (
            of.predict(state, at.mean),
            jax.grad(lambda value: of.predict(state, value).mean)(at.mean),
        )
        return Gaussian(label.mean, label.variance + jnp.sum(jnp.square(slope) * at.variance))

    return one


def _parts(of: Process, x: ArrayLike) -> Float[Array, "P D"]:
    given = x if len(of.signs) > 1 else x[None]
    return jax.vmap(lambda part: (of.features or jnp.ravel)(part).astype(jnp.float32))(given)


def variance(of: Process, state) -> Float[Array, ""]:
    """Prior variance of a latent output (of one part of it, where the latent value is a
    difference).
    """
    return of.amplitude * jnp.exp(state.params.variance)


def matrix(
    of: Process, state, a: Float[Array, "n P D"], b: Float[Array, "m P D"]
) -> Float[Array, "n m"]:
    """Prior covariances of latent outputs."""
    return variance(of, state) * covariance(of.kernel, scaled(state, a), scaled(state, b), of.signs)


def start(of: Process, key, x) -> GPState:
    """Nothing known."""
    width, outputs = jax.eval_shape(lambda: _parts(of, x)).shape[1], of.outputs
    zero = jnp.float32(0.0)
    return GPState(
        KernelParams(zero, zero, zero),
        of.kernel.waves(key, of.waves, width),
        jnp.zeros(width),
        jnp.float32(1.0),
        jnp.zeros((0, len(of.signs), width)),
        jnp.zeros((outputs, 0)),
        jnp.zeros((outputs, 0)),
        jnp.zeros((outputs, 0, 0)),
    )


def _conditioned(of: Process, state, params, labeled, valid):
    """The state under these parameters, and minus its log evidence per label (with the parameters'
    prior).
    """
    state = state._replace(params=clipped(params))
    prior = matrix(of, state, state.x, state.x)
    found = of.sites(state.params, labeled, valid, prior)
    state = state._replace(root=found.root, target=found.target, factor=_factors(prior, found.root))
    total = jax.vmap(evidence)(state.factor, state.root, state.target).sum() + found.correction
    return state, per_label(params, total, labeled)


def clipped(params: KernelParams) -> KernelParams:
    """Parameters that float32 can work with."""
    return jax.tree.map(lambda p: jnp.clip(p, -REACH, REACH), params)


def per_label(
    params: KernelParams, evidence: Float[Array, ""], labeled: Labeled
) -> Float[Array, ""]:
    """The loss of kernel parameters: minus evidence and log prior (standard normal), per label."""
    return (0.5 * sum(jnp.square(p) for p in params) - evidence) / jnp.maximum(
        labeled.count, 1
    ).astype(jnp.float32)


def tuned(hparams: HParams) -> HParams:
    """Hyperparameters of the fit of kernel parameters."""
    return hparams._replace(learning_rate=SPEED * hparams.learning_rate, weight_decay=0.0)


def placed(
    of: Process, labeled: Labeled
) -> tuple[Bool[Array, " M"], Float[Array, "M P D"], Float[Array, " D"], Float[Array, ""]]:
    """Which rows have labels, features with padding moved to the middle, their middle, and their
    typical distance from it.
    """
    valid = jnp.arange(labeled.y.shape[0]) < labeled.count
    x = jax.vmap(lambda xi: _parts(of, xi))(
        jnp.where(valid.reshape(-1, *(1,) * (labeled.x.ndim - 1)), labeled.x, 0)
    )
    weight = valid[:, None, None] / jnp.maximum(valid.sum() * x.shape[1], 1)
    offset = jnp.sum(weight * x, axis=(0, 1))
    spread = jnp.sqrt(jnp.sum(weight * jnp.square(x - offset)))
    return (
        valid,
        jnp.where(valid[:, None, None], x, offset),
        offset,
        jnp.where(spread > 0, spread, 1.0),
    )


def _fit(of: Process, key, state, labeled, hparams) -> tuple[GPState, FitInfo]:
    valid, x, offset, unit = placed(of, labeled)
    begun = state._replace(x=x, offset=offset, unit=unit)
    loss = lambda params, *_: _conditioned(of, begun, params, labeled, valid)[
        1
    ]  # of all labels at once
    params, info = training.sgd(key, begun.params, loss, labeled, tuned(hparams), batch=1)
    return _conditioned(of, begun, params, labeled, valid)[0], info


def _draw(of: Process, key, state, num):
    """Weights of the prior's waves, and of the covariances with the labeled points: Matheron's
    rule.
    """
    at_labeled = basis(state.waves, scaled(state, state.x), of.signs)
    size = jnp.sqrt(variance(of, state))

    def one(prior_key, noise_key):
        weights = size * jax.random.normal(prior_key, (of.outputs, at_labeled.shape[1]))
        luck = jax.random.normal(noise_key, (state.x.shape[0], of.outputs)).T

        def correction(root, target, factor, luck, weights):
            missed = root * (target - at_labeled @ weights) - luck
            return root * jax.scipy.linalg.cho_solve((factor, True), missed)

        return {
            "waves": weights,
            "labels": jax.vmap(correction)(state.root, state.target, state.factor, luck, weights),
        }

    prior_key, noise_key = jax.random.split(key)
    return jax.vmap(one)(jax.random.split(prior_key, num), jax.random.split(noise_key, num))
