"""Finished numpyro inference as K functions of x."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors
from bayesal.posteriors._sampled import pick
from bayesal.predictive._bound import Predictive, bind
from bayesal.types import Gaussian, Key, Mixture, Posterior, Prediction, PyTree

__all__ = ["from_numpyro", "numpyro_site"]


def from_numpyro(
    source: Any,
    apply: Callable[[PyTree, Any], Any],
    *,
    key: int | Key,
    num_draws: int = 50,
    params: PyTree = None,
    embed: Callable | None = None,
) -> Predictive:
    """Draws of a finished numpyro inference: MCMC that has run, or a guide with its parameters.

    They serve every strategy and score.

    The samples of MCMC are thinned evenly to `num_draws`; from a guide so many are drawn. Inference
    itself stays with numpyro: the posterior inside can be drawn from again, not fitted.

    Args:
      source: a `numpyro.infer.MCMC` after `run`, or a `numpyro.infer.autoguide.AutoGuide`.
      apply: `(sample, x) -> logits [C]`, or a `Gaussian`, for ONE sample (a dict by site) and ONE
        example; `numpyro_site(model)` reads it off the model. Build it once: each new function
        compiles again.
      key: fixes which samples, or what the guide draws.
      num_draws: K.
      params: of the guide, `svi_result.params`; None for MCMC.
      embed: optional `(x) -> [D]` features.
    Raises:
      WrongType: another kind of source, MCMC that has not run, a guide without `params`.
      NonFinite: samples or parameters with NaN. WrongSize: more draws than samples.

    >>> from numpyro.infer import MCMC, NUTS
    >>> # mcmc = MCMC(NUTS(model), num_warmup=500, num_samples=500); mcmc.run(key, x, y)
    >>> # predictive = from_numpyro(mcmc, numpyro_site(model, "y"), key=key)
    """
    key = _checks.key(key)
    _checks.function(
        apply, "apply", "a function (sample, x) -> logits, such as numpyro_site(model)"
    )
    num_draws = _checks.at_least(1, num_draws, "num_draws")
    state, draw = _source(source, params)
    _finite(state)
    posterior = Posterior(
        _refuse,
        _refuse,
        draw,
        lambda state, draw, x: _prediction(apply(draw, x)),
        embed and (lambda state, x: embed(x)),
    )
    return bind(posterior, state, draw(key, state, num_draws), jnp.float32(1.0))


def _source(source: Any, params: PyTree) -> tuple[PyTree, Callable[[Key, PyTree, int], PyTree]]:
    """What an inference has found, and how to draw from it."""
    from numpyro.infer import MCMC
    from numpyro.infer.autoguide import AutoGuide

    if isinstance(source, MCMC):
        if source.last_state is None:
            raise errors.WrongType(
                "source", "this MCMC has not run yet: call mcmc.run(key, ...) first."
            )
        more = "run MCMC with more `num_samples`"
        return source.get_samples(), lambda key, state, num: pick(key, state, num, more)
    if isinstance(source, AutoGuide):
        if params is None:
            raise errors.WrongType(
                "params",
                "a guide needs the parameters that were found for it: pass "
                "params=svi_result.params.",
            )
        return params, lambda key, state, num: source.sample_posterior(
            key, state, sample_shape=(num,)
        )
    raise errors.WrongType(
        "source",
        "it must be a numpyro MCMC that has run or an AutoGuide, got "
        f"{type(source).__name__}. Samples of anything else: draw them, and run "
        "MCMC's or the guide's `apply` over them yourself.",
    )


def numpyro_site(model: Callable, site: str = "y") -> Callable[[PyTree, Any], Prediction]:
    """Read `apply(sample, x)` for an observed site off a numpyro model.

    Args:
      model: called as `model(x [1, ...])`, so its labels must be optional and its plates as long as
        x.
      site: an observed site with a categorical, Bernoulli (two classes) or normal distribution.
    Raises (when it is called):
      UnknownName: no such site. WrongType: another distribution; a latent site without a sample,
        which belongs to the training data alone.
    """

    def apply(sample, x):
        from numpyro import handlers

        trace = handlers.trace(
            handlers.substitute(handlers.seed(model, jax.random.key(0)), data=sample)
        ).get_trace(x[None])
        random = {
            name: at["fn"]
            for name, at in trace.items()
            if at["type"] == "sample" and not at["is_observed"]
        }
        if site not in random or site in sample:
            raise errors.UnknownName(
                "site",
                f"`site` = {site!r} is no observed site of this model; its sites are: "
                f"{', '.join(random)}.",
            )
        missing = [name for name in random if name not in sample and name != site]
        if missing:
            raise errors.WrongType(
                "model",
                f"the samples hold nothing for {', '.join(missing)}: sites of single "
                "examples cannot be carried over to new ones.",
            )
        return jax.tree.map(lambda a: a[0], _of_distribution(random[site], site))

    return apply


def _of_distribution(distribution: Any, site: str) -> Prediction:
    from numpyro import distributions as dist

    while isinstance(distribution, dist.Independent):
        distribution = distribution.base_dist
    if isinstance(distribution, dist.Normal):
        mean, std = jnp.broadcast_arrays(distribution.loc, distribution.scale)
        return Gaussian(mean, jnp.square(std))
    if isinstance(distribution, dist.BernoulliLogits | dist.BernoulliProbs):
        return jnp.stack([jnp.zeros_like(distribution.logits), distribution.logits], axis=-1)
    if isinstance(distribution, dist.CategoricalLogits | dist.CategoricalProbs):
        return distribution.logits
    raise errors.WrongType(
        "site",
        f"site {site!r} is {type(distribution).__name__}; known are categorical, Bernoulli "
        "and normal. Write `apply(sample, x)` yourself.",
    )


def _prediction(outputs: Any) -> Prediction:
    return outputs if isinstance(outputs, Gaussian | Mixture) else jax.nn.log_softmax(outputs)


def _finite(tree: PyTree) -> None:
    bad = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if not np.isfinite(np.asarray(leaf)).all()
    ]
    if bad:
        raise errors.NonFinite(
            "source",
            f"its samples (or parameters) at {', '.join(bad)} hold NaN or inf: look at the "
            "inference before using it.",
        )


def _refuse(*args: Any) -> Any:
    raise errors.WrongType(
        "posterior",
        "this posterior is a finished numpyro inference: it can be drawn from, not "
        "initialized or fitted. Refit in numpyro.",
    )
