"""All laws x all posteriors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from laws import (
    CLASSES,
    FEATURES,
    HPARAMS,
    MLP,
    POOL,
    POSTERIORS,
    close,
    every_optimized,
    every_posterior,
    fit,
    fitted,
    labeled,
    numbers,
    predictive,
    problem,
    programs,
    same,
    weights,
)

from bayesal import _chunks, errors, likelihoods, networks, posteriors, types
from bayesal.predictive import bind


@every_posterior
@pytest.mark.parametrize(
    "chunk",
    [pytest.param(1, marks=pytest.mark.slow), 7, pytest.param(64, marks=pytest.mark.slow), POOL],
)
def test_a_draw_is_one_function(case, chunk):
    model, (x, _) = predictive(case), problem()
    rows = {1: 14, 7: 126}.get(chunk, POOL)  # whole chunks
    parts = [model(x[i : i + chunk]) for i in range(0, rows, chunk)]
    np.testing.assert_allclose(
        jnp.concatenate(parts, axis=1), model(x)[:, :rows], rtol=1e-5, atol=1e-5
    )


@every_posterior
def test_equal_rows_are_predicted_equally(case):
    x, _ = problem()
    log_probs = np.asarray(predictive(case)(np.repeat(x[:16], 8, axis=0)))
    assert (log_probs.reshape(case.draws, 16, 8, CLASSES) == log_probs[:, ::8][:, :, None]).all()


@every_posterior
def test_permuting_rows_permutes_predictions(case):
    model, (x, _) = predictive(case), problem()
    order = np.random.default_rng(0).permutation(POOL)
    np.testing.assert_allclose(model(x[order]), model(x)[:, order], atol=1e-5)


@every_posterior
def test_rows_are_normalized_and_mean_agrees(case):
    model, (x, _) = predictive(case), problem()
    log_probs = model(x)
    assert log_probs.shape == (case.draws, POOL, CLASSES)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.exp(model.log_probs(x)), np.exp(log_probs).mean(0), atol=1e-5)


@every_posterior
def test_draws_disagree_where_they_should(case):
    spread = np.ptp(np.asarray(predictive(case)(problem()[0])), axis=0).max()
    assert spread > 1e-2 if case.disagrees else spread == 0


@every_posterior
@pytest.mark.parametrize("garbage", [1e6, np.nan])
def test_padding_and_capacity_change_nothing(case, garbage):
    short, long = HPARAMS._replace(steps=jnp.int32(30)), labeled(30, 120, garbage)
    _, exact, info = fit(case, labeled(30, 30), short)
    _, padded, padded_info = fit(case, long, short)
    if case.grows:
        close(weights(exact), weights(padded), 1e-6)
        exact, padded = (
            bind(
                case.posterior,
                s,
                case.posterior.draw(jax.random.key(2), s, case.draws),
                jnp.float32(1.0),
            )(problem()[0])
            for s in (exact, padded)
        )
        close(exact, padded, 1e-4)
    else:
        close(case.settled(exact), case.settled(padded), case.near)
    close(info, padded_info, 1e-6)
    assert (np.asarray(info.failed_at) == -1).all()


@every_posterior
def test_the_key_fixes_the_fit(case):
    short = HPARAMS._replace(steps=jnp.int32(30))
    first, second, other = (fit(case, labeled(), short, seed)[1] for seed in (0, 0, 7))
    assert same(first, second)
    assert not same(first, other)


@every_posterior
def test_the_key_fixes_the_draws(case):
    x, _ = problem()
    first, second, other = (predictive(case, seed)(x) for seed in (2, 2, 3))
    assert same(first, second)
    assert same(first, other) != case.redraws
    if case.redraws:  # masks are drawn again, every one of them
        assert np.abs(np.asarray(first - other)).max(axis=(1, 2)).min() > 0


@every_posterior
def test_jit_changes_nothing(case):
    x = jnp.asarray(problem()[0])
    model = predictive(case)
    eager = np.stack(
        [
            [
                case.posterior.apply(
                    model.model.state, jax.tree.map(lambda a, k=k: a[k], model.model.draws), xi
                )
                for xi in x[:3]
            ]
            for k in range(2)
        ]
    )
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(model, x)[:2, :3], eager, atol=1e-5)


@every_posterior
def test_a_pool_on_eight_devices_gives_the_same_numbers(case):
    model, (x, _) = predictive(case), problem()
    mesh = jax.make_mesh((8,), ("pool",), axis_types=(AxisType.Auto,))
    spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("pool")))
    assert len(spread.sharding.device_set) == 8
    np.testing.assert_allclose(model(spread), model(x), atol=1e-5)


@every_posterior
def test_predicting_changes_no_state(case):
    model, (x, _) = predictive(case), problem()
    before = jax.tree.map(jnp.copy, (model.model.state, model.model.draws))
    first = model(x)
    model.log_probs(x)
    if case.embeds:
        model.embed(x)
    assert same(before, (model.model.state, model.model.draws))
    assert same(first, model(x))


@every_posterior
def test_embeddings_are_one_row_per_point(case):
    model, (x, _) = predictive(case), problem()
    if not case.embeds:
        with pytest.raises(errors.MissingEmbed):
            model.embed(x)
        return
    features = model.embed(x)
    assert features.ndim == 2 and features.shape[0] == POOL
    np.testing.assert_allclose(
        features[:5], model.embed(x[:5]), atol=1e-5
    )  # as exact as predictions: products of other shapes round otherwise


@every_posterior
def test_hyperparameters_are_data(case):
    _, run = programs(case)
    fit(case, labeled())
    traced = run._cache_size()
    for steps, rate, speed in ((3, 0.1, 1e-3), (7, 0.5, 1e-2)):
        shares = dict.fromkeys(
            ("dropout", "warmup", "final_rate", "label_smoothing"), jnp.float32(rate)
        )
        fit(
            case,
            labeled(),
            HPARAMS._replace(steps=jnp.int32(steps), learning_rate=jnp.float32(speed), **shares),
        )
    assert run._cache_size() == traced


@every_posterior
def test_labels_are_smoothed_for_trained_networks_only(case):
    plain, smooth = (
        fit(
            case,
            labeled(),
            HPARAMS._replace(steps=jnp.int32(3), label_smoothing=jnp.float32(share)),
        )[1]
        for share in (0.0, 0.5)
    )
    assert same(plain, smooth) != case.smooths


@every_optimized
def test_no_steps_change_nothing(case):
    start, end, _ = fit(case, labeled(), HPARAMS._replace(steps=jnp.int32(0)))
    assert same(weights(start), weights(end)) != case.samples


@every_posterior
def test_a_non_finite_loss_is_reported_and_the_parameters_stay_finite(case):
    data = labeled()
    start, end, info = fit(case, data._replace(x=data.x.at[:].set(jnp.nan)))
    assert (np.asarray(info.failed_at) == 0).all()
    assert same(weights(start), weights(end))


@every_optimized
@pytest.mark.parametrize("speed", [1e30, np.inf])
def test_a_diverged_fit_never_returns_non_finite_parameters(case, speed):
    for steps in (1, 30):  # the last step may be the first bad one
        _, end, info = fit(
            case,
            labeled(),
            # a decay would shrink what the rate blew up
            HPARAMS._replace(
                learning_rate=jnp.float32(speed),
                steps=jnp.int32(steps),
                weight_decay=jnp.float32(0.0),
            ),
        )
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(end))
        if steps > 1 or speed == np.inf:
            assert (np.asarray(info.failed_at) >= 0).all()


@every_posterior
def test_a_class_without_a_label_is_still_a_class(case):
    data = labeled()
    _, state, info = fit(case, data._replace(y=jnp.minimum(data.y, 1)))
    assert (np.asarray(info.failed_at) == -1).all()
    draw = jax.tree.map(lambda a: a[0], case.posterior.draw(jax.random.key(0), state, case.draws))
    log_probs = case.posterior.apply(state, draw, data.x[0])
    assert log_probs.shape == (CLASSES,) and np.isfinite(log_probs).all()


@every_posterior
def test_one_label_is_enough_to_run(case):
    _, _, info = fit(case, labeled(1, 30, np.nan), HPARAMS._replace(steps=jnp.int32(5)))
    assert (np.asarray(info.failed_at) == -1).all()


@every_posterior
def test_it_learns(case):
    x, y = problem()
    accuracy = np.mean(np.asarray(predictive(case).log_probs(x[30:])).argmax(-1) == y[30:])
    assert accuracy > case.needs


@every_posterior
def test_a_warm_fit_begins_halfway_between_the_last_one_and_a_fresh_one(case):
    if case.posterior.warm is None:
        pytest.skip("it has no warm beginning")
    init, _ = programs(case)
    fresh, old = init(jax.random.key(9), labeled().x[0]), fitted(case)
    warm = jax.jit(case.posterior.warm)(old, fresh)
    assert jax.tree.structure(warm) == jax.tree.structure(fresh)
    for between, first, second in zip(
        *(numbers(weights(state)) for state in (warm, old, fresh)), strict=True
    ):
        ends = np.stack([first, second])
        assert (between >= ends.min(0) - 1e-5).all() and (between <= ends.max(0) + 1e-5).all()
    assert not same(weights(warm), weights(fresh))


def test_an_ensemble_has_exactly_its_members():
    case = next(c for c in POSTERIORS if c.name == "ensemble")
    with pytest.raises(errors.WrongSize, match="6 members") as error:
        case.posterior.draw(jax.random.key(0), fitted(case), 5)
    assert error.value.argument == "num_draws"
    with pytest.raises(errors.WrongSize) as error:
        posteriors.ensemble(MLP, members=1)
    assert error.value.argument == "members"


def test_the_rate_of_prediction_is_the_rate_of_training():
    case = posteriors.mc_dropout(MLP)
    x = problem()[0]
    state = case.init(jax.random.key(0), x[0])
    state, _ = case.fit(jax.random.key(1), state, labeled(), types.HParams(dropout=0.45, steps=1))
    assert float(state.rate) == pytest.approx(0.45)


def softmax_too_many(w, x, key):
    return jax.nn.softmax(x @ w + (0.0 if key is None else jax.random.normal(key, (CLASSES,))))


def several_rows(w, x, key):
    return jnp.stack([x @ w, x @ w]) + (0.0 if key is None else jax.random.normal(key, (CLASSES,)))


def two_things(w, x, key):
    return x @ w, x


FACTORIES = {
    "point": posteriors.point,
    "mc_dropout": posteriors.mc_dropout,
    "ensemble": posteriors.ensemble,
    "variational": posteriors.variational,
}


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
@pytest.mark.parametrize("traced", [False, True])
def test_networks_of_other_outputs_are_refused_at_init(factory, traced):
    for apply, error, match in (
        (softmax_too_many, errors.NotLogProbabilities, "last softmax"),
        (several_rows, errors.WrongShape, rf"\(2, {CLASSES}\)"),
        (two_things, errors.WrongShape, rf"\(\({CLASSES},\), \({FEATURES},\)\)"),
    ):
        posterior = factory(
            networks.from_functions(lambda key, x: jnp.ones((x.size, CLASSES)), apply)
        )
        init = jax.jit(posterior.init) if traced else posterior.init
        with pytest.raises(error, match=match) as caught:
            init(jax.random.key(0), jnp.zeros(FEATURES))
        assert caught.value.argument == "network"


def test_outputs_that_only_look_like_probabilities_pass():
    """Logits that are not negative; numbers that are no classes; whole-number inputs."""
    for apply, options in (
        (lambda w, x, key: jnp.abs(x @ w), {}),
        (lambda w, x, key: jax.nn.log_softmax(x @ w), {}),
        (lambda w, x, key: jax.nn.softmax(x @ w)[:2], {"likelihood": likelihoods.gaussian()}),
    ):
        posteriors.point(
            networks.from_functions(lambda key, x: jnp.ones((x.size, CLASSES)), apply), **options
        ).init(jax.random.key(0), jnp.zeros(FEATURES))
    tokens = networks.from_functions(
        lambda key, x: jnp.ones((50, CLASSES)), lambda table, x, key: table[x].sum(0)
    )
    posteriors.point(tokens).init(jax.random.key(0), jnp.zeros(FEATURES, jnp.int32))


def depths(program: str) -> list[int]:
    """In how many loops each matrix product of a compiled program stands, read off its text."""
    blocks = {
        m[1]: m[0]
        for m in re.finditer(
            r"^(?:ENTRY )?%?([\w.\-]+) \(.*?\n\}", program, re.MULTILINE | re.DOTALL
        )
    }
    found = []

    def visit(name, depth):
        for line in blocks[name].splitlines()[1:]:
            found.extend([depth] * bool(re.search(r" (dot|convolution)\(", line)))
            for role, called in re.findall(r"(body|condition|calls|to_apply)=%?([\w.\-]+)", line):
                visit(called, depth + (role == "body"))

    visit(re.search(r"^ENTRY %?([\w.\-]+)", program, re.MULTILINE)[1], 0)
    return sorted(found)


@pytest.mark.skipif(not _chunks.on_cpu(), reason="the loop over draws is that of the CPU")
def test_what_stands_before_the_first_dropout_is_computed_once():
    """The compiler lifts it out of the loop over draws: two products of the MLP, one of them in no
    loop (or in that over chunks alone).
    """
    case = next(case for case in POSTERIORS if case.name == "mc_dropout")
    model = predictive(case)

    def program(ask, rows):
        bound = lambda state, draws, x: ask(bind(case.posterior, state, draws, jnp.float32(1.0)), x)
        x = jax.ShapeDtypeStruct((rows, FEATURES), jnp.float32)
        return jax.jit(bound).lower(model.model.state, model.model.draws, x).compile().as_text()

    assert depths(program(lambda m, x: m(x), POOL)) == [0, 1]
    assert depths(program(lambda m, x: m.log_probs(x), 3000)) == [1, 2]
