"""Our strategies in small-text's loop; its contract by a classifier of the same shape where it is
not installed.
"""

import importlib.util

import numpy as np
import pytest

from bayesal import acquire, errors, scores
from bayesal.integrations.small_text import QueryStrategy

RNG = np.random.default_rng(0)
TEXTS = np.array([f"text {i}" for i in range(20)])
PROBS = RNG.dirichlet(np.ones(3), size=(20, 6))  # [texts, draws, classes]
FREE, KNOWN = np.arange(5, 20), np.arange(5)
MARGIN = acquire.top(scores.margin)


def number(texts):
    return [int(text.split()[1]) for text in texts]


class Plain:
    def predict_proba(self, texts):
        return PROBS[number(texts)].mean(axis=1)


class Dropout(Plain):
    def predict_proba(self, texts, dropout_sampling=1):
        assert dropout_sampling == 6
        return PROBS[number(texts)]

    def embed(self, texts):
        return PROBS[number(texts)].reshape(len(texts), -1)


def asked(strategy, clf, n=4, **more):
    return QueryStrategy(strategy, **more).query(clf, TEXTS, FREE, KNOWN, np.zeros(5, int), n=n)


def test_picks_are_rows_of_the_dataset():
    top = np.sort(PROBS.mean(axis=1)[FREE], axis=1)
    expected = FREE[np.argsort(top[:, -1] - top[:, -2])[:4]]
    assert asked(MARGIN, Plain()).tolist() == expected.tolist()


def test_dropout_gives_draws():
    p = PROBS[FREE]
    h = lambda q: -np.sum(q * np.log(q), axis=-1)
    bald = h(p.mean(axis=1)) - h(p).mean(axis=1)
    rows = asked(acquire.top(scores.bald), Dropout(), num_draws=6)
    assert rows.tolist() == FREE[np.argsort(-bald)[:4]].tolist()
    with pytest.raises(errors.WrongSize, match="num_draws"):
        asked(MARGIN, Dropout(), num_draws=1)


@pytest.mark.slow
def test_features_are_the_classifiers_own_or_those_given():
    own = asked(acquire.k_center(), Dropout(), num_draws=6)
    given = asked(
        acquire.k_center(), Plain(), embed=lambda clf, texts: np.float32(number(texts))[:, None]
    )
    assert len(set(own)) == 4 and {5, 19} & set(given)
    with pytest.raises(errors.MissingEmbed):
        asked(acquire.k_center(), Plain())


def test_one_draw_and_too_small_a_pool_are_refused():
    with pytest.raises(errors.ConstantScores, match="no draws"):
        asked(acquire.top(scores.bald), Plain())
    with pytest.raises(errors.WrongSize):
        asked(MARGIN, Plain(), n=16)


@pytest.mark.skipif(importlib.util.find_spec("small_text") is None, reason="pip install small-text")
def test_an_active_learner_of_small_text_takes_it():
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression
    from small_text import (
        PoolBasedActiveLearner,
        SklearnClassifierFactory,
        SklearnDataset,
    )

    x = RNG.normal(size=(40, 3))
    y = (x[:, 0] > 0).astype(int)
    dataset = SklearnDataset(csr_matrix(x), y)
    learner = PoolBasedActiveLearner(
        SklearnClassifierFactory(LogisticRegression(), 2), QueryStrategy(MARGIN), dataset
    )
    first = np.r_[np.flatnonzero(y == 0)[:3], np.flatnonzero(y == 1)[:3]]
    learner.initialize_data(first, y[first])
    for _ in range(2):
        rows = learner.query(num_samples=4)
        assert len(set(rows)) == 4 and not set(rows) & set(learner.indices_labeled)
        learner.update(y[rows])
    assert len(learner.indices_labeled) == 14
