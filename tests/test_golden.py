"""Recorded answers: every strategy, on every kind of pool, picks what it picked when recorded.

`golden/selections.npz` was recorded from commit c4b8024, where each kind of pool had a function of
its own: a strategy under jit for an array, `stream` for a file, `shards` for eight devices. Here
`bayesal.choose` answers for all of them. Indices and certificates must be the same; scores and
information may differ in their last digits, as they do between processors. `evaluated` is recorded
and not compared: it says how much work was done, and that may change.

A case is written as `kind/predictive/rows/strategy`, and its strategy is an expression in the names
of `bayesal.acquire`: what is compared and what it is called cannot come apart. Draws of `laplace`
share what comes before the last layer, draws of `dropout` do not. No pool's rows are a multiple
of a chunk; the largest pool's are none of eight devices either.
"""

import functools
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayesal
from bayesal import acquire, likelihoods, networks, posteriors, scores

FILE = Path(__file__).parent / "golden" / "selections.npz"
FEATURES, CLASSES, DRAWS, SIZE, SEED = 8, 4, 20, 8, 7
EXACT = ("indices", "saturated", "certified", "constant", "nonfinite")
NEAR = ("scores", "joint", "gap")
WORK = ("evaluated",)
TOLERANCE = 1e-6  # in nats, or of the value where it is larger

SMALL = "configurations=100, candidates=50"
RANKED = (
    "uniform()",
    "top(scores.bald)",
    "top(scores.entropy)",
    "top(scores.margin)",
    "top(scores.least_confidence)",
    "top(scores.variation_ratio)",
    "top(scores.mean_std)",
    "top(scores.vote_entropy)",
    "power(scores.bald)",
    "power(scores.bald, beta=8.0)",
    "softmax(scores.bald)",
    "softmax(scores.margin, beta=8.0)",
    "softrank(scores.bald)",
    "softrank(scores.entropy, beta=3.0)",
    "combined(scores.bald, scores.margin)",
    "combined(scores.bald, scores.margin, by=combine.z_score)",
    "combined(scores.bald, scores.margin, by=weighted)",
    "combined(scores.bald, scores.entropy, by=combine.product)",
    "combined(scores.bald, scores.margin, by=combine.pareto)",
    "batch_bald()",
    "epig(targets=40)",
    "batch_epig(targets=40, configurations=100)",
    "badge()",
    "k_center()",
)
JOINT = (
    f"batch_bald({SMALL})",
    "batch_bald(configurations=100, candidates=10, grow=True)",
    "epig(targets=40)",
    "epig(points, weights=weights)",
    f"batch_epig(targets=40, {SMALL})",
    f"batch_epig(targets=40, {SMALL}, grow=True)",
    f"batch_epig(points, weights=weights, {SMALL})",
    "badge()",
    "bait()",
    "bait(ridge=0.1)",
    "k_center()",
    "k_means()",
    "k_means(iterations=3)",
    "k_means_pp()",
    "typiclust()",
    "dpp()",
    "dpp(noise_variance=0.1)",
    "prefilter(50, scores.entropy, top(scores.bald))",
    "prefilter(50, scores.entropy, batch_bald(configurations=100))",
    "prefilter(50, scores.entropy, badge())",
    "prefilter(50, scores.entropy, bait())",
    "prefilter(50, scores.entropy, k_center())",
)
SHARED = (
    "top(scores.bald)",
    f"batch_bald({SMALL})",
    f"batch_bald({SMALL}, grow=True)",
    f"batch_epig(targets=40, {SMALL})",
    "badge()",
    "bait()",
)
REAL = ("top(regression.bald_moments)", "top(regression.variance)", "log_det_gaussian()")
BROKEN = ("top(scores.bald)", "power(scores.bald)", f"batch_bald({SMALL})")
LARGE = ("top(scores.bald)", "top(scores.entropy)", f"batch_bald({SMALL})")
GROWN = f"batch_bald({SMALL}, grow=True)"
TIED = "top(scores.vote_entropy)"
USED_UP = (f"batch_bald({SMALL})", f"batch_epig(targets=40, {SMALL})")

CASES = [
    *(("array", "dropout", "3000", how) for how in RANKED),
    *(("array", "dropout", "400", how) for how in JOINT),
    *(("array", "laplace", "400", how) for how in SHARED),
    *(("array", "real", "3000", how) for how in REAL),
    *(("array", "dropout", "broken", how) for how in BROKEN),
    *(("array", "few", "400", how) for how in USED_UP),
    *(("file", "dropout", "9001", how) for how in (*LARGE, GROWN, TIED)),
    *(("file", "laplace", "9001", how) for how in LARGE),
    *(("file", "dropout", "broken", how) for how in (BROKEN[0], BROKEN[2], GROWN)),
    *(("devices", "dropout", "9001", how) for how in (*LARGE, TIED)),
    *(("devices", "laplace", "9001", how) for how in LARGE),
    *(("devices", "dropout", "broken", how) for how in (BROKEN[0], BROKEN[2])),
]


@functools.cache
def rows(name):
    """The pool `[N, 8]` of this name: so many rows, or 400 of which three hold NaN."""
    x = np.random.default_rng(0).normal(size=(9001, FEATURES)).astype(np.float32)
    if name != "broken":
        return x[: int(name)]
    x[[3, 70, 399], 2] = np.nan
    return x[:400]


def available(name):
    """About four rows in five may be picked; row 70, which may hold NaN, and row 3 may too."""
    mask = np.random.default_rng(1).random(len(rows(name))) < 0.8
    mask[[3, 70]] = True
    return mask


@functools.cache
def predictive(name):
    """Tempered draws of a net that nobody trained: twenty, or three that are soon told apart."""
    from bayesal.predictive import bind

    net = networks.mlp(FEATURES, CLASSES, (16,))
    posterior = {
        "dropout": lambda: posteriors.mc_dropout(net),
        "laplace": lambda: posteriors.last_layer_laplace(net),
        "few": lambda: posteriors.last_layer_laplace(net),
        "real": lambda: posteriors.last_layer_laplace(
            networks.mlp(FEATURES, 2, (16,)), likelihood=likelihoods.gaussian()
        ),
    }[name]()
    state = posterior.init(jax.random.key(2), jnp.zeros(FEATURES))
    if name == "dropout":
        state = state._replace(rate=jnp.float32(0.3))  # before a fit it is 0
    draws = posterior.draw(jax.random.key(3), state, 3 if name == "few" else DRAWS)
    return bind(posterior, state, draws, jnp.float32(0.7 if name == "few" else 1.3))


def strategy(expression):
    """What the expression says, in the names of `bayesal.acquire`, and some more."""
    from bayesal.scores import combine, regression

    known = {name: getattr(acquire, name) for name in acquire.__all__}
    known |= {"scores": scores, "combine": combine, "regression": regression}
    known |= {
        "weighted": functools.partial(combine.z_score, weights=(1.0, 0.5)),
        "points": rows("9001")[-30:],
        "weights": np.linspace(0.5, 2.0, 30, dtype=np.float32),
    }
    return eval(expression, known)


def answer(case, folder):
    """The `Selection` of a case, by the public door."""
    kind, net, name, how = case
    if kind == "array":
        pool = bayesal.pools.of(jnp.asarray(rows(name)))
    elif kind == "file":
        path = Path(folder) / f"{name}.npy"
        if not path.exists():
            np.save(path, rows(name))
        pool = bayesal.pools.file(path)
    else:
        pool = bayesal.pools.sharded(rows(name), bayesal.pools.mesh())
    key, mask = jax.random.key(SEED), available(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is said of NaN and of used-up information
        return bayesal.choose(key, predictive(net), pool, SIZE, strategy(how), available=mask)


def fields(selection):
    """What is recorded of a `Selection`: its arrays that are there, by their names."""
    every = {name: getattr(selection, name) for name in EXACT + NEAR + WORK}
    return {name: np.asarray(value) for name, value in every.items() if value is not None}


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("golden")


def test_every_case_is_recorded_and_every_record_is_a_case(golden):
    assert {name.rpartition("/")[0] for name in golden} == {"/".join(case) for case in CASES}


def quick(case):
    """Whether a case compiles fast enough for every run of the tests."""
    _, net, name, how = case
    long = ("batch_", "bait", "typiclust", "epig")
    return not any(name in how for name in long) and net == "dropout" and name in ("400", "broken")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if quick(case) else pytest.mark.slow, id="/".join(case))
        for case in CASES
    ],
)
def test_the_selection_is_the_recorded_one(case, golden, folder):
    found, here = fields(answer(case, folder)), "/".join(case)
    want = {name.rpartition("/")[2]: a for name, a in golden.items() if name.startswith(here + "/")}
    for name in EXACT + NEAR:
        assert (name in found) or (name not in want), f"{name} is missing"
    for name in want.keys() & set(EXACT):
        np.testing.assert_array_equal(found[name], want[name], err_msg=name)
    for name in want.keys() & set(NEAR):
        np.testing.assert_allclose(
            found[name], want[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name
        )
