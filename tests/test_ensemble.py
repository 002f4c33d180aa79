"""Deep ensembles: prior functions against what they must be, and members spread over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from numpy.testing import assert_allclose

from bayesal import _chunks, errors, likelihoods, networks, pools, posteriors
from bayesal.types import HParams, Labeled

LINEAR = networks.from_functions(
    lambda key, x: jax.random.normal(key, (2, 1)), lambda w, x, key: x @ w
)
HPARAMS = HParams(*(jnp.float32(v) for v in (0.3, 0.0, 0.0, 3.0)), jnp.int32(300))
DATA = Labeled(
    jnp.tile(jnp.array([[1.0, 0.0], [-1.0, 0.0]]), (8, 1)),
    jnp.tile(jnp.array([2.0, -2.0]), 8),
    jnp.int32(16),
)  # y = 2 x[0]


@pytest.fixture(scope="module")
def linear():
    """Sixteen lines with priors, before and after they have seen labels along the first
    axis alone.
    """
    posterior = posteriors.ensemble(
        LINEAR, members=16, priors=True, likelihood=likelihoods.gaussian(noise_std=1.0, center=0.0)
    )
    start = jax.jit(posterior.init)(jax.random.key(0), DATA.x[0])
    end, info = jax.jit(posterior.fit)(jax.random.key(1), start, DATA, HPARAMS)
    assert (np.asarray(info.failed_at) == -1).all()
    return posterior, start, end


def test_outputs_are_the_net_plus_the_scaled_prior(linear):
    posterior, _, state = linear
    draws = posterior.draw(jax.random.key(0), state, 16)
    x = jnp.array([0.7, -1.3])
    found = jax.vmap(lambda draw: posterior.apply(state, draw, x))(draws)
    assert_allclose(
        found.mean,
        np.asarray(x) @ (np.asarray(state.params) + 3.0 * np.asarray(state.prior))[..., 0].T,
        atol=1e-5,
    )


def test_training_takes_the_prior_away_where_there_are_labels_and_nowhere_else(linear):
    _, start, end = linear
    before, after = (np.asarray(s.params + 3.0 * s.prior)[..., 0] for s in (start, end))
    assert np.array_equal(start.prior, end.prior) and (np.asarray(end.scale) == 3.0).all()
    assert np.ptp(before[:, 0]) > 5  # a spread of normals with standard deviation 3.2
    assert_allclose(after[:, 0], 2.0, atol=1e-3)
    assert_allclose(
        after[:, 1], before[:, 1], rtol=1e-6
    )  # no label says anything about the second axis


def test_a_prior_of_no_weight_is_no_prior(linear):
    posterior, start, _ = linear
    plain = posteriors.ensemble(
        LINEAR, members=16, likelihood=likelihoods.gaussian(noise_std=1.0, center=0.0)
    )
    short = HPARAMS._replace(prior_scale=jnp.float32(0.0), steps=jnp.int32(5))
    one = posterior.fit(jax.random.key(1), start, DATA, short)[0]
    assert_allclose(
        one.params, plain.fit(jax.random.key(1), start.params, DATA, short)[0], rtol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("priors", [False, True])
def test_members_on_eight_devices_are_those_of_one(priors):
    network, x = networks.mlp(4, 3, (8,)), jax.random.normal(jax.random.key(3), (20, 4))
    data = Labeled(x, jnp.arange(20, dtype=jnp.int32) % 3, jnp.int32(20))
    short = HPARAMS._replace(learning_rate=jnp.float32(1e-2), steps=jnp.int32(20))

    def trained(mesh):
        posterior = posteriors.ensemble(network, members=8, priors=priors, mesh=mesh)
        fit = jax.jit(
            lambda key, data: posterior.fit(key, posterior.init(key, data.x[0]), data, short)
        )
        program = fit.lower(jax.random.key(0), data).compile()
        state, _ = program(jax.random.key(0), data)
        draws = posterior.draw(jax.random.key(1), state, 8)
        return (
            state,
            jax.jit(lambda s, d: jax.vmap(lambda one: posterior.apply(s, one, x[0]))(d))(
                state, draws
            ),
            program.as_text(),
        )

    (one, first, _), (eight, second, text) = trained(None), trained(pools.mesh())
    for leaf in jax.tree.leaves(eight):
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {1} and len(
            leaf.sharding.device_set
        ) == 8
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        assert_allclose(a, b, atol=2e-6)
    assert_allclose(first, second, atol=1e-5)
    assert not any(
        word in text
        for word in ("all-reduce(", "all-gather(", "all-to-all(", "collective-permute(")
    )


def test_meshes_that_cannot_be_are_refused():
    with pytest.raises(errors.WrongSize, match="multiple of 8") as caught:
        posteriors.ensemble(LINEAR, members=6, mesh=pools.mesh())
    assert caught.value.argument == "members"
    with pytest.raises(errors.WrongType, match="Auto") as caught:
        posteriors.ensemble(
            LINEAR, members=8, mesh=jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
        )
    assert caught.value.argument == "mesh"


@pytest.mark.parametrize(("numbers", "loop"), [(_chunks.SMALL, False), (_chunks.SMALL + 1, True)])
def test_large_fits_run_one_after_another_on_cpu(numbers, loop):
    program = str(
        jax.make_jaxpr(lambda a: _chunks.over_fits(lambda v: v + 1.0, a))(
            jax.ShapeDtypeStruct((3, numbers), jnp.float32)
        )
    )
    assert ("scan" in program) == (loop and _chunks.on_cpu())
