"""The loop: pure, in order, compiled once, and no way to hold it wrong without a sentence that says
so.
"""

import gc
import math
import subprocess
import sys
import warnings
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import DROPOUT as POSTERIOR
from laws import HPARAMS, MLP, TEMPERATURE, elephant, problem, same
from laws import TOP as STRATEGY

import bayesal
from bayesal import acquire, errors, networks, posteriors, retune, scores
from bayesal.loop import _folds as folds
from bayesal.types import About, HParams, Labeled

X, Y = problem()
SHORT = HPARAMS._replace(steps=jnp.int32(20))
BATCH_BALD = acquire.batch_bald(configurations=50, candidates=16)
KEY = jax.random.key(0)


def build(posterior=POSTERIOR, strategy=STRATEGY, **options):
    return bayesal.learner(
        posterior,
        strategy,
        **({"size": 4, "capacity": 40, "num_draws": 6, "hparams": SHORT} | options),
    )


LEARNER = build()


@pytest.fixture(scope="module")
def state():
    """After the first labels."""
    return LEARNER.tell(LEARNER.init(KEY, X), X, np.arange(10), Y[:10])


@pytest.fixture(scope="module")
def asked(state):
    return np.asarray(LEARNER.ask(state, X).indices)


def labeled_rows(state):
    return np.asarray(state.ledger.indices)[: int(state.ledger.count)]


# --- what the verbs do
#
#
# -------------------------------------------------------------------------------------------------


def test_asking_twice_is_the_same_and_changes_nothing(state):
    before = jax.tree.map(jnp.copy, state)
    assert same(LEARNER.ask(state, X), LEARNER.ask(state, X))
    assert same(before, state)


def test_telling_twice_is_the_same_and_changes_nothing(state, asked):
    before = jax.tree.map(jnp.copy, state)
    assert same(LEARNER.tell(state, X, asked, Y[asked]), LEARNER.tell(state, X, asked, Y[asked]))
    assert same(before, state)


def test_the_state_keeps_its_structure(state, asked):
    start = LEARNER.init(KEY, X)
    later = LEARNER.tell(state, X, asked, Y[asked])
    shapes = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
    assert shapes(start) == shapes(state) == shapes(later)


def test_tell_appends_in_order(state, asked):
    told = asked[[2, 0, 3]]
    new = LEARNER.tell(state, X, told, Y[told])
    assert labeled_rows(new).tolist() == [*range(10), *told]
    assert np.asarray(new.ledger.labels)[:13].tolist() == [*Y[:10], *Y[told]]
    assert int(new.round) == int(state.round) + 1


def test_lists_and_jax_arrays_are_fine(state, asked):
    one = LEARNER.tell(state, X, asked, Y[asked])
    assert same(one, LEARNER.tell(state, X, asked.tolist(), Y[asked].tolist()))
    assert same(one, LEARNER.tell(state, jnp.asarray(X), jnp.asarray(asked), jnp.asarray(Y[asked])))


def test_ask_takes_the_predictive_that_users_get(state, asked):
    values = np.array(scores.bald(bayesal.predictive_of(POSTERIOR, state, 6)(X)))
    values[labeled_rows(state)] = -np.inf
    np.testing.assert_array_equal(np.argsort(-values, kind="stable")[:4], asked)


def test_another_round_draws_other_masks(state, asked):
    later = LEARNER.tell(state, X, asked, Y[asked])
    first, second = (
        jax.random.key_data(bayesal.predictive_of(POSTERIOR, s, 6).model.draws)
        for s in (state, later)
    )
    assert not (np.asarray(first)[:, None] == np.asarray(second)).all(-1).any()


@pytest.mark.parametrize(
    "strategy", [acquire.uniform(), STRATEGY, BATCH_BALD], ids=["uniform", "top", "batch_bald"]
)
def test_a_small_pool_is_labeled_to_its_end(strategy):
    x, y = X[:19], Y[:19]
    learner = build(strategy=strategy, capacity=19)
    state = learner.tell(learner.init(KEY, x), x, np.arange(5), y[:5])
    sizes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # six draws are soon used up
        while int(state.ledger.count) < 19:
            before = set(labeled_rows(state).tolist())
            picks = np.asarray(learner.ask(state, x).indices)
            assert not before & set(picks.tolist()) and len(set(picks.tolist())) == len(picks)
            sizes.append(len(picks))
            state = learner.tell(state, x, picks, y[picks])
    assert sizes == [4, 4, 4, 2]
    assert sorted(labeled_rows(state).tolist()) == list(range(19))
    with pytest.raises(errors.WrongSize, match="nothing left") as error:
        learner.ask(state, x)
    assert error.value.argument == "x"


def test_read_only_arrays_stay_as_they_are(state, asked):
    x, rows, labels = X.copy(), asked.copy(), Y[asked].copy()
    for a in (x, rows, labels):
        a.flags.writeable = False
    LEARNER.ask(state, x)
    LEARNER.tell(state, x, rows, labels)
    assert same((x, rows, labels), (X, asked, Y[asked]))


# --- compiled once
#
#
# -------------------------------------------------------------------------------------------------


def test_one_compilation_per_verb_over_five_rounds():
    traces = {"fit": 0, "score": 0}

    def counted(name, function):
        def traced(*args):
            traces[name] += 1
            return function(*args)

        return traced

    posterior = POSTERIOR._replace(fit=counted("fit", POSTERIOR.fit))
    learner = build(
        posterior,
        acquire.top(counted("score", scores.bald)),
        calibrate=TEMPERATURE,
        retune=retune.successive_halving(
            2, retune.space(steps=(10, 20)), proposer=retune.local_proposer()
        ),
    )

    def one_round(state):
        picks = np.asarray(learner.ask(state, X).indices)
        return learner.tell(state, X, picks, Y[picks])

    state = learner.tell(learner.init(KEY, X), X, np.arange(10), Y[:10])
    state = one_round(state)
    after_one = dict(traces)
    assert (
        after_one["score"] == 1 and after_one["fit"] == 2
    )  # in the race, and once more for the shapes of its fits; the final fit is one of the race's
    for _ in range(4):
        state = one_round(state)
    assert traces == after_one


@pytest.mark.skipif(not hasattr(jax, "no_tracing"), reason="this jax cannot forbid tracing")
def test_a_warm_round_traces_nothing(state, asked):
    LEARNER.tell(state, X, asked, Y[asked])
    with jax.no_tracing(True):
        picks = np.asarray(LEARNER.ask(state, X).indices)
        LEARNER.tell(state, X, picks, Y[picks])


# --- what is refused
#
#
# -------------------------------------------------------------------------------------------------

BAD = {
    "label_too_high": (lambda a: (a, [3, 0, 0, 0]), errors.WrongLabel, "labels"),
    "label_negative": (lambda a: (a, [-2, 0, 0, 0]), errors.WrongLabel, "labels"),
    "label_float": (lambda a: (a, np.zeros(4)), errors.WrongLabel, "labels"),
    "label_one_hot": (
        lambda a: (a, np.eye(3, dtype=int)[[0, 1, 2, 0]]),
        errors.WrongLabel,
        "labels",
    ),
    "label_missing": (lambda a: (a, [0, 0, 0]), errors.WrongLabel, "labels"),
    "already_labeled": (lambda a: ([a[0], 3], [0, 0]), errors.WrongIndex, "indices"),
    "repeated": (lambda a: ([a[0], a[0]], [0, 0]), errors.WrongIndex, "indices"),
    "too_high": (lambda a: ([a[0], len(X)], [0, 0]), errors.WrongIndex, "indices"),
    "negative": (lambda a: ([a[0], -1], [0, 0]), errors.WrongIndex, "indices"),
    "float_index": (lambda a: (a.astype(float), [0, 0, 0, 0]), errors.WrongIndex, "indices"),
    "mask": (lambda a: (np.isin(np.arange(len(X)), a), [0, 0, 0, 0]), errors.WrongIndex, "indices"),
    "empty": (lambda a: (a[:0], np.zeros(0, int)), errors.WrongSize, "indices"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_answers_are_refused_and_the_state_is_unchanged(name, state, asked):
    make, kind, argument = BAD[name]
    before = jax.tree.map(jnp.copy, state)
    with pytest.raises(kind) as error:
        LEARNER.tell(state, X, *make(asked))
    assert error.value.argument == argument
    assert f"`{argument}`" in str(error.value)
    assert same(before, state)
    assert np.asarray(LEARNER.ask(state, X).indices).tolist() == asked.tolist()


def test_rows_are_named(state, asked):
    with pytest.raises(errors.WrongIndex) as error:
        LEARNER.tell(state, X, [asked[0], 3, 5], [0, 0, 0])
    assert error.value.rows.tolist() == [3, 5]


def test_any_rows_without_a_label_may_be_told(state, asked):
    rows = np.setdiff1d(np.arange(10, 128), asked)[:2]
    assert labeled_rows(LEARNER.tell(state, X, rows, Y[rows])).tolist() == [*range(10), *rows]
    with pytest.raises(errors.WrongIndex, match="relabel"):  # no label twice
        LEARNER.tell(state, X, [0], [0])


def test_the_ledger_cannot_overflow(state):
    with pytest.raises(errors.WrongSize, match="capacity") as error:
        LEARNER.tell(state, X, np.arange(10, 41), Y[10:41])
    assert error.value.argument == "indices"
    assert int(LEARNER.tell(state, X, np.arange(10, 40), Y[10:40]).ledger.count) == 40


@pytest.mark.parametrize(
    "x",
    [np.zeros((0, 16), np.float32), np.zeros(16, np.float32), np.array([["a", "b"]])],
    ids=["empty", "vector", "text"],
)
def test_bad_pools_are_refused(state, x):
    for call in (
        lambda: LEARNER.init(KEY, x),
        lambda: LEARNER.ask(state, x),
        lambda: LEARNER.tell(state, x, [0], [0]),
    ):
        with pytest.raises(errors.BayesalError) as error:
            call()
        assert error.value.argument == "x"


def test_an_old_style_key_is_refused():
    for key in (jax.random.PRNGKey(0), 0.0, jax.random.split(KEY, 2)):
        with pytest.raises(errors.WrongShape) as error:
            LEARNER.init(key, X)
        assert error.value.argument == "key"


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"size": 0}, "size"),
        ({"size": -3}, "size"),
        ({"size": True}, "size"),
        ({"size": 41}, "capacity"),
        ({"capacity": 0}, "capacity"),
        ({"num_folds": 1}, "num_folds"),
        ({"num_draws": 0}, "num_draws"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be(options, argument):
    with pytest.raises(errors.WrongSize) as error:
        build(**options)
    assert error.value.argument == argument


def test_an_ensemble_has_exactly_its_members():
    ensemble = posteriors.ensemble(MLP, members=3)
    with pytest.raises(errors.WrongSize, match="3 members") as error:
        build(ensemble, num_draws=6)
    assert error.value.argument == "num_draws"
    build(ensemble, num_draws=3), build(ensemble, num_draws=None)


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        ("point", STRATEGY),
        ("rate_0", STRATEGY),
        pytest.param("rate_0", BATCH_BALD, marks=pytest.mark.slow),
        ("one_draw", STRATEGY),
    ],
    ids=["point", "rate_0", "rate_0_batch_bald", "one_draw"],
)
def test_a_ranking_that_says_nothing_is_refused(kind, strategy):
    posterior = {"point": posteriors.point(MLP)}.get(kind, POSTERIOR)
    hparams = SHORT._replace(dropout=jnp.float32(0.0)) if kind == "rate_0" else SHORT
    learner = build(posterior, strategy, hparams=hparams, num_draws=1 if kind == "one_draw" else 6)
    state = learner.tell(learner.init(KEY, X), X, np.arange(10), Y[:10])
    with pytest.raises(errors.ConstantScores, match="without dropout") as error:
        learner.ask(state, X)
    assert error.value.argument == "scores"


def linear(classes=3, key=True, start=jax.random.normal):
    """A linear network, with dropout on its inputs or without."""

    def apply(params, x, k):
        return (x * jax.random.bernoulli(k, 0.5, x.shape) if key and k is not None else x) @ params

    return networks.from_functions(lambda k, x: start(k, (16, classes)), apply, embed=None)


def test_a_network_without_dropout_is_refused_before_anything_is_trained():
    with pytest.raises(errors.ConstantScores, match="no dropout") as error:
        build(posteriors.mc_dropout(linear(key=False))).init(KEY, X)
    assert error.value.argument == "network"


def test_one_output_is_no_class():
    learner = build(posteriors.mc_dropout(linear(1)), acquire.uniform())
    with pytest.raises(errors.WrongShape, match="C = 1") as error:
        learner.tell(learner.init(KEY, X), X, np.arange(10), np.zeros(10, int))
    assert error.value.argument == "posterior"


@pytest.mark.parametrize(
    ("network", "match"),
    [
        (lambda: networks.mlp(5, 3), "one example of this pool, of shape"),
        (
            lambda: networks.from_functions(
                lambda k, x: jnp.zeros((16, 3)),
                lambda p, x, k, rate: (x if rate == 0 else x * k) @ p,
                takes_rate=True,
            ),
            "networks.dropout",
        ),
    ],
    ids=["shape", "stock_dropout"],
)
def test_a_network_that_cannot_run_is_named_at_the_start(network, match):
    with pytest.raises(errors.BayesalError, match=match) as error:
        build(
            posteriors.ensemble(network(), members=2)
            if match.startswith("one")
            else posteriors.mc_dropout(network()),
            num_draws=None,
        ).init(KEY, X)
    assert error.value.argument == "posterior"


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda raw: raw(bayesal.learner)(MLP, STRATEGY, size=4, capacity=40), "posterior"),
        (lambda raw: raw(bayesal.learner)(POSTERIOR, "bald", size=4, capacity=40), "strategy"),
        (lambda raw: raw(posteriors.mc_dropout)(object()), "network"),
        (lambda raw: raw(acquire.top)("bald"), "score"),
        (lambda raw: raw(acquire.prefilter)(10, scores.bald, "top"), "then"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_things_of_another_kind_are_named(make, argument):
    with pytest.raises(errors.WrongType) as error:
        make(oracles.as_users_do)
    assert error.value.argument == argument


def test_a_fresh_state_says_that_nothing_happened_yet():
    start = LEARNER.init(KEY, X)
    assert (
        int(start.report.fit.failed_at) == -1
        and float(start.report.fit.loss) == 0.0
        and float(start.report.calibration.temperature) == 1.0
    )
    flat = build(posteriors.mc_dropout(linear(start=lambda key, shape: jnp.zeros(shape))))
    assert len(flat.ask(flat.init(KEY, X), X).indices) == 4  # from features: nothing is predicted


def test_the_pool_is_not_kept_alive(state):
    x = jnp.array(X)
    watched = weakref.ref(x)
    LEARNER.ask(state, x)
    del x
    gc.collect()
    assert watched() is None


def test_a_full_ledger_is_said_before_anyone_labels_and_can_grow(state):
    rows = np.arange(10, 38)
    nearly = LEARNER.tell(state, X, rows, Y[rows])  # 38 of 40
    picks = np.asarray(LEARNER.ask(nearly, X).indices)
    assert len(picks) == 2
    full = LEARNER.tell(nearly, X, picks, Y[picks])
    with pytest.raises(errors.WrongSize, match="grow") as error:
        LEARNER.ask(full, X)
    assert error.value.argument == "capacity"
    larger = build(capacity=44)
    grown = bayesal.grow(full, 44)
    assert labeled_rows(grown).tolist() == labeled_rows(full).tolist()
    assert len(larger.ask(grown, X).indices) == 4
    with pytest.raises(errors.WrongSize):
        bayesal.grow(full, 39)


def test_weakly_typed_parameters_compile_nothing_twice():
    weak = networks.from_functions(
        lambda key, x: {"w": jnp.zeros((16, 3)), "b": jnp.full((3,), 0.1)},
        lambda p, x, key: x @ p["w"] + p["b"],
    )
    traces = []
    posterior = posteriors.point(weak)
    posterior = posterior._replace(
        fit=lambda *args: traces.append(1) or posteriors.point(weak).fit(*args)
    )
    learner = build(posterior, acquire.uniform())
    state = learner.init(KEY, X)
    for rows in (np.arange(4), np.arange(4, 8)):
        state = learner.tell(state, X, rows, Y[rows])
    assert len(traces) == 1


def test_half_precision_parameters_stay_so():
    half = networks.from_functions(
        lambda key, x: jax.random.normal(key, (16, 3), jnp.bfloat16),
        lambda p, x, key: x.astype(jnp.bfloat16) @ p,
    )
    learner = build(posteriors.point(half), acquire.uniform())
    state = learner.tell(learner.init(KEY, X), X, np.arange(10), Y[:10])
    assert state.posterior.dtype == jnp.bfloat16 and np.isfinite(state.report.fit.loss)


def test_nan_in_the_labeled_rows_names_the_round():
    x = X.copy()
    x[3] = np.nan
    start = LEARNER.init(KEY, x)
    before = jax.tree.map(jnp.copy, start)
    with pytest.raises(errors.NonFinite, match="round 0") as error:
        LEARNER.tell(start, x, np.arange(10), Y[:10])
    assert error.value.argument == "x" and error.value.rows.tolist() == [3] and same(before, start)


def test_a_cut_pool_is_refused_instead_of_training_on_other_rows(state):
    cut = X[: int(np.asarray(state.ledger.indices).max())]
    for verb in (
        lambda: LEARNER.ask(state, cut),
        lambda: LEARNER.tell(state, cut, [0], [0]),
    ):
        with pytest.raises(errors.WrongSize, match="not the pool") as error:
            verb()
        assert error.value.argument == "x"


def test_hyperparameters_out_of_range_are_named():
    for field, value in (("dropout", 1.0), ("steps", -3), ("learning_rate", -1.0)):
        with pytest.raises(errors.WrongSize, match=field):
            build(hparams=HParams(**{field: value}))


def test_hyperparameters_that_are_none_are_named():
    learner = oracles.as_users_do(build)
    with pytest.raises(
        errors.UnknownName, match=r"no field learning_rat: did you mean learning_rate\?"
    ) as error:
        learner(hparams={"learning_rat": 1e-3, "steps": 10})
    assert error.value.argument == "hparams"
    for bad, match in (
        ({"steps": 10}, r"HParams\(\*\*values\)"),
        ({}, "HParams"),
        (1e-3, "float"),
        (HParams, "HParams"),
    ):
        with pytest.raises(errors.WrongType, match=match):
            learner(hparams=bad)
    with pytest.raises(TypeError, match="learning_rat"):
        HParams(learning_rat=1e-3)


def test_a_network_that_begins_with_nan_is_refused_before_any_label():
    broken = networks.from_functions(
        lambda key, x: {"w": jnp.zeros((16, 3)), "b": jnp.log(-jnp.ones(3))},
        lambda p, x, key: x @ p["w"] + p["b"],
    )
    with pytest.raises(errors.NonFinite, match=r"NaN in \['b'\]") as error:
        build(posteriors.point(broken), acquire.uniform()).init(KEY, X)
    assert error.value.argument == "posterior"


def test_a_network_of_probabilities_is_refused_by_the_learner():
    sure = networks.from_functions(
        lambda key, x: jnp.zeros((16, 3)), lambda w, x, key: jax.nn.softmax(x @ w)
    )
    with pytest.raises(errors.NotLogProbabilities, match="last softmax"):
        build(posteriors.point(sure), acquire.uniform()).init(KEY, X)


def test_nan_in_the_pool_is_never_picked(state):
    x = X.copy()
    x[10:20] = np.nan
    with pytest.warns(UserWarning, match="10 available points"):
        picks = np.asarray(LEARNER.ask(state, x).indices)
    assert not set(picks.tolist()) & set(range(10, 20))
    with pytest.raises(errors.BayesalError, match="round 1") as error:
        build(pool_changed="allow").ask(state, np.full_like(X, np.nan))
    assert isinstance(error.value, errors.NonFinite) and error.value.argument == "x"


@pytest.mark.parametrize(
    ("about", "most", "rest"),
    [(About.DRAWS, "log K = 0.40 nats", "BALD"), (About.TARGETS, "0.40 nats", "a bound on EPIG")],
)
def test_used_up_information_is_warned_about_in_words(state, about, most, rest):  # TRAPS 8
    batch = lambda key, aux, measured, again, available, size: bayesal.Selection(
        jnp.arange(20, 20 + size),
        jnp.ones(size),
        joint=jnp.ones(size),
        saturated=jnp.arange(size) >= 2,
        about=about,
        ceiling=jnp.float32(0.4),
    )
    used_up = bayesal.Strategy(measure=None, pick=batch)
    with pytest.warns(
        UserWarning,
        match=f"round 1: the first 2 of 4 picks use up 95 % of {most}.*near ties by {rest}",
    ):
        build(strategy=used_up).ask(state, X)


def test_a_rate_that_diverges_is_reported():
    fast = SHORT._replace(learning_rate=jnp.float32(1e38), weight_decay=jnp.float32(0.0))
    learner = build(hparams=fast)
    with pytest.raises(errors.TrainingFailed, match="learning_rate") as error:
        learner.tell(learner.init(KEY, X), X, np.arange(10), Y[:10])
    assert error.value.argument == "hparams"


def test_too_few_labels_for_the_folds():
    learner = build(calibrate=TEMPERATURE)
    with pytest.raises(errors.WrongSize, match="5 folds") as error:
        learner.tell(learner.init(KEY, X), X, [0, 1], Y[:2])
    assert error.value.argument == "labels"


def test_features_that_are_not_there():
    posterior = posteriors.mc_dropout(linear())
    learner = build(posterior)
    with pytest.raises(errors.MissingEmbed, match="embed") as error:
        bayesal.predictive_of(posterior, learner.init(KEY, X)).embed(X)
    assert error.value.argument == "posterior"


# --- held-out labels
#
#
# -------------------------------------------------------------------------------------------------


split = jax.jit(folds.split, static_argnums=2)


@given(st.integers(5, 40), st.sampled_from([(40, 3), (43, 4), (40, 2)]), st.integers(0, 1000))
def test_folds_are_a_partition(count, sizes, seed):
    capacity, number = sizes
    y = np.random.default_rng(seed).integers(0, 3, capacity).astype(np.int32)
    parts = split(
        jax.random.key(seed),
        Labeled(jnp.zeros((capacity, 1)), jnp.asarray(y), jnp.int32(count)),
        number,
    )
    held_out = [
        np.asarray(rows)[np.asarray(valid)]
        for rows, valid in zip(parts.test, parts.test_valid, strict=True)
    ]
    trained = [
        np.asarray(rows)[: int(n)] for rows, n in zip(parts.train, parts.train_count, strict=True)
    ]
    assert (
        len(held_out) == number + 1
        and len(held_out.pop()) == 0
        and sorted(trained.pop()) == list(range(count))
    )  # last: nothing left out
    assert sorted(np.concatenate(held_out).tolist()) == list(
        range(count)
    )  # each row once, padding never
    for out, into in zip(held_out, trained, strict=True):
        assert sorted([*out, *into]) == list(range(count))
    for label in range(3):
        sizes = [int((y[out] == label).sum()) for out in held_out]
        assert max(sizes) - min(sizes) <= 1  # stratified


def test_no_label_judges_what_it_was_fitted_on():
    x, y = np.stack([np.arange(64)] * 2, axis=1).astype(np.float32), np.zeros(64, int)
    posterior = elephant(0)
    learner = build(
        posterior,
        acquire.uniform(),
        capacity=64,
        num_folds=4,
        calibrate=TEMPERATURE,
        retune=retune.successive_halving(3, proposer=retune.local_proposer()),
    )
    state = learner.init(KEY, x)
    for count in (9, 4, 4):
        rows = (
            np.setdiff1d(np.arange(64), labeled_rows(state))[:count]
            if count == 9
            else np.asarray(learner.ask(state, x).indices)
        )
        state = learner.tell(state, x, rows, y[rows])
        # one fold that leaked would have loss 0
        np.testing.assert_allclose(state.report.candidate_losses, math.log(3), rtol=1e-5)
        assert float(state.report.calibration.nll_before) == pytest.approx(math.log(3), rel=1e-5)
        assert int(state.report.chosen) == 0
    model = bayesal.predictive_of(posterior, state, 2)
    assert (
        np.exp(model.log_probs(x))[labeled_rows(state), 0] > 0.99
    ).all()  # the final fit has seen them all


def test_a_candidate_that_diverges_never_wins():
    space = retune.space(learning_rate=(1e30, 1e30), weight_decay=None)
    learner = build(
        hparams=SHORT._replace(weight_decay=jnp.float32(0.0)),
        num_folds=2,
        retune=retune.successive_halving(2, space, proposer=retune.local_proposer()),
    )
    report = learner.tell(learner.init(KEY, X), X, np.arange(10), Y[:10]).report
    assert np.isinf(report.candidate_losses[1]) and np.isfinite(report.candidate_losses[0])
    assert int(report.chosen) == 0


@pytest.mark.slow
def test_the_temperature_is_fitted_on_the_candidates_own_predictions():
    """An ensemble's draws are its members, so the NLL before calibration must be the loss the
    retuner chose by, where it does not temper.
    """
    learner = build(
        posteriors.ensemble(MLP, members=2),
        num_draws=2,
        num_folds=2,
        calibrate=TEMPERATURE,
        retune=retune.successive_halving(
            3, retune.space(steps=(10, 40)), proposer=retune.local_proposer(), tempered=False
        ),
    )
    state = learner.tell(learner.init(KEY, X), X, np.arange(24), Y[:24])
    report = state.report
    assert report.candidate_losses.shape == (3,)
    assert float(report.calibration.nll_before) == pytest.approx(
        float(report.candidate_losses[report.chosen]), rel=1e-4
    )
    assert float(report.calibration.nll_after) <= float(report.calibration.nll_before) + 1e-5
    assert float(state.temperature) == float(report.calibration.temperature)
    chosen = jax.tree.map(lambda a: a[report.chosen], report.candidates)
    assert same(chosen, state.hparams)
    first = jax.tree.map(lambda a: a[0], report.candidates)
    assert same(first, HParams(*(jnp.asarray(v) for v in SHORT)))  # the incumbent is candidate 0


@pytest.mark.slow
def test_calibration_leaves_the_fit_alone(state):
    calibrated = build(calibrate=TEMPERATURE)
    other = calibrated.tell(calibrated.init(KEY, X), X, np.arange(10), Y[:10])
    assert float(other.temperature) != 1.0 and float(state.temperature) == 1.0
    for a, b in zip(
        jax.tree.leaves(other.posterior), jax.tree.leaves(state.posterior), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_key_is_an_argument(state):
    again, other = (
        LEARNER.tell(LEARNER.init(k, X), X, np.arange(10), Y[:10]) for k in (KEY, jax.random.key(1))
    )
    assert same(again, state) and not same(other.posterior, state.posterior)
    assert same(other.key, jax.random.key(1))  # kept as it was given: rounds are folded in


WIDE = """
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np, bayesal, warnings
warnings.filterwarnings('error', category=FutureWarning)
from bayesal import acquire, calibrate, networks, posteriors, retune, select
x, y = np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 3
learner = bayesal.learner(
    posteriors.mc_dropout(networks.mlp(6, 3, (8,))), acquire.batch_bald(configurations=20),
    size=4, capacity=40, num_draws=6, num_folds=2, hparams=bayesal.HParams(steps=5),
    retune=retune.successive_halving(2, retune.space(steps=(5, 10))),
    calibrate=calibrate.temperature())
state = learner.tell(learner.init(jax.random.key(0), x), x, np.arange(10), y[:10])
log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(3), size=(6, 30)))
targeted = select.batch_epig(jax.random.key(0), log_probs, log_probs[:, :5], 4, configurations=60)
print(len(set(learner.ask(state, x).indices.tolist())), len(set(targeted.indices.tolist())))
"""


@pytest.mark.slow
def test_everything_runs_where_jax_defaults_to_float64():
    done = subprocess.run(
        [sys.executable, "-c", WIDE],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["4", "4"]


# --- warm beginnings
#
#
# -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_warm_fit_begins_halfway_between_the_last_one_and_a_fresh_one(state, asked):
    still = SHORT._replace(steps=jnp.int32(0))  # no steps: what is found is where it began
    fresh = build(hparams=still).tell(state._replace(hparams=still), X, asked, Y[asked])
    warm = build(hparams=still, update="warm").tell(
        state._replace(hparams=still), X, asked, Y[asked]
    )
    halfway = jax.tree.map(
        lambda old, new: 0.5 * old + 0.5 * new, state.posterior.params, fresh.posterior.params
    )
    for a, b in zip(jax.tree.leaves(warm.posterior.params), jax.tree.leaves(halfway), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    first = build(hparams=still, update="warm")
    assert same(
        first.tell(first.init(KEY, X), X, np.arange(10), Y[:10]).posterior,
        build(hparams=still).tell(first.init(KEY, X), X, np.arange(10), Y[:10]).posterior,
    )


def test_beginnings_that_cannot_be_are_refused():
    with pytest.raises(errors.UnknownName, match="`update`"):
        build(update="lukewarm")
    with pytest.raises(errors.WrongType, match="update='fresh'") as caught:
        build(posteriors.gp_classification(3, waves=8), update="warm")
    assert caught.value.argument == "update"
