"""Dawid-Skene against plain Python and enumeration; laws of what it infers."""

import itertools
import warnings

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import people
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import bayesal
from bayesal import acquire, annotators, likelihoods, posteriors, scores
from bayesal.annotators import _asking, _em

ABSTAIN = annotators.ABSTAIN
pytestmark = [  # tiny tables
    pytest.mark.filterwarnings("ignore:no item has labels of two"),
    pytest.mark.filterwarnings("ignore:on items with several labels"),
]
TABLES = hnp.arrays(np.int32, (7, 4), elements=st.integers(ABSTAIN, 2))


def prior_of(seed, items, classes):
    return jax.nn.log_softmax(jax.random.normal(jax.random.key(seed), (items, classes)))


@pytest.mark.parametrize("steps", [1, 30])
@pytest.mark.parametrize("known", [False, True])
def test_em_is_that_of_plain_python(steps, known):
    _, answers = people.simulated(0, 30, [people.even(0.7, 3)] * 4, asked=0.7, abstaining=0.2)
    answers[3] = -1
    prior = prior_of(1, 30, 3) if known else None
    truth = annotators.dawid_skene(answers, classes=3, prior=prior, steps=steps)
    rows = np.exp(np.asarray(prior, np.float64)).tolist() if known else None
    posterior, model, objective = people.dawid_skene(answers.tolist(), 3, rows, steps=steps)
    assert_allclose(np.exp(truth.log_probs), posterior, atol=2e-4)
    assert_allclose(truth.confusion, model[0], atol=2e-4)
    assert_allclose(truth.abstain, model[1], atol=2e-4)
    assert_allclose(truth.info.objective, objective, rtol=1e-5)


@given(hnp.arrays(np.int32, (3, 3), elements=st.integers(ABSTAIN, 1)), st.integers(0, 99))
def test_the_truth_is_the_posterior_of_its_model_by_enumeration(answers, seed):
    prior = prior_of(seed, 3, 2)
    truth = annotators.dawid_skene(answers, classes=2, prior=prior, steps=20)
    confusion, abstain = (np.asarray(part, np.float64) for part in truth[1:3])
    mass = np.zeros((3, 2))
    for classes in itertools.product(range(2), repeat=3):
        p = 1.0
        for i, c in enumerate(classes):
            p *= np.exp(np.float64(prior[i, c]))
            for a, label in enumerate(answers[i]):
                if label == ABSTAIN:
                    p *= abstain[a, c]
                elif label >= 0:
                    p *= (1 - abstain[a, c]) * confusion[a, c, label]
        mass[range(3), classes] += p
    assert_allclose(np.exp(truth.log_probs), mass / mass.sum(axis=1, keepdims=True), atol=1e-5)


@given(TABLES, st.booleans(), st.sampled_from([annotators.dawid_skene, annotators.one_coin]))
def test_the_objective_never_falls(answers, known, infer):
    prior = prior_of(0, 7, 3) if known else None
    objective = np.asarray(infer(answers, classes=3, prior=prior, steps=30).info.objective)
    assert np.isfinite(objective).all()
    assert (np.diff(objective) > -1e-4).all()


@given(TABLES, st.permutations(range(4)), st.permutations(range(3)), st.permutations(range(7)))
def test_order_of_people_classes_and_items_does_not_matter(answers, who, what, which):
    who, what, which = map(np.asarray, (who, what, which))
    prior = prior_of(0, 7, 3)
    # `what[c]` is the new name of class c
    renamed = np.where(answers >= 0, what[np.maximum(answers, 0)], answers)[which][:, who]
    back = np.argsort(what)
    infer = lambda said, prior: annotators.dawid_skene(said, classes=3, prior=prior, steps=30)
    one, other = infer(answers, prior), infer(renamed, prior[which][:, back])
    assert_allclose(other.log_probs, one.log_probs[which][:, back], atol=1e-4)
    assert_allclose(other.confusion, one.confusion[who][:, back][:, :, back], atol=1e-4)
    assert_allclose(other.abstain, one.abstain[who][:, back], atol=1e-4)


def test_perfect_annotators_give_certainty():
    classes, answers = people.simulated(0, 300, [np.eye(3)] * 3)
    truth = annotators.dawid_skene(answers, classes=3)
    assert_array_equal(truth.log_probs.argmax(axis=1), classes)
    assert np.exp(truth.log_probs).max(axis=1).min() > 0.9999
    assert np.asarray(annotators.soft_labels(truth)[1]).min() > 0.999


def test_a_spammer_and_one_who_swaps_two_classes_are_found():
    swaps = np.eye(4)[[1, 0, 2, 3]] * 0.9 + 0.025
    matrices = [people.even(0.8, 4)] * 4 + [np.full((4, 4), 0.25), swaps]
    classes, answers = people.simulated(0, 800, matrices)
    truth = annotators.dawid_skene(answers, classes=4)
    assert (np.asarray(truth.log_probs.argmax(axis=1)) == classes).mean() > 0.95
    assert_allclose(truth.confusion[4], 0.25, atol=0.08)
    assert_allclose(truth.confusion[5], matrices[5], atol=0.08)


def test_classes_that_trade_names_are_less_probable():
    """The answers alone cannot tell: only the diagonal of the prior can."""
    _, answers = people.simulated(0, 40, [people.even(0.6, 3)] * 3)
    rows = [[1 / 3] * 3] * 40
    prior = jnp.full((40, 3), -jnp.log(3.0))
    truth = annotators.dawid_skene(answers, classes=3, prior=prior)
    confusion, abstain = (np.asarray(part, np.float64) for part in truth[1:3])
    found = []
    for names in itertools.permutations(range(3)):
        model = confusion[:, list(names)], abstain[:, list(names)], rows[0]
        log_likelihood = people.expect(answers.tolist(), rows, *model[:2])[1]
        value = people.objective(model, log_likelihood, answers.tolist(), 3.0, 0.5, False)
        found.append((log_likelihood, value))
    likelihoods_, objectives = zip(*found, strict=True)
    assert_allclose(likelihoods_, likelihoods_[0], rtol=1e-6)
    assert min(objectives[0] - np.array(objectives[1:])) > 1.0


@pytest.mark.parametrize("infer", [annotators.dawid_skene, annotators.one_coin])
def test_who_says_nothing_changes_nothing(infer):
    prior = prior_of(0, 5, 3)
    for silence in (-1, ABSTAIN):
        truth = infer(np.full((5, 2), silence), classes=3, prior=prior, steps=30)
        assert_allclose(truth.log_probs, prior, atol=1e-6)
        assert (
            truth.info.unanswered.all() and not np.asarray(annotators.soft_labels(truth)[1]).any()
        )
    _, answers = people.simulated(0, 20, [people.even(0.8, 3)] * 3)
    more = np.concatenate([answers, np.full((20, 1), ABSTAIN)], axis=1)
    alone, beside = (infer(said, classes=3, steps=30) for said in (answers, more))
    assert_allclose(beside.log_probs, alone.log_probs, atol=1e-5)
    assert_array_equal(beside.info.answers, [20, 20, 20, 0])


def test_an_abstention_is_evidence_and_no_vote():
    classes, answers = people.simulated(0, 200, [people.even(0.95, 2)] * 3)
    answers[:, 2] = np.where(classes == 1, ABSTAIN, answers[:, 2])  # she cannot tell a 1
    answers[:2] = [[-1, -1, ABSTAIN], [0, 1, ABSTAIN]]
    truth = annotators.dawid_skene(answers, classes=2)
    assert (np.exp(truth.log_probs[:2, 1]) > 0.95).all()
    assert truth.abstain[2, 1] > 0.9 and truth.abstain[2, 0] < 0.1
    assert_array_equal(truth.abstain[:2], 0.0)
    assert truth.info.unanswered[0] and not truth.info.unanswered[1]
    said = np.asarray(truth.counts[2]).sum() - 2 * (0.5 * 2 + 3)  # less the pseudo-answers
    assert_allclose(said, (answers[:, 2] >= 0).sum(), rtol=1e-4)


def test_without_overlap_one_coin_answers_and_says_so():
    answers = np.array([[0, -1], [-1, 2], [1, -1]])
    with pytest.warns(UserWarning, match="not identifiable"):
        truth = annotators.dawid_skene(answers, classes=3)
    assert truth.info.one_coin
    assert_array_equal(truth.log_probs.argmax(axis=1), [0, 2, 1])
    assert_allclose(np.exp(truth.log_probs).max(axis=1), 0.8, atol=1e-5)
    prior = prior_of(0, 3, 3)
    assert not annotators.dawid_skene(answers, classes=3, prior=prior).info.one_coin


def test_little_overlap_warns():
    _, answers = people.simulated(0, 40, [people.even(0.8, 3)] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        annotators.dawid_skene(answers, classes=3, steps=2)  # 13 labels per annotator and class
    with pytest.warns(UserWarning, match="4.7 labels per annotator and class, fewer than 10"):
        annotators.dawid_skene(answers[:14], classes=3, steps=2)


def test_one_coin_is_its_posterior_mean_where_the_classes_are_known():
    answers = np.array([[0, 1], [1, 1], [2, 2], [0, 1], [1, -1]])
    known = np.where(np.eye(3)[[0, 1, 2, 0, 1]] == 1, 0.0, -np.inf).astype(np.float32)
    truth = annotators.one_coin(answers, classes=3, prior=known)
    right = [(4 + 5) / (5 + 5), (4 + 2) / (5 + 4)]
    for a, accuracy in enumerate(right):
        assert_allclose(truth.confusion[a], people.even(accuracy, 3), rtol=1e-5)


def test_the_report_counts_answers_and_overlap():
    answers = np.array([[0, 1, -1], [1, -1, ABSTAIN], [-1, -1, -1], [0, 0, 0]])
    info = annotators.dawid_skene(answers, classes=2).info
    assert_array_equal(info.answers, [3, 2, 1])
    assert_array_equal(info.shared, [2, 2, 1])
    assert_array_equal(info.unanswered, [False, False, True, False])
    assert info.objective.shape == info.log_likelihood.shape == (100,)


def test_a_growing_campaign_compiles_when_it_doubles():
    infer = lambda items, persons: annotators.dawid_skene(
        np.zeros((items, persons), int), classes=2, prior=prior_of(0, items, 2), steps=7
    )
    programs = lambda: (_em.fit._cache_size(), _asking._information._cache_size())
    annotators.information(infer(5, 2))
    before = programs()
    for items, persons in ((6, 2), (8, 8), (20, 3)):
        annotators.information(infer(items, persons))
    assert programs() == before
    annotators.information(infer(65, 1))
    assert programs() == (before[0] + 1, before[1] + 1)


def test_intervals_are_beta_quantiles():
    _, answers = people.simulated(0, 50, [people.even(0.7, 3)] * 2)
    truth = annotators.dawid_skene(answers, classes=3, steps=30)
    low, high = annotators.intervals(truth, level=0.9)
    counts = np.asarray(truth.counts, np.float64)
    for a, c, k in itertools.product(range(2), range(3), range(3)):
        beta = stats.beta(counts[a, c, k], counts[a, c].sum() - counts[a, c, k])
        assert_allclose([low[a, c, k], high[a, c, k]], beta.ppf([0.05, 0.95]), rtol=1e-6)
        assert_allclose(beta.mean(), truth.confusion[a, c, k], rtol=1e-5)


def test_intervals_of_one_coin_are_those_of_its_accuracy():
    truth = annotators.one_coin(np.array([[0], [1], [2]]), classes=3, prior=prior_of(0, 3, 3))
    low, high = annotators.intervals(truth)
    right, wrong = (float(truth.counts[0, 0, 0]), float(truth.counts[0, 0, 1:].sum()))
    assert_allclose(right + wrong, 4 + 1 + 3, rtol=1e-6)
    beta = stats.beta(right, wrong)
    assert_allclose([low[0, 1, 1], high[0, 1, 1]], beta.ppf([0.025, 0.975]), rtol=1e-6)
    assert_allclose(low[0, 1, 0], (1 - high[0, 1, 1]) / 2, rtol=1e-6)
    assert_allclose(high[0, 1, 0], (1 - low[0, 1, 1]) / 2, rtol=1e-6)


def test_intervals_cover():
    matrices = [people.even(right, 3) for right in np.linspace(0.5, 0.9, 30)]
    _, answers = people.simulated(0, 300, matrices)
    low, high = annotators.intervals(annotators.dawid_skene(answers, classes=3))
    inside = (low <= np.stack(matrices)) & (np.stack(matrices) <= high)
    assert 0.91 < inside.mean() < 0.985


@pytest.mark.slow
def test_soft_labels_flow_into_a_learner():
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 2)).astype(np.float32)
    classes = (x[:, 0] > 0).astype(int)
    said = np.stack(
        [np.where(random.random(60) < p, classes, 1 - classes) for p in (0.9, 0.8, 0.7)]
    )
    answers = np.where(np.arange(60)[:, None] < 40, said.T, -1)
    labels, weights = annotators.soft_labels(annotators.dawid_skene(answers, classes=2))
    assert_allclose(np.asarray(labels).sum(axis=1), 1.0, rtol=1e-5)
    assert (weights[:40] > 0).all() and not np.asarray(weights[40:]).any()
    posterior = posteriors.logistic(2, likelihood=likelihoods.categorical(soft=True))
    learner = bayesal.learner(
        posterior,
        acquire.top(scores.margin),
        size=5,
        capacity=50,
        num_draws=10,
    )
    rows = np.arange(40)
    state = learner.tell(learner.init(0, x), x, rows, labels[rows], weights=weights[rows])
    log_probs = bayesal.predictive_of(posterior, state, 10).log_probs(x[40:])
    assert (np.asarray(log_probs.argmax(axis=1)) == classes[40:]).mean() > 0.8
    assert (np.asarray(learner.ask(state, x).indices) >= 40).all()


def test_refit_gives_the_net_labels_and_takes_its_prediction():
    _, answers = people.simulated(0, 20, [people.even(0.8, 3)] * 2, asked=0.8)
    answers[0] = -1
    calls, prior = [], prior_of(0, 20, 3)

    def predict(labels, weights):
        calls.append((np.asarray(labels), np.asarray(weights)))
        return prior

    truth = annotators.refit(predict, answers, classes=3, rounds=3, off=0.7)
    direct = annotators.dawid_skene(answers, classes=3, prior=prior, off=0.7)
    assert_array_equal(truth.log_probs, direct.log_probs)
    assert len(calls) == 3
    coin = annotators.one_coin(answers, classes=3)
    assert_array_equal(calls[0][0], np.eye(3)[np.asarray(coin.log_probs.argmax(axis=1))])
    for (labels, weights), source in zip(calls[1:], [direct, direct], strict=True):
        assert_allclose(labels, np.exp(source.log_probs), rtol=1e-6)
        assert_array_equal(weights, annotators.soft_labels(source)[1])
    assert all(weights[0] == 0.0 for _, weights in calls)
