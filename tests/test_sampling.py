"""Samplers against truth: closed forms, a grid, stationary variances by recursion, and moments of a
path by hand.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose
from numpyro.diagnostics import split_gelman_rubin

from bayesal import _training, acquire, choose, errors, likelihoods, networks, posteriors, scores
from bayesal.posteriors import _hmc as hmc
from bayesal.posteriors import _sampled
from bayesal.posteriors._sgmcmc import Collected, Cycles, sghmc
from bayesal.posteriors._swag import Swag, add, begin, finish, sample
from bayesal.types import Gaussian, HParams, Labeled

NOISE = 0.5
LINEAR = networks.from_functions(
    lambda key, x: {"kernel": 0.1 * jax.random.normal(key, (x.shape[0], 1))},
    lambda w, x, key: x @ w["kernel"],
    embed=lambda w, x: x,
)
AFFINE = networks.from_functions(
    lambda key, x: {"kernel": 0.1 * jax.random.normal(key, (x.shape[0], 1)), "bias": jnp.zeros(1)},
    lambda w, x, key: x @ w["kernel"] + w["bias"],
    embed=lambda w, x: x,
)
LOGISTIC = networks.from_functions(
    lambda key, x: {"kernel": 0.1 * jax.random.normal(key, (2, 1), jnp.float32)},
    lambda w, x, key: jnp.concatenate([jnp.zeros(1), x @ w["kernel"]]),
)


def regression(rows=40, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2)) @ np.array([[1.0, 0.0], [0.7, 0.5]])
    return x, x @ [1.0, -0.6] + 0.3 + NOISE * random.normal(size=rows)


def given(x, y, capacity=None, kind=np.float32):
    """A labeled set whose padding is NaN."""
    rows = capacity or len(y)
    filler = np.full((rows - len(y), x.shape[1]), np.nan)
    labels = np.concatenate([y, np.zeros(rows - len(y))]).astype(kind)
    return Labeled(
        jnp.asarray(np.concatenate([x, filler]), jnp.float32),
        jnp.asarray(labels),
        jnp.int32(len(y)),
    )


def closed_form(x, y, prior):
    """Mean and covariance of a linear model's weights, with normal priors of these standard
    deviations.
    """
    precision = x.T @ x / NOISE**2 + np.diag(1.0 / np.square(prior))
    covariance = np.linalg.inv(precision)
    return covariance @ (x.T @ y) / NOISE**2, covariance


def faults(samples, mean, covariance, worth):
    """What speaks against samples `[S, P]` of this mean and covariance, if they are `worth` that
    many independent ones.
    """
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    white = (np.asarray(samples, np.float64) - mean) @ root
    found = {}
    if np.abs(white.mean(0)).max() > 4 / worth**0.5:
        found["mean"] = white.mean(0)
    if np.abs(np.cov(white.T) - np.eye(len(mean))).max() > 4 * (2 / worth) ** 0.5:
        found["covariance"] = np.cov(white.T)
    return found


def planted(samples):
    """The same samples with a defect: too narrow by a fifth, or off by 0.3 standard deviations."""
    mean, std = samples.mean(0), samples.std(0)
    return mean + 0.8 * (samples - mean), samples + 0.3 * std


# what samplers share


def test_the_prior_is_that_of_the_documentation():
    params = {
        "kernel": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3),
        "bias": jnp.array([0.1, -0.2, 0.0]),
    }
    zero = jax.tree.map(jnp.zeros_like, params)
    log_density = lambda p: (
        dist.Normal(0.0, 0.7 / 2).log_prob(p["kernel"]).sum()
        + dist.Normal(0.0, 0.07).log_prob(p["bias"]).sum()
    )
    assert_allclose(
        _sampled.prior_energy(params, 0.7), log_density(zero) - log_density(params), rtol=1e-5
    )


def test_picks_are_different_evenly_spaced_and_shifted_by_the_key():
    samples = {"a": jnp.arange(50), "b": jnp.arange(100).reshape(50, 2)}
    rows = np.asarray(
        jax.vmap(lambda k: _sampled.pick(k, samples, 7, "")["a"])(
            jax.random.split(jax.random.key(0), 40)
        )
    )
    assert rows.min() >= 0 and rows.max() < 50 and set(np.diff(rows).ravel()) <= {7, 8}
    assert len(np.unique(rows)) > 40
    assert_allclose(_sampled.pick(jax.random.key(0), samples, 50, "")["b"], samples["b"])
    with pytest.raises(errors.WrongSize, match=r"50 samples.*more of them") as error:
        _sampled.pick(jax.random.key(0), samples, 51, "more of them")
    assert error.value.argument == "num_draws"


def test_the_potential_is_the_sum_over_the_rows_that_count_in_any_capacity():
    x, y = regression()
    prior = np.full(2, 0.7 / 2**0.5)
    weights = {"kernel": jnp.array([[0.4], [-0.2]])}
    likelihood, energy = (
        likelihoods.gaussian(noise_std=NOISE, center=0.0),
        lambda w: _sampled.prior_energy(w, 0.7),
    )
    value, slope = jax.value_and_grad(
        hmc.potential(lambda w, x: x @ w["kernel"], given(x, y), energy, likelihood, batch_size=16)
    )(weights)
    w = np.array([0.4, -0.2])
    by_hand = (
        np.sum((y - x @ w) ** 2) / (2 * NOISE**2)
        + len(y) * np.log(NOISE * np.sqrt(2 * np.pi))
        + np.sum((w / prior) ** 2) / 2
    )
    assert_allclose(value, by_hand, rtol=1e-5)
    assert_allclose(slope["kernel"][:, 0], -x.T @ (y - x @ w) / NOISE**2 + w / prior**2, rtol=1e-4)
    padded = jax.value_and_grad(
        hmc.potential(
            lambda w, x: x @ w["kernel"], given(x, y, 200), energy, likelihood, batch_size=16
        )
    )(weights)
    assert float(padded[0]) == float(value) and (padded[1]["kernel"] == slope["kernel"]).all()


# NUTS


@pytest.fixture(scope="module")
def last_layer():
    """NUTS on the last layer (here: of a network that is its own features), with capacity
    to spare.
    """
    posterior = posteriors.nuts(
        AFFINE,
        on="last",
        warmup=300,
        samples=500,
        chains=4,
        likelihood=likelihoods.gaussian(noise_std=NOISE, center=0.0),
    )
    x, y = regression()
    data = given(x, y, 64)
    run = jax.jit(
        lambda key, data: posterior.fit(
            key, posterior.init(key, data.x[0]), data, HParams(prior_scale=2.0, steps=20)
        )
    )
    return posterior, run, data, *run(jax.random.key(0), data)


@pytest.mark.slow
def test_nuts_finds_the_closed_form_of_bayesian_linear_regression(last_layer):
    _, _, _, state, info = last_layer
    x, y = regression()
    truth = closed_form(np.c_[x, np.ones(len(y))], y, [2.0 / 2**0.5, 2.0 / 2**0.5, 2.0])
    samples = np.asarray(state.params)[:, :, 0]
    assert samples.shape == (2000, 3) and (np.asarray(info.failed_at) == -1).all()
    assert not faults(samples, *truth, worth=800)
    narrow, moved = planted(samples)
    assert "covariance" in faults(narrow, *truth, worth=800) and "mean" in faults(
        moved, *truth, worth=800
    )
    assert (np.asarray(state.divergences) == 0).all() and (np.asarray(state.acceptance) > 0.7).all()
    assert split_gelman_rubin(samples.reshape(4, 500, 3)).max() < 1.03


def test_the_predictive_of_nuts_is_that_of_the_closed_form(last_layer):
    posterior, _, _, state, _ = last_layer
    x, y = regression()
    mean, covariance = closed_form(np.c_[x, np.ones(len(y))], y, [2.0 / 2**0.5, 2.0 / 2**0.5, 2.0])
    at = np.random.default_rng(3).normal(size=(5, 2)).astype(np.float32)
    draws = posterior.draw(jax.random.key(1), state, 2000)
    found = jax.vmap(lambda d: jax.vmap(lambda xi: posterior.apply(state, d, xi))(at))(draws)
    design = np.c_[at, np.ones(5)]
    std = np.sqrt(np.einsum("ni,ij,nj->n", design, covariance, design))
    assert (np.abs(found.mean.mean(0) - design @ mean) < 4 * std / 800**0.5).all()
    assert_allclose(found.mean.std(0), std, rtol=0.1)
    heads = jax.vmap(
        lambda d: jax.vmap(lambda h: posterior.head(state, d, h))(
            jax.vmap(lambda xi: posterior.trunk(state, xi))(at)
        )
    )(draws)
    assert_allclose(heads.mean, found.mean, atol=1e-5)


def test_what_nuts_was_given_beyond_the_count_changes_no_bit(last_layer):
    _, run, data, state, _ = last_layer
    rows = jnp.arange(64) < data.count
    other = data._replace(x=jnp.where(rows[:, None], data.x, 1e6), y=jnp.where(rows, data.y, -1e6))
    again, _ = run(jax.random.key(0), other)
    assert all(
        (a == b).all()
        for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(state.params), strict=True)
    )


def test_no_more_draws_than_samples(last_layer):
    posterior, _, _, state, _ = last_layer
    with pytest.raises(
        errors.WrongSize,
        match=r"2000 samples.*`samples` or `chains`",
    ) as error:
        posterior.draw(jax.random.key(0), state, 2001)
    assert error.value.argument == "num_draws"


def on_a_grid(x, y, prior, points=301, reach=6.0):
    """Mean and covariance of a logistic regression's two weights by summing over a grid, in
    float64.
    """
    line = np.linspace(-reach, reach, points)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    logits = grid @ x.T
    log_p = -np.logaddexp(0.0, np.where(y == 1, -logits, logits)).sum(1) - 0.5 * np.square(
        grid / prior
    ).sum(1)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean = p @ grid
    return mean, (grid - mean).T @ ((grid - mean) * p[:, None])


@pytest.mark.slow
def test_nuts_on_all_weights_agrees_with_a_grid_on_logistic_regression():
    random = np.random.default_rng(1)
    x = random.normal(size=(30, 2))
    y = (random.uniform(size=30) < 1 / (1 + np.exp(-x @ [2.0, -1.0]))).astype(int)
    posterior = posteriors.nuts(LOGISTIC, warmup=300, samples=500, chains=4)
    data = given(x, y, 50, np.int32)
    state, info = jax.jit(
        lambda key, data: posterior.fit(
            key, posterior.init(key, data.x[0]), data, HParams(prior_scale=2.0, steps=20)
        )
    )(jax.random.key(0), data)
    samples = np.asarray(state.params["kernel"])[:, :, 0]
    truth = on_a_grid(x, y, 2.0 / 2**0.5)
    assert (np.asarray(info.failed_at) == -1).all()
    # a skewed posterior: its variances are estimated a little worse than those of a normal
    assert not faults(samples, *truth, worth=600)
    narrow, moved = planted(samples)
    assert "covariance" in faults(narrow, *truth, worth=600) and "mean" in faults(
        moved, *truth, worth=600
    )


@pytest.mark.slow
def test_simulation_based_calibration_of_nuts():
    """Weights from the prior, data from the weights: the rank of the weight among its samples is
    uniform.
    """
    sets, rows = 256, 12
    posterior = posteriors.nuts(
        LINEAR,
        warmup=200,
        samples=63,
        chains=1,
        thin=4,
        likelihood=likelihoods.gaussian(noise_std=NOISE, center=0.0),
    )
    x_key, w_key, y_key, key = jax.random.split(jax.random.key(5), 4)
    x = jax.random.normal(x_key, (sets, rows, 2))
    w = jax.random.normal(w_key, (sets, 2)) / 2**0.5
    y = jnp.einsum("snd,sd->sn", x, w) + NOISE * jax.random.normal(y_key, (sets, rows))

    def fit(key, x, y):
        data = Labeled(x, y, jnp.int32(rows))
        return posterior.fit(key, posterior.init(key, x[0]), data, HParams(steps=20))[0].params[
            "kernel"
        ][:, :, 0]

    samples = np.asarray(
        jax.jit(lambda *a: jax.lax.map(lambda b: fit(*b), a))(jax.random.split(key, sets), x, y)
    )

    def misfit(samples):  # chi-squared of the ranks in 8 bins of 8
        ranks = (samples < np.asarray(w)[:, None]).sum(1)
        counts = np.stack([np.bincount(ranks[:, d] // 8, minlength=8) for d in range(2)])
        return np.square(counts - sets / 8).sum(1) / (sets / 8)

    assert (misfit(samples) < 24.3).all()  # 7 degrees of freedom: 1 in 1,000
    mean = samples.mean(1, keepdims=True)
    assert (misfit(mean + 0.7 * (samples - mean)) > 24.3).all()
    assert (misfit(samples + 0.4 * samples.std(1, keepdims=True)) > 24.3).all()


@pytest.mark.slow
def test_nuts_runs_where_jax_defaults_to_float64():
    with jax.enable_x64(True):
        posterior = posteriors.nuts(LOGISTIC, warmup=20, samples=5, chains=2)
        x, y = regression()
        data = given(x, (y > 0).astype(int), kind=np.int32)
        state, info = posterior.fit(
            jax.random.key(0), posterior.init(jax.random.key(0), data.x[0]), data, HParams(steps=3)
        )
        assert (
            state.params["kernel"].dtype == jnp.float32 and (np.asarray(info.failed_at) == -1).all()
        )


def test_what_nuts_refuses():
    with pytest.raises(errors.UnknownName, match=r"'all'.*'last'") as error:
        posteriors.nuts(LINEAR, on="first")
    assert error.value.argument == "on"
    with pytest.raises(errors.MissingEmbed):
        posteriors.nuts(LOGISTIC, on="last")
    for name in ("warmup", "samples", "chains", "thin", "batch_size"):
        with pytest.raises(errors.WrongSize) as error:
            posteriors.nuts(LINEAR, **{name: 0})
        assert error.value.argument == name


# SWAG


def moments_by_hand(path, rank):
    """The paper's sums over a path `[T, P]`: mean, variance, and the covariance of a draw."""
    path = np.asarray(path, np.float64)
    means = np.cumsum(path, 0) / np.arange(1, len(path) + 1)[:, None]
    deviations = (path - means)[-rank:]
    variance = path.var(0)
    return (
        path.mean(0),
        variance,
        0.5 * (np.diag(variance) + deviations.T @ deviations / (min(rank, len(path)) - 1)),
    )


def covariance_of(state):
    """Of the normal that a state stands for."""
    variance = np.concatenate([np.ravel(a) for a in jax.tree.leaves(state.variance)])
    deviations = np.concatenate(
        [np.reshape(a, (a.shape[0], -1)) for a in jax.tree.leaves(state.deviations)], 1
    )
    return 0.5 * (np.diag(variance) + deviations.T @ deviations)


def test_moments_of_a_path_by_hand():
    path = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32) * [1.0, 0.1, 3.0] + [
        0.0,
        50.0,
        -1.0,
    ]
    kept = begin({"a": jnp.ones(1), "b": jnp.ones(2)}, 4)
    for row in path.astype(np.float32):
        here = {"a": jnp.asarray(row[:1]), "b": jnp.asarray(row[1:])}
        kept = add(
            add(kept, here, jnp.bool_(True)),
            jax.tree.map(lambda a: a + 100, here),
            jnp.bool_(False),
        )
    state = finish(kept)
    mean, variance, covariance = moments_by_hand(path.astype(np.float32), 4)
    assert_allclose(np.r_[state.mean["a"], state.mean["b"]], mean, rtol=1e-5)
    assert_allclose(np.r_[state.variance["a"], state.variance["b"]], variance, rtol=1e-4)
    assert_allclose(covariance_of(state), covariance, rtol=1e-3, atol=1e-5)


def test_draws_of_swag_have_its_mean_and_covariance():
    random = np.random.default_rng(2)
    state = Swag(
        {"a": jnp.array([1.0]), "b": jnp.array([-2.0, 0.5])},
        {"a": jnp.array([0.3]), "b": jnp.array([0.1, 1.0])},
        {
            "a": jnp.asarray(random.normal(size=(2, 1)), jnp.float32),
            "b": jnp.asarray(random.normal(size=(2, 2)), jnp.float32),
        },
    )
    draws = jax.vmap(lambda k: sample(k, state))(jax.random.split(jax.random.key(0), 4000))
    samples = np.c_[draws["a"], draws["b"]]
    truth = np.array([1.0, -2.0, 0.5]), covariance_of(state)
    assert not faults(samples, *truth, worth=4000)
    narrow, moved = planted(samples)
    assert "covariance" in faults(narrow, *truth, worth=4000) and "mean" in faults(
        moved, *truth, worth=4000
    )


@pytest.mark.parametrize(
    ("steps", "snapshots"), [(40, 5), (8, 2)]
)  # the second run has fewer steps than snapshots
def test_swag_sums_up_the_last_part_of_its_own_path(steps, snapshots):
    x, y = regression()
    likelihood = likelihoods.gaussian(noise_std=NOISE, center=0.0)
    posterior = posteriors.swag(
        LINEAR, snapshots=5, rank=3, start=0.75, rate=0.5, likelihood=likelihood
    )
    data, hparams, key = (
        given(x, y),
        HParams(learning_rate=0.1, steps=steps, warmup=0.2),
        jax.random.key(3),
    )
    start = posterior.init(jax.random.key(0), data.x[0])
    state, info = posterior.fit(key, start, data, hparams)
    first = int(0.75 * steps)
    rising = 0.2 * first
    fall = lambda i: 0.5 + 0.25 * (1 + jnp.cos(jnp.pi * (i - rising) / (first - rising)))
    rate = lambda i: 0.1 * jnp.where(i < rising, i / rising, jnp.where(i < first, fall(i), 0.5))
    path = _training.walk(
        key,
        start.mean,
        _training.nll(LINEAR, 0.3, likelihood),
        data,
        steps,
        _training.adam(rate, _training.decay_of(hparams, data)),
        observe=lambda seen, i, params: seen.at[i].set(params["kernel"][:, 0]),
        seen=jnp.zeros((steps, 2)),
    )[1]
    every = (steps - first) // snapshots
    mean, variance, covariance = moments_by_hand(np.asarray(path)[first + every - 1 :: every], 3)
    assert int(info.failed_at) == -1
    assert_allclose(state.mean["kernel"][:, 0], mean, rtol=1e-5)
    assert_allclose(state.variance["kernel"][:, 0], variance, rtol=1e-3)
    assert_allclose(covariance_of(state), covariance, rtol=1e-3)


def test_what_swag_refuses():
    for bad in (
        {"snapshots": 1},
        {"rank": 1},
        {"rank": 41},
        {"start": 1.0},
        {"start": -0.1},
        {"rate": 0.0},
    ):
        with pytest.raises(errors.WrongSize) as error:
            posteriors.swag(LINEAR, **bad)
        assert error.value.argument in bad


# stochastic-gradient MCMC


def stationary(rate, friction, temperature, count, stiffness):
    """Variance of the weight under the rule on `stiffness w^2 / 2` per label: the covariance
    recursion of (w, v), until it stands still.
    """
    push = np.array([[1 - rate * stiffness, 1 - friction], [-rate * stiffness, 1 - friction]])
    noise = 2 * friction * rate * temperature / count * np.ones((2, 2))
    covariance = np.zeros((2, 2))
    for _ in range(20_000):
        covariance = push @ covariance @ push.T + noise
    return covariance[0, 0]


@pytest.mark.parametrize(
    ("rate", "friction", "temperature"), [(0.05, 1.0, 1.0), (0.6, 1.0, 1.0), (0.05, 0.2, 0.5)]
)
def test_langevin_and_hamiltonian_steps_have_the_variance_of_their_recursion(
    rate, friction, temperature
):
    count, stiffness, chains = 20, 1.5, 2000
    data = Labeled(jnp.zeros((20, 1)), jnp.zeros(20, jnp.int32), jnp.int32(count))
    rule = sghmc(lambda i: rate, friction, lambda i: temperature, count)
    # every weight is a chain of its own
    loss = lambda w, key, batch: 0.5 * stiffness * jnp.sum(w**2)
    weights = np.asarray(
        _training.walk(jax.random.key(0), jnp.zeros(chains), loss, data, 400, rule)[0]
    )
    truth = np.array([[stationary(rate, friction, temperature, count, stiffness)]])
    if friction == 1.0:
        assert_allclose(
            truth, temperature / (count * stiffness) / (1 - rate * stiffness / 2), rtol=1e-6
        )  # as its documentation says
    wide = lambda w: abs(w.var() / truth.item() - 1) > 4 * (2 / chains) ** 0.5
    assert not wide(weights)
    assert wide(0.8 * weights)
    exact = temperature / (count * stiffness)
    assert abs(truth.item() / exact - 1) < (0.05 if rate < 0.1 else np.inf)


@pytest.mark.parametrize("steps", [30, 31, 60, 97])
def test_samples_stand_at_the_ends_of_the_parts_of_every_cycle(steps):
    cycles = Cycles(3, 2, 0.5, jnp.int32(steps))
    position = np.array([float(cycles.position(jnp.int32(i))) for i in range(steps)])
    slot = np.array([int(cycles.slot(jnp.int32(i))) for i in range(steps)])
    begins = np.flatnonzero(np.diff(position, prepend=2.0) < 0)
    assert len(begins) == 3 and set(np.diff(np.r_[begins, steps])) <= {steps // 3, steps // 3 + 1}
    assert (np.diff(slot) >= 0).all() and set(slot) == set(range(6))
    last = np.r_[np.flatnonzero(np.diff(slot)), steps - 1]  # the last step that writes to each slot
    ends = np.r_[begins[1:], steps]
    assert (last[1::2] == ends - 1).all()
    assert (
        np.abs(last[::2] + 1 - (np.arange(3) + 0.75) * steps / 3) < 1
    ).all()  # halfway through the second half


def test_a_short_run_leaves_copies_and_no_untrained_weights():
    seen = Collected(jnp.zeros(6), jnp.zeros(6, bool))
    assert_allclose(seen._replace(params=jnp.arange(6.0)).filled(), np.arange(6.0))
    seen = seen.put(jnp.int32(1), jnp.float32(7.0)).put(jnp.int32(4), jnp.float32(9.0))
    assert_allclose(seen.filled(), [7, 7, 7, 7, 9, 9])


@pytest.mark.slow
def test_sgmcmc_comes_near_the_closed_form_and_temperature_scales_its_width():
    x, y = regression()
    data = given(x, y)
    mean, covariance = closed_form(x, y, np.full(2, 2.0 / 2**0.5))

    def samples(temperature):
        posterior = posteriors.sgmcmc(
            LINEAR,
            cycles=40,
            samples=20,
            explore=0.2,
            temperature=temperature,
            batch_size=40,
            likelihood=likelihoods.gaussian(noise_std=NOISE, center=0.0),
        )
        run = jax.jit(
            lambda key: posterior.fit(
                key,
                posterior.init(key, data.x[0]),
                data,
                HParams(learning_rate=2e-3, prior_scale=2.0, steps=24_000),
            )
        )
        state, info = run(jax.random.key(0))
        assert int(info.failed_at) == -1
        return posterior, state, np.asarray(state.params["kernel"])[:, :, 0]

    posterior, state, found = samples(1.0)
    assert not faults(found, mean, covariance, worth=150)
    narrow, moved = planted(found)
    assert "covariance" in faults(0.7 * narrow + 0.3 * found.mean(0), mean, covariance, worth=150)
    assert "mean" in faults(moved + 0.2 * found.std(0), mean, covariance, worth=150)
    assert_allclose(samples(0.25)[2].std(0) / found.std(0), 0.5, rtol=0.15)
    with pytest.raises(errors.WrongSize, match="exceeds the 800 samples") as error:
        posterior.draw(jax.random.key(0), state, 801)
    assert error.value.argument == "num_draws"


def test_what_sgmcmc_refuses():
    for bad in (
        {"cycles": 0},
        {"samples": 0},
        {"explore": 1.0},
        {"friction": 0.0},
        {"friction": 1.5},
        {"temperature": -1.0},
        {"temperature": np.nan},
        {"speed": 0.0},
    ):
        with pytest.raises(errors.WrongSize) as error:
            posteriors.sgmcmc(LINEAR, **bad)
        assert error.value.argument in bad


# from numpyro


def classes(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([2, 3]).to_event(2))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Categorical(logits=x @ w), obs=y)


def numbers(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(x @ w, noise).to_event(1), obs=y)


def yes_or_no(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(probs=jax.nn.sigmoid(x @ w)), obs=y)


def with_local(x, y=None):
    with numpyro.plate("rows", x.shape[0]):
        u = numpyro.sample("u", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Poisson(jnp.exp(u)), obs=y)


@pytest.fixture(scope="module")
def mcmc():
    x = jax.random.normal(jax.random.key(0), (12, 2))
    mcmc = numpyro.infer.MCMC(
        numpyro.infer.HMC(
            classes,
            step_size=0.1,
            num_steps=2,
            trajectory_length=None,
            adapt_step_size=False,
            adapt_mass_matrix=False,
        ),
        num_warmup=2,
        num_samples=20,
        progress_bar=False,
    )
    mcmc.run(jax.random.key(1), x, jnp.arange(12) % 3)
    return mcmc


@pytest.mark.slow
def test_mcmc_of_numpyro_becomes_draws(mcmc):
    x = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    every = posteriors.from_numpyro(
        mcmc, lambda sample, x: x @ sample["w"], key=jax.random.key(0), num_draws=20
    )
    by_hand = jax.nn.log_softmax(jnp.einsum("nd,kdc->knc", x, mcmc.get_samples()["w"]))
    assert_allclose(every(x), by_hand, atol=1e-5)
    read = posteriors.from_numpyro(
        mcmc,
        posteriors.numpyro_site(classes),
        key=jax.random.key(0),
        num_draws=5,
        embed=lambda x: x,
    )
    thinned = np.asarray(read(x))
    assert (
        thinned.shape == (5, 9, 3)
        and len({int(np.abs(by_hand - t).sum((1, 2)).argmin()) for t in thinned}) >= 2
    )
    assert_allclose([np.abs(by_hand - t).max((1, 2)).min() for t in thinned], 0.0, atol=1e-5)
    picks = choose(0, read, x, 3, acquire.top(scores.bald))
    assert len(set(np.asarray(picks.indices).tolist())) == 3
    assert_allclose(read.embed(x), x)
    with pytest.raises(errors.WrongSize, match="num_samples"):
        posteriors.from_numpyro(mcmc, lambda sample, x: x, key=jax.random.key(0), num_draws=21)
    with pytest.raises(errors.WrongType, match="Refit in numpyro"):
        read.model.posterior.fit(jax.random.key(0), read.model.state, None, None)


@pytest.mark.slow
def test_a_guide_of_numpyro_is_drawn_from():
    x = jax.random.normal(jax.random.key(0), (12, 2))
    guide = numpyro.infer.autoguide.AutoNormal(numbers)
    svi = numpyro.infer.SVI(numbers, guide, numpyro.optim.Adam(0.1), numpyro.infer.Trace_ELBO())
    params = svi.get_params(svi.init(jax.random.key(1), x, x[:, 0]))
    key = jax.random.key(2)
    predictive = posteriors.from_numpyro(
        guide, posteriors.numpyro_site(numbers), key=key, num_draws=4, params=params
    )
    prediction, samples = predictive(x), guide.sample_posterior(key, params, sample_shape=(4,))
    assert isinstance(prediction, Gaussian)
    assert_allclose(prediction.mean, samples["w"] @ x.T, atol=1e-5)
    assert_allclose(
        prediction.variance, np.repeat(np.square(samples["noise"])[:, None], 12, 1), rtol=1e-5
    )
    with pytest.raises(errors.WrongType, match=r"svi_result\.params"):
        posteriors.from_numpyro(guide, lambda sample, x: x, key=key)


@pytest.mark.slow
def test_sites_are_read_and_what_cannot_be_is_refused(mcmc):
    sample, x = {"w": jnp.array([1.0, -1.0])}, jnp.array([0.5, 0.2])
    assert_allclose(
        jax.nn.log_softmax(posteriors.numpyro_site(yes_or_no)(sample, x)),
        jax.nn.log_softmax(jnp.array([0.0, 0.3])),
        atol=1e-5,
    )
    with pytest.raises(errors.UnknownName, match=r"'z'.*w, y"):
        posteriors.numpyro_site(yes_or_no, "z")(sample, x)
    with pytest.raises(errors.WrongType, match="nothing for u"):
        posteriors.numpyro_site(with_local)({}, x)
    with pytest.raises(errors.WrongType, match="Poisson"):
        posteriors.numpyro_site(with_local)({"u": jnp.zeros(1)}, x)
    with pytest.raises(errors.WrongType, match="AutoGuide, got dict"):
        posteriors.from_numpyro({"w": 1}, lambda sample, x: x, key=jax.random.key(0))
    fresh = numpyro.infer.MCMC(numpyro.infer.NUTS(classes), num_warmup=1, num_samples=1)
    with pytest.raises(errors.WrongType, match="has not run"):
        posteriors.from_numpyro(fresh, lambda sample, x: x, key=jax.random.key(0))
    guide = numpyro.infer.autoguide.AutoNormal(numbers)
    with pytest.raises(errors.NonFinite, match="'a'"):
        posteriors.from_numpyro(
            guide,
            lambda sample, x: x,
            key=jax.random.key(0),
            params={"a": np.array([np.nan]), "b": np.zeros(2)},
        )
