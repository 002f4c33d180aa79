"""A share of every batch at random: drawn, marked, and what corrects the temperature."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from laws import DROPOUT, HPARAMS, TEMPERATURE, TOP, problem, same

import bayesal
from bayesal import calibrate, errors, likelihoods
from bayesal.loop import _audit as audit
from bayesal.types import Gaussian, Scaling, Selection

X, Y = problem()
SHORT = HPARAMS._replace(steps=jnp.int32(20))
KEY = jax.random.key(0)


def build(**options):
    return bayesal.learner(
        DROPOUT,
        **(
            {
                "strategy": TOP,
                "size": 4,
                "capacity": 40,
                "num_draws": 6,
                "hparams": SHORT,
                "audit": 0.25,
            }
            | options
        ),
    )


LEARNER = build(calibrate=TEMPERATURE)
SEEN = []  # what was a fair sample, as `tell` found it


@pytest.fixture(scope="module")
def states():
    """After the first labels, and after two more rounds."""
    corrected = calibrate.corrected

    def spy(calibrator, prediction, labels, weights, audit):
        jax.debug.callback(lambda a, w: SEEN.append((np.asarray(a), np.asarray(w))), audit, weights)
        return corrected(calibrator, prediction, labels, weights, audit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "corrected", spy)  # while `tell` is traced
        found = [LEARNER.tell(LEARNER.init(KEY, X), X, np.arange(10), Y[:10])]
    for _ in range(2):
        picks = np.asarray(LEARNER.ask(found[-1], X).indices)
        found.append(LEARNER.tell(found[-1], X, picks, Y[picks]))
    jax.effects_barrier()
    return found


def front(state):
    """The audit by hand: walk along the random order for as long as rows have labels."""
    known = set(np.asarray(state.ledger.indices)[: int(state.ledger.count)].tolist())
    out = []
    for row in np.argsort(np.asarray(audit.lots(state.key, len(X)))).tolist():
        if row not in known:
            return out, row
        out.append(row)
    return out, None


def test_a_batch_begins_with_its_audit_and_the_rest_is_the_strategys(states):
    selection = LEARNER.ask(states[0], X)
    picks = np.asarray(selection.indices)
    assert np.asarray(selection.audit).tolist() == [True, False, False, False]
    assert picks[0] == front(states[0])[1] and np.isnan(selection.scores[0])
    alone = np.asarray(build(audit=0.0).ask(states[0], X).indices)
    assert picks[1:].tolist() == [row for row in alone.tolist() if row != picks[0]][:3]
    assert build(audit=0.0).ask(states[0], X).audit is None
    assert same(selection, LEARNER.ask(states[0], X))


def test_the_ledger_says_which_labels_are_the_audit(states):
    for state in states:
        rows = np.asarray(state.ledger.indices)[np.asarray(bayesal.audit_mask(state, X))]
        assert sorted(rows.tolist()) == sorted(front(state)[0])
    assert int(np.sum(bayesal.audit_mask(states[-1], X))) >= 2


def test_other_keys_audit_other_rows(states):
    state = LEARNER.tell(LEARNER.init(jax.random.key(1), X), X, np.arange(10), Y[:10])
    assert int(LEARNER.ask(state, X).indices[0]) != int(LEARNER.ask(states[0], X).indices[0])


def test_a_partial_answer_leaves_the_audit_to_be_asked_again(states):
    picks = np.asarray(LEARNER.ask(states[0], X).indices)
    state = LEARNER.tell(states[0], X, picks[1:], Y[picks[1:]])
    assert int(LEARNER.ask(state, X).indices[0]) == picks[0]


def test_a_mean_over_the_audit_is_that_of_the_pool_whatever_is_labeled_besides():
    """Rows 0-9 of 30 are labeled for another reason: on average over keys they are a third of the
    audit.
    """
    free = jnp.arange(30) >= 10

    def one(key):
        lot = audit.lots(key, 30)
        state = free
        for _ in range(4):
            state = state.at[audit.draw(lot, state, 2)].set(False)
        return jnp.where(~state, audit.fair(lot, state, jnp.arange(30)), False)

    held = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(KEY, 4000)))
    assert held[:, 10:].sum(1).tolist() == [8] * 4000  # what was drawn
    share = held[:, :10].sum(1) / held.sum(1)
    assert abs(share.mean() - 1 / 3) < 4.5 * share.std() / np.sqrt(4000)
    with_the_next = (held[:, :10].sum(1)) / (
        held.sum(1) + 1
    )  # to stop after a row without a label would count those too often
    assert abs(with_the_next.mean() - 1 / 3) > 4.5 * share.std() / np.sqrt(4000)


def test_calibration_knows_the_audit(states):
    for state in states:
        want = np.asarray(bayesal.audit_mask(state, X)), np.arange(40) < int(state.ledger.count)
        assert any(all((a == b).all() for a, b in zip(seen, want, strict=True)) for seen in SEEN)
        assert np.isfinite(float(state.temperature))
    assert 0 < int(np.sum(bayesal.audit_mask(states[-1], X))) < 18


LOG_P = jax.nn.log_softmax(3 * jax.random.normal(jax.random.key(5), (4, 60, 3)))
LUCK = (
    jax.random.gumbel(jax.random.key(6), (60, 3))
    * jnp.where(jnp.arange(60) < 30, 0.5, 3.0)[:, None]
)  # the audit's labels are easy ones
LABELS = jnp.argmax(LOG_P.mean(0) + LUCK, axis=-1).astype(jnp.int32)
VALID, NONE = jnp.ones(60, bool), jnp.zeros(60, bool)


@pytest.mark.parametrize(
    "calibrator", [TEMPERATURE, calibrate.vector()], ids=["temperature", "vector"]
)
def test_a_correction_is_one_temperature_on_top(calibrator):
    alone, found = (
        calibrator(LOG_P, LABELS, VALID),
        calibrate.corrected(calibrator, LOG_P, LABELS, VALID, jnp.arange(60) < 30),
    )
    first = likelihoods.temper(LOG_P, alone.temperature)
    second = calibrate.temperature(prior_std=0.25, doubt=0.0)(first, LABELS, jnp.arange(60) < 30)
    assert abs(float(jnp.log(second.temperature))) > 0.01
    np.testing.assert_allclose(
        likelihoods.temper(LOG_P, found.temperature),
        likelihoods.temper(first, second.temperature),
        atol=2e-5,
    )
    assert float(found.nll_after) == pytest.approx(
        float(
            -jnp.mean(
                likelihoods.log_likelihood(
                    likelihoods.average(likelihoods.temper(LOG_P, found.temperature)), LABELS
                )[:30]
            )
        ),
        rel=1e-4,
    )
    for a, b in zip(
        jax.tree.leaves(calibrate.corrected(calibrator, LOG_P, LABELS, VALID, NONE).temperature),
        jax.tree.leaves(alone.temperature),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)  # nothing is fair yet


@pytest.mark.slow
def test_the_more_the_audit_holds_the_less_the_first_fit_matters():
    """Chosen labels are all right, so that they want T near 0; the audit's follow softmax(log p /
    3).
    """

    def gap(rows):
        log_p = jax.nn.log_softmax(3 * jax.random.normal(jax.random.key(rows), (1, 2 * rows, 3)))
        fair = jnp.arange(2 * rows) < rows
        drawn = jax.random.categorical(jax.random.key(rows + 1), log_p[0] / 3)
        labels = jnp.where(fair, drawn, jnp.argmax(log_p[0], axis=-1)).astype(jnp.int32)
        all_alike, found = (
            f.temperature
            for f in (
                TEMPERATURE(log_p, labels, fair | True),
                calibrate.corrected(TEMPERATURE, log_p, labels, fair | True, fair),
            )
        )
        return abs(math.log(float(found) / 3)), abs(math.log(float(all_alike) / 3))

    few, many = gap(16), gap(2000)
    assert few[0] < few[1] and many[0] < 0.1 < many[1]


def test_a_correction_of_real_labels():
    draws = Gaussian(jnp.zeros((2, 40)), jnp.ones((2, 40)))
    y = jnp.where(jnp.arange(40) < 20, 3.0, 0.1) * jnp.tile(jnp.array([1.0, -1.0]), 20)
    found = calibrate.corrected(
        calibrate.variance(), draws, y, jnp.ones(40, bool), jnp.arange(40) >= 20
    )
    alone = calibrate.variance()(draws, y, jnp.ones(40, bool))
    assert 1 / 401 < float(found.temperature) < float(alone.temperature)


def test_a_state_has_room_for_the_scaling_of_a_vector():
    start = build(audit=0.0, calibrate=calibrate.vector()).init(KEY, X)
    assert isinstance(start.temperature, Scaling)
    assert (
        start.temperature.temperature.tolist() == [1.0] * 3
        and start.temperature.bias.tolist() == [0.0] * 3
    )


@pytest.mark.slow
def test_a_vector_calibrates_a_learner_and_keeps_its_structure():
    learner = build(audit=0.0, calibrate=calibrate.vector())
    start = learner.init(KEY, X)
    state = learner.tell(start, X, np.arange(10), Y[:10])
    shapes = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
    assert shapes(start) == shapes(state) and np.isfinite(state.temperature.temperature).all()
    assert float(np.ptp(state.temperature.bias)) > 0
    log_probs = bayesal.predictive_of(DROPOUT, state, 6).log_probs(X)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1.0, atol=1e-5)
    assert len(learner.ask(state, X).indices) == 4


@pytest.mark.slow
def test_a_small_pool_is_audited_to_its_end():
    x, y = X[:13], Y[:13]
    learner = build(capacity=13)
    state = learner.tell(learner.init(KEY, x), x, np.arange(5), y[:5])
    sizes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while int(state.ledger.count) < 13:
            picks = np.asarray(learner.ask(state, x).indices)
            assert len(set(picks.tolist())) == len(picks) and picks.min() >= 0
            sizes.append(len(picks))
            state = learner.tell(state, x, picks, y[picks])
    assert sizes == [4, 4] and bayesal.audit_mask(state, x).all()


def test_what_certifies_a_greedy_batch_goes_on_after_the_audit():
    picked = Selection(
        jnp.array([5, 2]),
        jnp.array([0.4, 0.1]),
        joint=jnp.array([0.4, 0.5]),
        saturated=jnp.array([False, True]),
    )
    found = audit.shown(audit.before(jnp.array([7]), picked))
    assert found.indices.tolist() == [7, 5, 2] and found.audit.tolist() == [True, False, False]
    np.testing.assert_array_equal(found.joint, np.float32([0.0, 0.4, 0.5]))
    assert (
        found.saturated.tolist() == [False, False, True]
        and np.isnan(found.scores[0])
        and found.scores[1:].tolist() == picked.scores.tolist()
    )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"audit": 1.0}, errors.OutOfRange),
        ({"audit": -0.1}, errors.OutOfRange),
        ({"audit": 0.5, "size": 1}, errors.WrongSize),
    ],
)
def test_audits_that_cannot_be(options, error):
    with pytest.raises(error, match="`audit`") as caught:
        build(**options)
    assert caught.value.argument == "audit"


def test_calibrators_of_the_other_kind_are_refused():
    with pytest.raises(errors.WrongType, match=r"calibrate\.temperature") as caught:
        build(calibrate=calibrate.variance())
    assert caught.value.argument == "calibrate"
    with pytest.raises(errors.WrongType, match="`calibrate`"):
        oracles.as_users_do(build)(calibrate=0.5)
