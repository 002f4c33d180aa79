"""Stochastic variational inference with numpyro models and guides."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesal import _checks, _shown, _training, errors, likelihoods
from bayesal.posteriors._standardized import standardized
from bayesal.posteriors._usable import WITH_A_PRIOR, usable
from bayesal.types import Array, Likelihood, Network, Posterior, PyTree

__all__ = ["svi"]


class Guided(NamedTuple):
    """Fitted parameters of a guide.

    params: of the guide and of the model, without constraints.
    fixed: the model's own parameters, as it takes them: what is trained and not random.
    example: one blank example: guides find out the model's shapes with it.
    """

    params: PyTree
    fixed: PyTree
    example: Array


def as_network(model: Callable[[Array], Array]) -> Network:
    """The model as a function of the values of all its sites, random and not, for one example."""
    from numpyro import handlers

    def init(key, x):
        return _sites(model, key, x[None], ("sample", "param"))

    def apply(values, x, key, rate):
        del key, rate
        return handlers.substitute(model, data=values)(x[None])[0]

    return Network(init, apply, takes_rate=False)


@_shown.named
@standardized
def svi(
    model: Callable[[Array], Array],
    guide: Callable[[Callable], Callable],
    *,
    batch_size: int = 32,
    particles: int = 1,
    kl_weight: float = 1.0,
    likelihood: Likelihood | None = None,
) -> Posterior:
    """Variational inference with a numpyro guide. A draw is one value of every random site.

    The model says what is random, and gives outputs; labels and likelihood are ours. Steps are
    those of all our posteriors: Adam, and minibatches of the rows that are labeled. `prior_scale`,
    `dropout` and `weight_decay` of the hyperparameters are not used.

    Args:
      model: `(x [n, ...]) -> outputs [n, C]`, a numpyro program with no observed site: for example
        a module lifted by `numpyro.contrib.module.random_nnx_module` or `random_flax_module`,
        called on x. What it samples may not depend on n.
      guide: `(model) -> guide`: a class of `numpyro.infer.autoguide`, a `functools.partial` of one,
        or a function that gives your own guide. Autoguides begin where `init_loc_fn` says:
        uniformly between -2 and 2, which is far out for the weights of a net;
        `functools.partial(AutoNormal, init_loc_fn=init_to_sample, init_scale=0.05)` begins in the
        prior.
      batch_size: rows of one minibatch.
      particles: samples of the guide per step.
      kl_weight: what the divergence from the prior counts for; 1 is the evidence lower bound, less
        is a cold posterior (see `variational`).
      likelihood: what the outputs mean; default classes.
    Raises:
      WrongType: a guide that looks at all data at once (`AutoLaplaceApproximation`, `AutoDAIS`).
    Raises (`init`):
      WrongShape: the model keeps state beside its parameters (BatchNorm, dropout layers with keys
        of their own), or samples something for every row: then a draw would not be one function of
        x.
    References:
      Kucukelbir et al. 2017, https://arxiv.org/abs/1603.00788

    >>> import numpyro, numpyro.distributions as dist
    >>> from numpyro.infer.autoguide import AutoMultivariateNormal
    >>> model = lambda x: x @ numpyro.sample("w", dist.Normal(0.0, 1.0).expand([4, 3]).to_event(2))
    >>> posterior = svi(model, AutoMultivariateNormal)
    >>> jax.eval_shape(
    ...     lambda key: posterior.draw(key, posterior.init(key, jnp.ones(4)), 10), jax.random.key(0)
    ... )["w"].shape
    (10, 4, 3)
    """
    likelihood = likelihood or likelihoods.CATEGORICAL
    network = as_network(
        _checks.function(model, "model", "a function of x that samples and gives outputs")
    )
    joint = _joint(model, likelihood, kl_weight)
    _of_minibatches(guide, joint)
    blank = jnp.zeros(1, jnp.float32 if likelihood.real else jnp.int32), jnp.int32(1)
    prepared = functools.partial(_prepared, joint, guide, particles, blank)

    def init(key, x):
        usable(network, x, likelihood)
        _global(model, x)
        engine, state = prepared(key, x)
        _stateless(state)
        return _guided(engine, network, engine.optim.get_params(state.optim_state), x)

    def fit(key, state, labeled, hparams):
        engine, _ = prepared(jax.random.key(0), state.example)  # for its shapes only

        def loss(params, key, batch):
            # guides take what they were built for; only the labels' own term knows of weights
            weighted = _joint(model, likelihood, kl_weight, batch.weight)
            values, data = engine.constrain_fn(params), (batch.x, batch.y, batch.total)
            bound = engine.loss.loss(key, values, weighted, engine.guide, *data)
            return bound * kl_weight / batch.total

        hparams, start = hparams._replace(weight_decay=0.0), state.params
        params, info = _training.sgd(key, start, loss, labeled, hparams, batch_size=batch_size)
        return _guided(engine, network, params, state.example), info

    def draw(key, state, num):
        engine, _ = prepared(jax.random.key(0), state.example)  # for its shapes only
        values, x = engine.constrain_fn(state.params), state.example[None]
        one = lambda key: _sites(engine.guide, key, x, ("sample",), *blank, values=values)
        return jax.lax.map(one, jax.random.split(key, num))

    def apply(state, draw, x):
        return likelihood.predict(network.apply({**state.fixed, **draw}, x, None, 0.0))

    made = Posterior(init, fit, draw, apply, real=likelihood.real, likelihood=likelihood)
    return made._replace(unused=(*WITH_A_PRIOR, "prior_scale"))


def _prepared(joint, guide, particles, blank, key, x):
    """An engine whose guide knows the shapes, and its beginning. A new guide every time: a guide
    keeps what it was traced with.
    """
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.optim import SGD

    # the steps are those of `_training.sgd`
    engine = SVI(joint, guide(joint), SGD(0.0), Trace_ELBO(particles))
    return engine, engine.init(key, x[None], *blank)


def _stateless(state) -> None:
    if state.mutable_state is not None:
        raise errors.WrongShape(
            "model",
            "the model keeps state beside its parameters (running statistics of "
            "BatchNorm, or a Dropout layer's own keys), which changes "
            "while predicting: a draw would not be one function of x. Use GroupNorm or "
            "LayerNorm, and no dropout.",
        )


def _joint(model, likelihood, kl_weight, weight=None):
    """The model together with its labels, `(x [b, ...], y [b], total)`: what guides and bounds
    take. The minibatch stands for labels of this total weight.
    """
    import numpyro

    def joint(x, y, total):
        losses = jax.vmap(lambda outputs, label: likelihoods.loss(likelihood, outputs, label))(
            model(x), y
        )
        mean = losses.mean() if weight is None else _training.weighted_mean(losses, weight)
        numpyro.factor("labels", -mean * total / kl_weight)

    return joint


def _guided(engine, network, params, x):
    names = jax.eval_shape(network.init, jax.random.key(0), x)
    values = engine.constrain_fn(params)
    return Guided(
        params, {name: values[name] for name in names if name in values}, jnp.zeros_like(x)
    )


def _sites(program, key, x, kinds, *rest: Any, values: PyTree = None) -> dict:
    """Values of a program's sites: what it samples (but neither observed nor a guide's own
    auxiliary), and its parameters.
    """
    from numpyro import handlers

    seen = handlers.trace(
        handlers.seed(handlers.substitute(program, data=values or {}), key)
    ).get_trace(x, *rest)
    hidden = lambda site: (
        site["type"] == "sample"
        and (site["is_observed"] or site["infer"].get("is_auxiliary", False))
    )
    return {
        name: site["value"]
        for name, site in seen.items()
        if site["type"] in kinds and not hidden(site)
    }


def _global(model, x) -> None:
    shapes = [
        jax.eval_shape(
            lambda key, x: _sites(model, key, x, ("sample",)),
            jax.random.key(0),
            jax.ShapeDtypeStruct((n, *x.shape), x.dtype),
        )
        for n in (1, 2)
    ]
    moved = sorted(name for name in shapes[0] if shapes[0][name].shape != shapes[1][name].shape)
    if moved:
        raise errors.WrongShape(
            "model",
            f"the model samples {', '.join(moved)} anew for every row of x: a draw would not "
            "be one function of x. Sample only what all rows share.",
        )


def _of_minibatches(factory: Callable, joint: Callable) -> None:
    """Refuses a guide that looks at all data at once."""
    from numpyro.infer import autoguide

    _checks.function(factory, "guide", "a class of numpyro.infer.autoguide, such as AutoNormal")
    guide = factory(joint)
    if isinstance(guide, autoguide.AutoLaplaceApproximation | autoguide.AutoDAIS):
        raise errors.WrongType(
            "guide",
            f"{type(guide).__name__} looks at all data at once, and here it would see blank "
            "data. Take a guide with parameters of its own, such "
            "as AutoNormal or AutoLowRankMultivariateNormal.",
        )
