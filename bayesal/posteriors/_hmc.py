"""Hamiltonian Monte Carlo by NUTS, for small networks and for last layers."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _chunks, _shown, _training, errors, likelihoods
from bayesal.networks._embedded import embedded
from bayesal.networks._last import LastLayer, fixed_outputs, last_layer
from bayesal.posteriors._laplace._last_layer import prior_unit
from bayesal.posteriors._sampled import copies, energy_per_label, of_samples, pick, prior_energy
from bayesal.posteriors._standardized import standardized
from bayesal.posteriors._usable import unused, usable
from bayesal.types import (
    Array,
    FitInfo,
    HParams,
    Key,
    Labeled,
    Likelihood,
    Network,
    Posterior,
    PyTree,
)

__all__ = ["nuts"]

MORE = "build `nuts` with more `samples` or `chains`"


class Chains(NamedTuple):
    """S = chains * samples parameter sets, chain after chain, and sampling diagnostics.

    trunk: the trained network whose features the last layer takes, and its outputs beside the
      layer's; () where whole networks are sampled.
    params: every leaf `[S, ...]`: whole networks, or last layers `[S, D, C]`, a bias being the last
      row.
    divergences: transitions after warmup that lost the energy; more than a few mean a biased
      sample.
    acceptance: mean acceptance probability after warmup; 0.8 is aimed at.
    """

    trunk: PyTree
    params: PyTree
    divergences: Int[Array, " chains"]
    acceptance: Float[Array, " chains"]


class Trunk(NamedTuple):
    """What the draws of a last layer share: a trained network, and its outputs that do not depend
    on x.
    """

    params: PyTree
    fixed: Float[Array, " R"]


class Sizes(NamedTuple):
    """Chain lengths and counts; see `nuts`."""

    warmup: int
    samples: int
    chains: int
    thin: int


def potential(
    outputs: Callable[[PyTree, Array], Array],
    labeled: Labeled,
    prior: Callable[[PyTree], Array],
    likelihood: Likelihood = likelihoods.CATEGORICAL,
    batch_size: int = 32,
) -> Callable[[PyTree], Float[Array, ""]]:
    """Potential energy: minus the log posterior density, in nats, up to a constant.

    It is a function of the parameters of `outputs(params, x)`; `prior` is that of the prior.

    Each label counts as often as its weight says. Rows are added `batch_size` at a time
    up to the count: the value, and the time it takes, do not depend on the capacity, in any bit.
    Its gradient is right; there is no second derivative.
    """
    weight = _training.row_weights(labeled)
    first = jnp.argmax(weight > 0)

    def part(params, block):
        rows = block * batch_size + jnp.arange(batch_size)
        counts = (rows < labeled.count) & (weight[jnp.minimum(rows, weight.shape[0] - 1)] > 0)
        # the others may hold NaN, whose slope no `where` hides: a row that counts takes their place
        rows = jnp.where(counts, rows, first)
        x, y, each = jax.tree.map(lambda leaf: leaf[rows], (labeled.x, labeled.y, weight))
        losses = jax.vmap(lambda x, y: likelihoods.loss(likelihood, outputs(params, x), y))(x, y)
        return jnp.sum(jnp.where(counts, each * losses, 0.0))

    def energy(params):
        here = jax.lax.stop_gradient(params)
        add = lambda block, total: jax.tree.map(
            lambda a, b: a + b.astype(a.dtype), total, jax.value_and_grad(part)(here, block)
        )
        value, slope = jax.lax.fori_loop(
            0, -(-labeled.count // batch_size), add, jax.value_and_grad(prior)(here)
        )
        # a loop to a traced bound has no gradient of its own: the value as it is, and the slope
        # found beside it
        return value + sum(
            jax.tree.leaves(jax.tree.map(lambda s, p, h: jnp.vdot(s, p - h), slope, params, here))
        )

    return energy


class Chain(NamedTuple):
    """What one chain gives: see `Chains`; `moved` is False if it had no finite beginning or every
    transition after warmup diverged.
    """

    params: PyTree
    divergences: Int[Array, ""]
    acceptance: Float[Array, ""]
    energy: Float[Array, ""]
    moved: Bool[Array, ""]


def _chain(key: Key, start: PyTree, energy: Callable[[PyTree], Array], sizes: Sizes) -> Chain:
    """One chain of NUTS in one compiled loop. The weights are one vector inside: a tree of leaves
    compiles longer.
    """
    from numpyro.infer import NUTS

    flat, unravel = ravel_pytree(start)
    kernel = NUTS(potential_fn=lambda z: energy(unravel(z.astype(flat.dtype))))
    transitions = sizes.samples * sizes.thin

    def step(i, carry):
        state, kept, divergences, total = carry
        state, late = kernel.sample(state, (), {}), i >= sizes.warmup
        slot = jnp.maximum(i - sizes.warmup, 0) // sizes.thin  # the last to write to a slot stays
        kept = kept.at[slot].set(state.z.astype(flat.dtype))
        return (
            state,
            kept,
            divergences + (late & state.diverging),
            total + jnp.where(late, state.potential_energy, 0.0).astype(jnp.float32),
        )

    first = kernel.init(key, sizes.warmup, flat.astype(jnp.result_type(float)))
    held = copies(flat, sizes.samples)
    state, kept, divergences, total = jax.lax.fori_loop(
        0, sizes.warmup + transitions, step, (first, held, jnp.int32(0), jnp.float32(0.0))
    )
    began = jnp.isfinite(first.potential_energy)
    kept = jax.vmap(unravel)(jnp.where(began, kept, held))
    return Chain(
        kept,
        divergences,
        state.mean_accept_prob.astype(jnp.float32),
        total / transitions,
        began & (divergences < transitions),
    )


def _joined(
    trunk: PyTree, chains: Chain, labeled: Labeled, failed_at: Array, steps: Any
) -> tuple[Chains, FitInfo]:
    """All chains as a state, and what happened; `failed_at` is that of the training before."""
    params = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), chains.params)
    failed_at = jnp.where((failed_at < 0) & ~chains.moved, jnp.asarray(steps, jnp.int32), failed_at)
    total = _training.total_weight(_training.row_weights(labeled))
    state = Chains(trunk, params, chains.divergences, chains.acceptance)
    return state, FitInfo(chains.energy / total, failed_at)


def _fresh(trunk: PyTree, starts: PyTree, sizes: Sizes) -> Chains:
    params = jax.tree.map(lambda a: jnp.repeat(a, sizes.samples, axis=0), starts)
    return Chains(trunk, params, jnp.zeros(sizes.chains, jnp.int32), jnp.zeros(sizes.chains))


def _last(params: PyTree, sizes: Sizes) -> PyTree:
    """Where each chain ended."""
    return jax.tree.map(lambda a: a[sizes.samples - 1 :: sizes.samples], params)


def _warm(old: Chains, fresh: Chains) -> Chains:
    trunk, params = _training.shrink_and_perturb(
        (old.trunk, old.params), (fresh.trunk, fresh.params)
    )
    return fresh._replace(trunk=trunk, params=params)


@_shown.named
@standardized
def nuts(
    network: Network,
    *,
    on: str = "all",
    warmup: int = 300,
    samples: int = 50,
    chains: int = 4,
    thin: int = 1,
    batch_size: int = 32,
    likelihood: Likelihood | None = None,
) -> Posterior:
    """No-U-Turn Sampler through numpyro: asymptotically exact, the reference for the others.

    With `on="all"` a draw is a whole network: for nets of up to some thousand weights and some
    hundred labels; the prior is that of `variational`, `prior_scale / sqrt(fan-in)` for kernels,
    `prior_scale / 10` for vectors. With `on="last"` one network is trained as `point` trains it,
    and a draw is the weights `[D, C]` of its last layer; features and prior are those of `laplace`
    (at `prior_scale`, not tuned).

    `HParams.steps` (with `learning_rate`) are Adam's steps to the mode at which each chain starts,
    or of the network that gives the features; the lengths of the chains are arguments. Dropout and
    `weight_decay` count only for the features.

    `FitInfo` has one entry per chain: the mean energy per label, and as `failed_at` the first
    non-finite step of Adam, or `steps` if sampling had no finite beginning or every transition
    after warmup diverged. Some divergences are no failure: look at `state.divergences`, and at
    split R-hat of the predictions of all S draws (about 1 once chains have mixed; weights never
    do): `numpyro.diagnostics.split_gelman_rubin(p.reshape(chains, samples, *p.shape[1:]))`.

    Args:
      network: what to sample; for `on="last"` its outputs are a linear layer on its `embed`.
      on: "all" weights, or the "last" layer.
      warmup: transitions that adapt step size and metric, of each chain; not kept.
      samples: sets of weights kept from each chain: S = chains * samples in all, the most draws
        there are.
      chains: independent chains, run side by side.
      thin: transitions for each sample kept.
      batch_size: rows worked on at a time: a choice of speed alone.
      likelihood: what the outputs mean; default classes.
    Raises:
      UnknownName: `on`. MissingEmbed: `on="last"` for a network without features. WrongSize: counts
        below 1; (`draw`) more draws than samples.
      WrongShape (`init`): outputs that are no vector; with `on="last"`, that are no linear layer on
      `embed(x)`.
    References:
      Hoffman & Gelman 2014, https://arxiv.org/abs/1111.4246; Izmailov et al. 2021,
      https://arxiv.org/abs/2104.14421 (of nets).
    """
    likelihood = likelihood or likelihoods.CATEGORICAL
    _checks.a(Network, network, "network", "networks.mlp(...) or networks.from_nnx(...)")
    if on not in ("all", "last"):
        raise errors.UnknownName(
            "on", f"`on` = {on!r} is not known: sample 'all' weights, or the 'last' layer."
        )
    sizes = Sizes(
        *(
            _checks.at_least(1, value, name)
            for name, value in zip(Sizes._fields, (warmup, samples, chains, thin), strict=True)
        )
    )
    build = _of_all if on == "all" else _of_last
    return build(network, sizes, _checks.at_least(1, batch_size, "batch_size"), likelihood)


def _of_all(network: Network, sizes: Sizes, batch_size: int, likelihood: Likelihood) -> Posterior:
    def init(key, x):
        usable(network, x, likelihood)
        return _fresh(
            (),
            jax.lax.map(lambda k: network.init(k, x), jax.random.split(key, sizes.chains)),
            sizes,
        )

    def fit(key, state, labeled, hparams):
        loss = energy_per_label(network, hparams.prior_scale, likelihood)
        prior = lambda params: prior_energy(params, hparams.prior_scale)
        energy = potential(
            lambda params, x: network.apply(params, x, None, 0.0),
            labeled,
            prior,
            likelihood,
            batch_size,
        )

        def one(key, start):
            mode_key, key = jax.random.split(key)
            mode, info = _training.sgd(
                mode_key,
                start,
                loss,
                labeled,
                hparams._replace(weight_decay=0.0),
                batch_size=batch_size,
            )
            return _chain(key, mode, energy, sizes), info.failed_at

        chains, failed_at = _chunks.over_chains(
            one, jax.random.split(key, sizes.chains), _last(state.params, sizes)
        )
        return _joined((), chains, labeled, failed_at, hparams.steps)

    return of_samples(network, init, fit, MORE, likelihood, _warm)


def _of_last(network: Network, sizes: Sizes, batch_size: int, likelihood: Likelihood) -> Posterior:
    if network.embed is None:
        raise errors.MissingEmbed(
            "network",
            "on='last' samples a layer on the network's features, and this network has no "
            "`embed`: give it one, or use on='all'.",
        )
    layer = functools.cache(
        lambda shape, dtype: last_layer(network, jax.ShapeDtypeStruct(shape, dtype))
    )
    of = _Last(network, likelihood, sizes, batch_size, lambda x: layer(x.shape, x.dtype))

    def apply(state, draw, x):
        return _head(of, state, draw, _trunk(of, state, x))

    return Posterior(
        init=functools.partial(_init_last, of),
        fit=functools.partial(_fit_last, of),
        draw=lambda key, state, num: pick(key, state.params, num, MORE),
        apply=apply,
        embed=embedded(network, lambda state: state.trunk.params),
        trunk=functools.partial(_trunk, of),
        head=functools.partial(_head, of),
        real=likelihood.real,
        likelihood=likelihood,
        warm=_warm,
        unused=unused(network, likelihood),
    )


class _Last(NamedTuple):
    """What a factory was given, and `layer(x)`, the network's last layer for examples such as x."""

    network: Network
    likelihood: Likelihood
    sizes: Sizes
    batch_size: int
    layer: Callable[[Any], LastLayer]


def _init_last(of: _Last, key: Key, x: Any) -> Chains:
    usable(of.network, x, of.likelihood)
    net_key, key = jax.random.split(key)
    params, last = of.network.init(net_key, x), of.layer(x)
    rows, outputs = last.weights(params).shape
    # the prior at scale 1: well apart
    starts = prior_unit(rows, last.bias)[:, None] * jax.random.normal(
        key, (of.sizes.chains, rows, outputs)
    )
    fixed = fixed_outputs(of.network, params, x, outputs)
    return _fresh(Trunk(params, fixed), starts, of.sizes)


def _fit_last(
    of: _Last, key: Key, state: Chains, labeled: Labeled, hparams: HParams
) -> tuple[Chains, FitInfo]:
    net_key, key = jax.random.split(key)
    loss = _training.nll(of.network, hparams.dropout, of.likelihood, hparams.label_smoothing)
    params, info = _training.sgd(
        net_key, state.trunk.params, loss, labeled, hparams, batch_size=of.batch_size
    )
    x, (_, rows, outputs) = labeled.x[0], state.params.shape
    trunk = Trunk(params, fixed_outputs(of.network, params, x, outputs))
    last = of.layer(x)
    std = hparams.prior_scale * prior_unit(rows, last.bias)[:, None]
    prior = lambda weights: 0.5 * jnp.sum(jnp.square(weights / std))
    # the trunk stands still from here on: its features take the place of the examples
    embed = lambda xi: last.features(params, xi)
    features = labeled._replace(x=_features(embed, labeled.x, of.batch_size))
    outputs_of = lambda weights, h: jnp.concatenate([h @ weights, trunk.fixed])
    energy = potential(outputs_of, features, prior, of.likelihood, of.batch_size)
    one = lambda key, start: _chain(key, start, energy, of.sizes)
    keys = jax.random.split(key, of.sizes.chains)
    chains = _chunks.over_chains(one, keys, _last(state.params, of.sizes))
    return _joined(trunk, chains, labeled, info.failed_at, hparams.steps)


def _trunk(of: _Last, state: Chains, x: Any) -> Float[Array, " D"]:
    return of.layer(x).features(state.trunk.params, x)


def _head(of: _Last, state: Chains, draw: Float[Array, "D C"], features: Array) -> Any:
    return of.likelihood.predict(jnp.concatenate([features @ draw, state.trunk.fixed]))


def _features(of_one: Callable[[Array], Array], x: Array, batch_size: int) -> Float[Array, "M D"]:
    """Features of all rows, in blocks of one shape: the same bits for any capacity."""
    rows = np.minimum(np.arange(-(-x.shape[0] // batch_size) * batch_size), x.shape[0] - 1).reshape(
        -1, batch_size
    )
    blocks = jax.lax.map(lambda r: jax.vmap(of_one)(x[r]), jnp.asarray(rows))
    return blocks.reshape(-1, blocks.shape[-1])[: x.shape[0]]
