"""Every posterior, once: adding a posterior is adding one line to `POSTERIORS`. The laws are in
`test_posteriors.py`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from flax import nnx
from numpyro.contrib.module import random_nnx_module
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.initialization import init_to_sample

from bayesal import _checks, acquire, calibrate, networks, posteriors, scores
from bayesal.networks._reference import dropout
from bayesal.posteriors._laplace._structures import STRUCTURES
from bayesal.predictive import bind
from bayesal.types import FitInfo, HParams, Labeled, Posterior

CLASSES, FEATURES, POOL = 3, 16, 128


class SmallConv(nnx.Module):
    """One convolution whose channels drop out, on 16 features seen as a 4x4 image."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 8, (3, 3), conv_general_dilated=networks.conv, rngs=rngs)
        self.last = nnx.Linear(8 * 16, CLASSES, rngs=rngs)

    def embed(self, x, rngs=None, rate=0.0):
        x = jax.nn.relu(self.conv(x.reshape(-1, 4, 4, 1)))
        return dropout(x, rngs, rate, (x.shape[0], 1, 1, x.shape[-1])).reshape(x.shape[0], -1)

    def __call__(self, x, rngs=None, rate=0.0):
        return self.last(self.embed(x, rngs, rate))


MLP = networks.mlp(FEATURES, CLASSES, (8,))
CONV = networks.from_nnx(SmallConv, embed="embed", rate="rate")


MODULE = nnx.Linear(FEATURES, CLASSES, rngs=nnx.Rngs(0))


def prior(name, shape):
    return dist.Normal(0.0, 0.1 if len(shape) < 2 else shape[0] ** -0.5)


def lifted(x):
    """A module whose weights are random, as numpyro has it."""
    return random_nnx_module("net", MODULE, prior)(x)


GUIDE = functools.partial(AutoNormal, init_loc_fn=init_to_sample, init_scale=0.05)


class Case(NamedTuple):
    name: str
    posterior: Posterior
    draws: int = 6
    disagrees: bool = True  # its draws are different functions
    redraws: bool = True  # another key, other draws
    needs: float = 0.9  # accuracy on the tiny problem
    grows: bool = False  # its state has a row for every label of the capacity
    slow: bool = False  # compiles for longer than the default suite has time
    embeds: bool = True  # it has features
    samples: bool = (
        False  # a fit goes on after the steps of its optimizer: no steps still change something
    )
    optimizes: bool = True  # its fit takes steps of an optimizer, of `HParams`
    smooths: bool = True  # it trains a network, on labels that may be smoothed
    settled: Callable = lambda state: (
        state
    )  # what of a state the labels determine: eigenvectors have any sign
    near: float = 1e-6  # how far rounding may take two fits to the same labels apart


def last_layer(state):
    """Laplace's state with the covariance in place of its factor."""
    noise = jnp.eye(state.mean.size).reshape(-1, *state.mean.shape)
    root = jax.vmap(lambda z: STRUCTURES["full"].root(state.factor, z).ravel())(noise).T
    return state._replace(factor=root @ root.T)


def head(state):
    """A logistic regression's state with the covariance in place of its frame."""
    of = state.layer
    scale = 1.0 / (of.precision + of.energy) - 1.0 / of.precision
    covariance = of.basis * scale @ of.basis.T
    return of.mean, of.center, of.unit, of.precision * covariance


POSTERIORS = [
    Case("point", posteriors.point(MLP), disagrees=False, redraws=False),
    Case("mc_dropout", posteriors.mc_dropout(MLP)),
    Case("ensemble", posteriors.ensemble(MLP, members=6), redraws=False),
    Case(
        "ensemble_with_priors",
        posteriors.ensemble(MLP, members=6, priors=True),
        redraws=False,
        slow=True,
    ),
    Case("variational", posteriors.variational(MLP), smooths=False),
    Case("low_rank", posteriors.variational(MLP, rank=2), slow=True, smooths=False),
    Case(
        "svi", posteriors.svi(lifted, GUIDE, kl_weight=0.1), slow=True, embeds=False, smooths=False
    ),
    Case("mc_dropout_conv", posteriors.mc_dropout(CONV)),
    Case(
        "gp_classification",
        posteriors.gp_classification(CLASSES, waves=64),
        grows=True,
        slow=True,
        smooths=False,
    ),
    Case("swag", posteriors.swag(MLP), slow=True),
    Case(
        "sgmcmc",
        posteriors.sgmcmc(MLP, cycles=3, samples=2),
        redraws=False,
        slow=True,
        smooths=False,
    ),  # as many draws as samples: always the same
    Case(
        "nuts",
        posteriors.nuts(MLP, warmup=30, samples=3, chains=2),
        redraws=False,
        samples=True,
        slow=True,
        smooths=False,
    ),
    Case(
        "laplace",
        posteriors.last_layer_laplace(MLP, structure="full"),
        settled=last_layer,
        near=1e-4,
    ),
    Case(
        "sngp",
        posteriors.last_layer_laplace(
            networks.sngp(FEATURES, CLASSES, depth=1, frequencies=16), structure="full"
        ),
        settled=last_layer,
        near=1e-4,
        slow=True,
    ),
    Case(
        "logistic",
        posteriors.logistic(CLASSES),
        settled=lambda state: head(state),
        near=1e-3,
        optimizes=False,
        smooths=False,
    ),
    Case("laplace_all", posteriors.linearized_laplace(MLP), near=1e-5, slow=True),
    Case(
        "any_of",
        posteriors.any_of(
            posteriors.mc_dropout(MLP), posteriors.point(networks.mlp(FEATURES, CLASSES, (4,)))
        ),
        slow=True,
    ),
]
DROPOUT = POSTERIORS[1].posterior
TOP, TEMPERATURE = (
    acquire.top(scores.bald),
    calibrate.temperature(),
)  # one object each: learners of the same parts share programs
# laws of arithmetic that all trained posteriors share: one stands for all in every run
one_of_all = pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, marks=() if case.name == "mc_dropout" else pytest.mark.slow, id=case.name
        )
        for case in POSTERIORS
    ],
)


def every(cases):
    """A test of each of these posteriors."""
    return pytest.mark.parametrize(
        "case",
        [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.slow) for case in cases],
    )


every_posterior = every(POSTERIORS)
every_optimized = every([case for case in POSTERIORS if case.optimizes])

HPARAMS = _checks.as_traced(HParams(1e-2, 1e-4, 0.3, 1.0, steps=120, warmup=0.0))


@functools.cache
def problem(rows: int = POOL, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds that hardly touch."""
    random = np.random.default_rng(seed)
    y = random.integers(0, CLASSES, rows).astype(np.int32)
    centers = np.random.default_rng(99).normal(size=(CLASSES, FEATURES)) * 1.5
    return (centers[y] + 0.5 * random.normal(size=(rows, FEATURES))).astype(np.float32), y


def labeled(count: int = 30, capacity: int = 30, garbage: float = 0.0) -> Labeled:
    """The first `count` points of the problem; padding rows hold garbage."""
    x, y = problem()
    rows = np.full((capacity, FEATURES), garbage, np.float32)
    labels = np.full(capacity, 2 if garbage else 0, np.int32)
    rows[:count], labels[:count] = x[:count], y[:count]
    return Labeled(jnp.asarray(rows), jnp.asarray(labels), jnp.int32(count))


@functools.cache
def programs(case: Case):
    """`init` and `fit`, compiled once for all tests."""
    return jax.jit(case.posterior.init), jax.jit(case.posterior.fit)


def fit(case: Case, data: Labeled, hparams: HParams = HPARAMS, seed: int = 0):
    """`(initial state, fitted state, info)`."""
    init, run = programs(case)
    start = init(jax.random.key(seed), data.x[0])
    return (start, *run(jax.random.key(seed + 1), start, data, hparams))


@functools.cache
def fitted(case: Case):
    return fit(case, labeled())[1]


def predictive(case: Case, seed: int = 2) -> "bayesal.Predictive":
    state = fitted(case)
    return bind(
        case.posterior,
        state,
        case.posterior.draw(jax.random.key(seed), state, case.draws),
        jnp.float32(1.0),
    )


def weights(state):
    """The trained part of a state."""
    return (
        [weights(each) for each in state.states]
        if hasattr(state, "states")
        else getattr(state, "params", state)
    )


def numbers(tree):
    """The leaves as NumPy arrays, keys as their numbers."""
    plain = lambda a: jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a
    return [np.asarray(plain(a)) for a in jax.tree.leaves(tree)]


def same(a, b) -> bool:
    """Bit by bit (NaN equals NaN)."""
    a, b = numbers(a), numbers(b)
    return len(a) == len(b) and all(
        p.shape == q.shape and p.dtype == q.dtype and p.tobytes() == q.tobytes()
        for p, q in zip(a, b, strict=True)
    )


def close(a, b, atol):
    for p, q in zip(numbers(a), numbers(b), strict=True):
        np.testing.assert_allclose(p, q, rtol=0, atol=atol)


def elephant(column):
    """A posterior that remembers what it was fitted on, by the number in a column: sure of class 0
    there, and knows nothing anywhere else.
    """

    def fit(key, state, data, hparams):
        seen = jnp.where(
            jnp.arange(data.y.shape[0]) < data.count, data.x[:, column].astype(jnp.int32), 10_000
        )
        return state.at[seen].set(1.0, mode="drop"), FitInfo(jnp.float32(0.0), jnp.int32(-1))

    def apply(state, draw, x):
        return jax.nn.log_softmax(jnp.array([50.0, 0.0, 0.0]) * state[x[column].astype(jnp.int32)])

    return Posterior(
        lambda key, x: jnp.zeros(64), fit, lambda key, state, num: jnp.zeros(num), apply
    )
