"""The test kit lets what is right pass, and bites: every planted fault breaks the law that it
should.
"""

import math

import jax
import numpy as np
import oracles
import pytest

from bayesal import scores, select, testing
from bayesal.types import Selection

BOUNDS = {
    "entropy": lambda K, C: (0.0, math.log(C)),
    "expected_entropy": lambda K, C: (0.0, math.log(C)),
    "bald": lambda K, C: (0.0, math.log(min(K, C))),
    "least_confidence": lambda K, C: (0.0, 1 - 1 / C),
    "margin": lambda K, C: (-1.0, 0.0),
    "variation_ratio": lambda K, C: (0.0, 1 - 1 / min(K, C)),
    "mean_std": lambda K, C: (0.0, 0.5),
}
FINITE, SAME, TWICE, OWN, DRAWS, CLASSES, NAN, REFUSED, BOUNDED = (
    "one finite number for every point",
    "the input stays as it was",
    "twice the same",
    "a point's score is its own: other points, their order and number do not matter",
    "the order of the draws does not matter",
    "the order of the classes does not matter",
    "NaN is refused, or stays NaN at its point",
    "what is not log-probabilities is refused",
    "within its bounds",
)


def broken(report):
    return {law for law, found in report.outcomes if found}


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("bald", "margin") else pytest.param(name, marks=pytest.mark.slow)
        for name in BOUNDS
    ],
)
def test_our_scores_keep_every_law(name):
    report = testing.check_score(getattr(scores, name), bounds=BOUNDS[name], raise_on_failure=True)
    assert (
        report.passed
        and len(report.outcomes) == 9
        and str(report).startswith(f"{name}: 9 of 9 laws kept")
    )


def plain_entropy(log_probs):  # 0 * -inf
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.exp(log_probs).mean(0)
        return -np.sum(mean * np.log(mean), axis=-1)


def difference_bald(log_probs):
    p, q = np.exp(log_probs), np.exp(log_probs).mean(0)
    h = lambda v: -np.sum(v * np.log(np.maximum(v, np.float32(1e-30))), axis=-1)
    return h(q) - h(p).mean(0)


def mutating(log_probs):
    np.clip(log_probs, -20, None, out=log_probs)
    return np.exp(log_probs).std(0).mean(-1)


def spread(log_probs):
    return np.exp(log_probs).std(0).mean(-1)


def ranks(log_probs):
    return np.argsort(np.argsort(spread(log_probs))).astype(np.float32)


calls = iter(range(10_000))
BROKEN_SCORES = {
    "NaN at certain draws": (plain_entropy, {FINITE}),
    "negative information": (difference_bald, {BOUNDED}),
    "votes that hide NaN": (lambda x: (x.argmax(-1) != x.argmax(-1)[:1]).mean(0), {NAN}),
    "scores of draws": (lambda x: np.exp(x).std(1).mean(-1), {FINITE}),
    "softmax over points": (
        lambda x: (np.exp(x) / np.exp(x).sum(1, keepdims=True)).std(0).mean(-1),
        {OWN},
    ),
    "ranks": (ranks, {OWN}),
    "the first draw only": (lambda x: np.exp(x[0]).max(-1), {DRAWS}),
    "the first class only": (lambda x: np.exp(x[..., 0]).std(0), {CLASSES}),
    "a changed input": (mutating, {SAME}),
    "a hidden random state": (lambda x: spread(x) + next(calls), {TWICE, OWN}),
    "anything goes": (spread, {REFUSED}),
    "too large": (lambda x: np.ones(x.shape[1]) * 5.0, {BOUNDED}),
    "always an error": (lambda x: x.no_such_thing, {FINITE, SAME, TWICE, OWN, DRAWS, CLASSES}),
}


@pytest.mark.parametrize("fault", BROKEN_SCORES)
def test_broken_scores_break_the_law_they_should(fault):
    score, laws = BROKEN_SCORES[fault]
    report = testing.check_score(score, bounds=lambda K, C: (0.0, math.log(min(K, C))))
    assert laws <= broken(report) and not report.passed
    assert all(len(found.split()) > 3 for _, found in report.outcomes if found)  # in sentences
    assert str(report).count("FAILED") == len(broken(report))
    with pytest.raises(testing.LawBroken, match="FAILED") as error:
        testing.check_score(
            score, raise_on_failure=True, bounds=lambda K, C: (0.0, math.log(min(K, C)))
        )
    assert broken(error.value.report) >= laws - {TWICE}


def test_a_broken_score_is_shown_with_its_counterexample():
    negative = next(
        found
        for law, found in testing.check_score(difference_bald, bounds=BOUNDS["bald"]).outcomes
        if law == BOUNDED
    )
    assert "scores -" in negative and "outside [0" in negative
    assert "changed" in next(
        found for law, found in testing.check_score(mutating).outcomes if law == SAME
    )


# selectors

DISTINCT, COPIES, EVERY, KEY, SIZES, BEST = (
    "as many different rows of the pool as were asked for",
    "copies of one point are still different rows, for every key",
    "the whole pool is every row",
    "one key, one batch",
    "a size that cannot be had is refused",
    "the best point comes first",
)


def by_bald(key, log_probs, size):
    return select.top(scores.bald(log_probs), size)


@pytest.mark.slow
def test_batch_bald_keeps_every_law():
    assert testing.check_selector(select.batch_bald, best=scores.bald, raise_on_failure=True).passed


def test_our_other_selectors_keep_every_law():
    assert testing.check_selector(by_bald, best=scores.bald, raise_on_failure=True).passed
    checked = lambda key, log_probs, size: select.uniform(
        key, scores.bald(log_probs).shape[0], size
    )
    report = testing.check_selector(oracles.as_users_do(checked), raise_on_failure=True)
    assert report.passed and BEST not in {law for law, _ in report.outcomes}


def order(log_probs):
    return np.argsort(-np.asarray(scores.bald(log_probs)), kind="stable")


def drawn_again(key, log_probs, size):
    return np.asarray(jax.random.randint(key, (size,), 0, log_probs.shape[1]))


def sampled(key, log_probs, size):
    return np.random.default_rng().permutation(log_probs.shape[1])[:size]


def spoils(key, log_probs, size):
    rows = order(log_probs)[:size]
    log_probs[:, rows] = 0
    return rows


def tied_together(key, log_probs, size):
    values = np.asarray(scores.bald(log_probs))
    return np.array(
        [int(np.flatnonzero(values == v)[0]) for v in np.sort(values)[::-1][:size]]
    )  # a copy becomes its original


BROKEN_SELECTORS = {
    "duplicates": (drawn_again, {DISTINCT, EVERY}),
    "copies share a row": (tied_together, {COPIES}),
    "off by one": (lambda key, x, size: order(x)[:size] + 1, {EVERY, BEST}),
    "drops the best": (lambda key, x, size: np.roll(order(x), -1)[:size], {BEST}),
    "one too few": (lambda key, x, size: order(x)[: size - 1], {DISTINCT, EVERY}),
    "a hidden random state": (sampled, {KEY}),
    "a changed input": (spoils, {SAME}),
    "any size goes": (lambda key, x, size: order(x)[: max(size, 0)], {SIZES}),
    "floats": (lambda key, x, size: order(x)[:size].astype(np.float32), {DISTINCT}),
    "minus one": (lambda key, x, size: Selection(np.full(size, -1), np.zeros(size)), {DISTINCT}),
}


@pytest.mark.parametrize("fault", BROKEN_SELECTORS)
def test_broken_selectors_break_the_law_they_should(fault):
    selector, laws = BROKEN_SELECTORS[fault]
    report = testing.check_selector(selector, best=scores.bald)
    assert laws <= broken(report)
    with pytest.raises(testing.LawBroken):
        testing.check_selector(selector, best=scores.bald, raise_on_failure=True)
