"""Doors for other people's models: the numbers and the picks are those of the models themselves;
nothing is guessed.
"""

import dataclasses
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from bayesal import acquire, choose, errors, pools, scores
from bayesal.predictive import from_committee, from_samples
from bayesal.scores import regression

from_samples, from_committee = (
    oracles.as_users_do(from_samples),
    oracles.as_users_do(from_committee),
)
K, N, C, D = 6, 60, 3, 4
random = np.random.default_rng(0)
W = random.normal(size=(K, D, C)).astype(np.float32)
X = random.normal(size=(N, D)).astype(np.float32)
LOG_P = oracles.log_softmax(np.einsum("nd,kdc->knc", X.astype(np.float64), W))


def logits(x):
    return jnp.einsum("nd,kdc->knc", x, jnp.asarray(W))


def on_host(x):
    assert isinstance(x, np.ndarray)
    return np.einsum("nd,kdc->nck", x, W)


SAMPLES = {
    "log_probs": from_samples(lambda x: jax.nn.log_softmax(logits(x)), K, embed=lambda x: x[:, :2]),
    "probs": from_samples(
        probs=lambda x: jnp.moveaxis(jax.nn.softmax(logits(x)), 0, 1), num_draws=K, axes="N K C"
    ),
    "logits": from_samples(logits=logits, num_draws=K),
    "a pytree": from_samples(
        logits=jax.tree_util.Partial(lambda w, x: jnp.einsum("nd,kdc->knc", x, w), jnp.asarray(W)),
        num_draws=K,
    ),
    "logits on the host": from_samples(
        logits=on_host, num_draws=K, axes="N C K", host=True, embed=lambda x: x[:, :2]
    ),
    "log_probs on the host": from_samples(
        lambda x: oracles.log_softmax(np.moveaxis(on_host(x), 2, 0)), K, host=True
    ),
    "lists on the host": from_samples(
        logits=lambda x: on_host(x).tolist(), num_draws=K, axes="N C K", host=True
    ),
}
JAX, HOST = SAMPLES["log_probs"], SAMPLES["logits on the host"]
every_form = pytest.mark.parametrize(
    "form",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name in ("a pytree", "log_probs on the host", "logits")
        else name
        for name in SAMPLES
    ],
)


@every_form
def test_numbers_are_the_functions_own(form):
    samples = SAMPLES[form].checked(X)
    for x in (X, jnp.asarray(X), X[:5].tolist()):
        rows = len(x)
        assert_allclose(samples(x), LOG_P[:, :rows], atol=1e-5)
    assert_allclose(samples.log_probs(X), np.log(np.exp(LOG_P).mean(0)), atol=1e-5)
    assert_allclose(jax.jit(lambda s, x: s(x))(samples, X[:5]), LOG_P[:, :5], atol=1e-5)
    warm = dataclasses.replace(samples, temperature=jnp.float32(2.0))
    assert_allclose(warm(X), oracles.log_softmax(LOG_P / 2), atol=1e-5)


def test_a_pytree_keeps_its_numbers_as_arguments():
    assert [leaf.shape for leaf in jax.tree.leaves(SAMPLES["a pytree"])] == [W.shape, ()]
    assert [leaf.shape for leaf in jax.tree.leaves(HOST)] == [()]


TOP, CENTERS = acquire.top(scores.bald), acquire.k_center()
WORTH = [oracles.bald(np.exp(LOG_P[:, n])) for n in range(N)]
BEST = np.argsort(-np.array(WORTH), kind="stable")[:4]


@pytest.mark.parametrize("samples", [JAX, HOST], ids=["traced", "host"])
def test_every_pool_takes_samples_and_picks_the_same(samples, tmp_path):
    np.save(tmp_path / "x.npy", X)
    where = [X, tmp_path / "x.npy", pools.sharded(X)]
    for pool in where:
        assert_array_equal(choose(0, samples, pool, 4, TOP).indices, BEST)
    want = choose(0, JAX, X, 3, CENTERS).indices
    for pool in where:
        assert_array_equal(choose(0, samples, pool, 3, CENTERS).indices, want)


@pytest.mark.parametrize("host", [pytest.param(False, marks=pytest.mark.slow), True])
def test_moments_are_normals(host):
    xp = np if host else jnp
    samples = from_samples(
        moments=lambda x: (xp.stack([x[:, 0], x[:, 1]]), xp.stack([x[:, 2] ** 2 + 1] * 2)),
        num_draws=2,
        host=host,
    )
    assert_allclose(samples.checked(X)(X).variance[0], X[:, 2] ** 2 + 1, rtol=1e-5)
    mean = samples.moments(X)
    assert_allclose(mean.variance, X[:, 2] ** 2 + 1 + (X[:, 0] - X[:, 1]) ** 2 / 4, rtol=1e-4)
    picks = choose(0, samples, X, 3, acquire.top(regression.epistemic)).indices
    assert_array_equal(picks, np.argsort(-np.abs(X[:, 0] - X[:, 1]))[:3])


def test_draws_that_are_no_functions_are_found_on_request():
    generator = np.random.default_rng(0)
    per_call = from_samples(
        logits=lambda x: on_host(x) + generator.normal(), num_draws=K, axes="N C K", host=True
    )
    per_call.checked(X)  # one constant for all classes changes no probability
    per_row = from_samples(
        logits=lambda x: on_host(x) * generator.integers(0, 2, (len(x), 1, K)),
        num_draws=K,
        axes="N C K",
        host=True,
    )
    batch = from_samples(logits=lambda x: logits((x - x.mean(0)) / x.std(0)), num_draws=K)
    shaky = from_samples(moments=lambda x: (x.T[:2] + x.mean(), jnp.ones((2, len(x)))), num_draws=2)
    for samples in (per_row, batch, shaky):
        with pytest.raises(errors.DrawsDiffer, match="one dropout mask per draw") as caught:
            samples.checked(X)
        assert caught.value.argument == "predictive"


def test_what_is_not_as_it_was_said_is_refused():
    soft = lambda x: jax.nn.softmax(logits(x))
    spoilt = lambda x: logits(x).at[1, 2].set(jnp.nan)
    for given, error, argument in (
        ({"log_probs": soft}, errors.NotLogProbabilities, "log_probs"),
        ({"log_probs": logits}, errors.NotLogProbabilities, "log_probs"),
        ({"probs": logits}, errors.NotLogProbabilities, "probs"),
        ({"logits": spoilt}, errors.NonFinite, "logits"),
        ({"logits": lambda x: logits(x)[:2]}, errors.WrongShape, "logits"),
        ({"logits": lambda x: logits(x)[:, :3]}, errors.WrongShape, "logits"),
        ({"logits": lambda x: logits(x)[..., :1]}, errors.WrongShape, "logits"),
        ({"logits": logits, "axes": "N K C"}, errors.WrongShape, "logits"),
        ({"logits": lambda x: logits(x)[0]}, errors.WrongShape, "logits"),
        ({"logits": lambda x: jnp.zeros((K, N, C), int)}, errors.WrongShape, "logits"),
        ({"moments": logits}, errors.WrongShape, "moments"),
        (
            {"moments": lambda x: (jnp.zeros((K, N)), jnp.zeros((K, 2)))},
            errors.WrongShape,
            "moments",
        ),
    ):
        for host in (False, True):
            with pytest.raises(error, match=f"`{argument}`") as caught:
                from_samples(
                    num_draws=K,
                    host=host,
                    **{
                        name: (lambda x, f=f: jax.tree.map(np.asarray, f(jnp.asarray(x))))
                        if host and callable(f)
                        else f
                        for name, f in given.items()
                    },
                )(X)
            assert caught.value.argument == argument
    with pytest.raises(errors.OutOfRange, match="`moments`") as caught:
        from_samples(
            moments=lambda x: (np.zeros((K, N)), np.arange(K * N).reshape(K, N)),
            num_draws=K,
            host=True,
        )(X)
    assert caught.value.rows.tolist() == [0]
    with pytest.raises(errors.OutOfRange, match="`moments`"):
        from_samples(moments=lambda x: (jnp.zeros((K, N)), -jnp.ones((K, N))), num_draws=K)(X)


def test_under_jit_rows_that_are_not_as_said_are_never_picked():
    wrong = from_samples(lambda x: jax.nn.log_softmax(logits(x)).at[:, 3].add(0.5), K)
    values = jax.jit(wrong)(X)
    assert np.isnan(values[:, 3]).all() and np.isfinite(np.delete(values, 3, axis=1)).all()
    negative = from_samples(
        probs=lambda x: jax.nn.softmax(logits(x)).at[0, 5, 0].set(-0.1), num_draws=K
    )
    assert np.isnan(jax.jit(negative)(X)[0, 5]).all()
    uncertain = from_samples(
        moments=lambda x: (jnp.zeros((K, len(x))), jnp.ones((K, len(x))).at[0, 1].set(0.0)),
        num_draws=K,
    )
    assert np.isnan(jax.jit(uncertain)(X).variance[0, 1])
    broken = lambda number: from_samples(
        probs=lambda x: np.full((K, len(x), C), number if len(x) > 1 else 1 / C),
        num_draws=K,
        host=True,
    )
    assert np.isnan(jax.jit(broken(np.nan))(X)).all()
    with pytest.raises(Exception, match="negative"):  # by the callback, with the sentence in it
        jax.block_until_ready(jax.jit(broken(-1.0))(X))


@pytest.mark.parametrize("host", [False, True], ids=["traced", "host"])
def test_rows_of_nan_are_refused_outside_of_programs_and_counted_by_choose(host):
    def spoilt(x):
        xp = np if host else jnp
        z = xp.einsum("nd,kdc->knc", x, xp.asarray(W))
        return xp.where((x[:, 0] > 1.5)[None, :, None], xp.nan, z)

    samples = from_samples(logits=spoilt, num_draws=K, host=host)
    bad = np.flatnonzero(X[:, 0] > 1.5)
    with pytest.raises(errors.NonFinite, match="`logits`") as caught:
        samples(X)
    assert caught.value.rows.tolist() == bad.tolist() and len(bad)
    for pool in (X, pools.sharded(X), lambda: iter([X])):
        with pytest.warns(UserWarning, match=f"{len(bad)} available points"):
            found = choose(0, samples, pool, 4, TOP)
        assert not set(bad.tolist()) & set(found.indices.tolist())


def test_functions_are_said_by_name():
    with pytest.raises(errors.WrongShape, match="exactly one") as caught:
        from_samples(logits, K, probs=logits)
    assert caught.value.argument == "probs"
    with pytest.raises(errors.WrongShape, match="`moments`"):
        from_samples(num_draws=K)
    with pytest.raises(errors.WrongType, match="`logits`"):
        from_samples(logits=LOG_P, num_draws=K)
    with pytest.raises(errors.WrongSize, match="`num_draws`"):
        from_samples(logits)
    with pytest.raises(errors.WrongShape, match="`axes`"):
        from_samples(logits, K, axes="K C N B")
    with pytest.raises(errors.WrongType, match="host=True") as caught:
        from_samples(logits=lambda x: np.einsum("nd,kdc->knc", x, W), num_draws=K)(X)
    assert caught.value.argument == "host"


def test_features_are_asked_for_where_they_are_needed():
    for samples in (JAX, HOST):
        assert_allclose(samples.embed(X), X[:, :2])
    with pytest.raises(errors.MissingEmbed):
        SAMPLES["logits"].embed(X)
    for host in (False, True):
        with pytest.raises(errors.WrongShape, match="`embed`"):
            from_samples(logits=logits, num_draws=K, host=host, embed=lambda x: x[:, 0]).embed(X)
    with pytest.raises(errors.WrongType, match="`embed`"):
        from_samples(logits=logits, num_draws=K, embed="features")


# committees

FLOWERS, SPECIES = load_iris(return_X_y=True)
FLOWERS = FLOWERS.astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]


def forest(**options):
    return RandomForestClassifier(7, min_samples_leaf=5, random_state=0, **options)


ENSEMBLES = {
    "forest": lambda: forest(),
    "extra trees": lambda: ExtraTreesClassifier(5, min_samples_leaf=5, random_state=0),
    "bagging": lambda: BaggingClassifier(
        GaussianNB(), n_estimators=6, max_features=0.5, random_state=0
    ),
    "bagging few": lambda: BaggingClassifier(
        KNeighborsClassifier(1), n_estimators=12, max_samples=4, random_state=1
    ),  # members that never saw a class
    "voting": lambda: VotingClassifier(
        [("a", GaussianNB()), ("b", LogisticRegression(max_iter=500))], voting="soft"
    ),
}


@pytest.mark.parametrize("labels", [SPECIES, SPECIES + 1, NAMES], ids=["from 0", "from 1", "names"])
@pytest.mark.parametrize("name", ENSEMBLES)
def test_members_average_to_what_their_ensemble_says(name, labels):
    model = ENSEMBLES[name]().fit(FLOWERS, labels)
    committee = from_committee(model)
    members = len(model.estimators_)
    log_probs = np.asarray(committee(FLOWERS))
    assert log_probs.shape == (members, 150, 3)
    assert_allclose(np.exp(log_probs).mean(0), model.predict_proba(FLOWERS), atol=1e-5)
    if name == "bagging few":
        unseen = [k for k, member in enumerate(model.estimators_) if len(member.classes_) < 3]
        assert unseen and np.isneginf(log_probs[unseen]).any(-1).all()
        assert np.isfinite(scores.bald(log_probs)).all()


def test_a_list_is_aligned_by_labels():
    some = [
        GaussianNB().fit(FLOWERS[rows], NAMES[rows])
        for rows in (slice(0, 100), slice(50, 150), slice(0, 150))
    ]
    log_probs = np.asarray(from_committee(some)(FLOWERS[:9]))
    assert np.isneginf(log_probs[0, :, 2]).all() and np.isneginf(log_probs[1, :, 0]).all()
    for k, member in enumerate(some):
        columns = [["setosa", "versicolor", "virginica"].index(label) for label in member.classes_]
        assert_allclose(
            np.exp(log_probs[k][:, columns]), member.predict_proba(FLOWERS[:9]), atol=1e-5
        )
    other = np.asarray(
        from_committee(some, classes=["none", "virginica", "setosa", "versicolor"])(FLOWERS[:9])
    )
    assert_array_equal(other[..., 1:], log_probs[..., [2, 0, 1]])
    assert np.isneginf(other[..., 0]).all()
    with pytest.raises(errors.UnknownName, match="virginica") as caught:
        from_committee(some, classes=["setosa", "versicolor"])
    assert caught.value.argument == "classes"
    with pytest.raises(errors.WrongLabel, match="`classes`"):
        from_committee(some, classes=["setosa", "setosa", "versicolor", "virginica"])


@pytest.mark.slow
def test_a_committee_chooses_from_arrays_and_files():
    committee = from_committee(forest().fit(FLOWERS, SPECIES), embed=lambda x: x)
    found = [choose(0, committee, pool, 3, TOP) for pool in (FLOWERS, lambda: iter([FLOWERS]))]
    want = np.argsort(-np.asarray(scores.bald(committee(FLOWERS))), kind="stable")[:3]
    for picked in found:
        assert_array_equal(picked.indices, want)
    assert committee.checked(FLOWERS).embed(FLOWERS).shape == (150, 4)


def test_one_hot_trees_are_warned_about():
    grown = RandomForestClassifier(5, random_state=0).fit(FLOWERS, SPECIES)
    with pytest.warns(UserWarning, match="min_samples_leaf"):
        committee = from_committee(grown)
    log_probs = committee(FLOWERS)
    assert_allclose(
        scores.bald(log_probs), scores.entropy(log_probs), atol=1e-6
    )  # what the warning says
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_committee(forest().fit(FLOWERS, SPECIES))


@pytest.mark.parametrize(
    "model",
    [
        RandomForestRegressor(5, random_state=0),
        BaggingRegressor(Ridge(), n_estimators=4, max_features=0.5, random_state=0),
        VotingRegressor([("a", Ridge()), ("b", Ridge(10.0))]),
    ],
    ids=lambda m: type(m).__name__,
)
def test_committees_of_numbers(model):
    y = FLOWERS[:, 3] * 10
    committee = from_committee(model.fit(FLOWERS[:, :3], y), variance=2.5)
    mean = committee.moments(FLOWERS[:, :3])
    assert_allclose(mean.mean, model.predict(FLOWERS[:, :3]), rtol=1e-4)
    assert_allclose(committee(FLOWERS[:, :3]).variance, 2.5)
    assert (np.asarray(mean.variance) >= 2.5).all()
    again = [committee(FLOWERS[:, :3]) for _ in range(2)]
    assert_array_equal(again[0].mean, again[1].mean)


def test_what_is_no_committee_is_refused():
    fitted = lambda model, y=SPECIES: model.fit(FLOWERS, y)
    boosted = [
        AdaBoostClassifier(n_estimators=3),
        GradientBoostingClassifier(n_estimators=3),
        StackingClassifier([("a", GaussianNB()), ("b", LogisticRegression(max_iter=500))]),
    ]
    for model in boosted:
        with pytest.raises(errors.WrongType, match="correct each other") as caught:
            from_committee(fitted(model))
        assert caught.value.argument == "models"
    for model, match in (
        (RandomForestClassifier(), "fitted first"),
        (fitted(GaussianNB()), "list of"),
        (fitted(make_pipeline(GaussianNB())), "pipeline"),
    ):
        with pytest.raises(errors.WrongType, match=match):
            from_committee(model)
    for members, error, match in (
        ([fitted(GaussianNB())], errors.WrongSize, "at least two"),
        ([fitted(LinearSVC()), fitted(GaussianNB())], errors.WrongType, "CalibratedClassifierCV"),
        ([fitted(Ridge()), fitted(Ridge())], errors.WrongType, "variance="),
        ([fitted(GaussianNB()), GaussianNB()], errors.WrongType, "fit it first"),
        (
            [fitted(GaussianNB()), fitted(GaussianNB(), NAMES)],
            errors.WrongLabel,
            "by number and others by name",
        ),
    ):
        with pytest.raises(error, match=match) as caught:
            from_committee(members)
        assert caught.value.argument == "models"
    both = fitted(
        RandomForestClassifier(3, min_samples_leaf=5), np.stack([SPECIES, SPECIES], axis=1)
    )
    with pytest.raises(errors.BayesalError):
        from_committee(both)
    odd = fitted(forest())
    odd.estimators_[0] = DecisionTreeClassifier(min_samples_leaf=5).fit(FLOWERS, NAMES)
    with pytest.raises(errors.WrongLabel, match="no numbers of the ensemble"):
        from_committee(odd)
    for variance in (0.0, -1.0, math.inf, "big", True):
        with pytest.raises(errors.WrongSize, match="`variance`"):
            from_committee([fitted(Ridge()), fitted(Ridge())], variance=variance)
    with pytest.raises(errors.WrongType, match="predicts classes"):
        from_committee([fitted(GaussianNB())] * 2, variance=1.0)
    with pytest.raises(errors.WrongShape, match="`x`"):
        from_committee([fitted(GaussianNB())] * 2)(FLOWERS.reshape(150, 2, 2))
