"""Architecture as data: the chosen posterior is what it is by itself, and the others are neither
fitted nor asked.
"""

import functools
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from laws import CLASSES, FEATURES, HPARAMS, labeled, problem, same

import bayesal
from bayesal import (
    _checks,
    acquire,
    calibrate,
    errors,
    likelihoods,
    networks,
    posteriors,
    retune,
    scores,
)
from bayesal.predictive import bind
from bayesal.retune import _racing
from bayesal.retune._retuners import fixed, for_posterior
from bayesal.types import FitInfo, Network, Posterior

KEY = jax.random.key(0)
X = problem()[0][:20]
SHORT = HPARAMS._replace(steps=jnp.int32(20))


def network(*sizes: int, outputs: int = CLASSES) -> Network:
    """Layers without biases, and dropout before the last one."""
    sizes = (FEATURES, *sizes, outputs)
    init = lambda key, x: [
        s[0] ** -0.5 * jax.random.normal(jax.random.fold_in(key, i), s)
        for i, s in enumerate(itertools.pairwise(sizes))
    ]
    embed = lambda params, x: functools.reduce(lambda h, w: jnp.tanh(h @ w), params[:-1], x)
    mask = lambda key, h: h if key is None else h * jax.random.bernoulli(key, 0.5, h.shape)
    return networks.from_functions(
        init, lambda params, x, key: mask(key, embed(params, x)) @ params[-1], embed=embed
    )


DEEP = network(6, 4)
PLAIN = (posteriors.mc_dropout(network(3)), posteriors.point(DEEP))
TRACED = []


def counted(posterior: Posterior, i: int) -> Posterior:
    return posterior._replace(fit=lambda *args: TRACED.append(i) or posterior.fit(*args))


CHOICE = posteriors.any_of(*(counted(p, i) for i, p in enumerate(PLAIN)))


@functools.cache
def program():
    return jax.jit(CHOICE.fit)


def architecture(i) -> bayesal.HParams:
    return SHORT._replace(architecture=jnp.int32(i))


@functools.cache
def beginning():
    return jax.jit(CHOICE.init)(KEY, X[0])


@functools.cache
def fitted(i: int):
    return program()(jax.random.key(1), beginning(), labeled(), architecture(i))


def bound(posterior, state):
    return bind(posterior, state, posterior.draw(jax.random.key(2), state, 5), jnp.float32(1.0))


@pytest.mark.parametrize("i", [0, 1])
def test_the_chosen_architecture_is_that_posterior_by_itself_in_every_bit(i):
    begun, (state, info) = beginning(), fitted(i)
    assert same(begun.states[i], jax.jit(PLAIN[i].init)(KEY, X[0])) and int(state.which) == i
    alone, alone_info = jax.jit(PLAIN[i].fit)(jax.random.key(1), begun.states[i], labeled(), SHORT)
    assert (
        same(state.states[i], alone) and same(info, alone_info) and not same(alone, begun.states[i])
    )
    assert same(state.states[1 - i], begun.states[1 - i])
    ours, theirs = bound(CHOICE, state), bound(PLAIN[i], alone)
    assert same(ours(X), theirs(X))
    features, width = np.asarray(ours.embed(X)), (3, 4)[i]
    assert (
        same(features[:, :width], theirs.embed(X))
        and features.shape == (20, 4)
        and not features[:, width:].any()
    )


def test_another_architecture_compiles_nothing_again():
    fitted(0), fitted(1)
    assert sorted(TRACED) == [0, 1] and program()._cache_size() == 1
    predict = jax.jit(lambda state, draws: bind(CHOICE, state, draws, jnp.float32(1.0))(X))
    for i in (0, 1):
        predict(fitted(i)[0], bound(CHOICE, fitted(i)[0]).model.draws)
    assert predict._cache_size() == 1


def products(jaxpr, inside: bool = False):
    """Of every matrix product of a program, whether it stands in a branch."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield inside
        for part in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr"),
        ):
            if hasattr(part := getattr(part, "jaxpr", part), "eqns"):
                yield from products(part, inside or equation.primitive.name == "cond")


def test_rows_draws_and_folds_leave_the_choice_a_branch():
    state = fitted(1)[0]
    draws = CHOICE.draw(KEY, state, 5)
    everything = jax.vmap(jax.vmap(CHOICE.apply, (None, None, 0)), (None, 0, None))
    assert sum(products(jax.make_jaxpr(everything)(state, draws, X).jaxpr)) == 2 + 3
    assert all(products(jax.make_jaxpr(everything)(state, draws, X).jaxpr))
    folds = jax.tree.map(
        lambda a: jnp.stack([a, a]), (KEY, beginning()._replace(which=None).states)
    )
    fits = jax.vmap(
        lambda key, states, hparams: CHOICE.fit(
            key, beginning()._replace(states=states), labeled(), hparams
        ),
        (0, 0, None),
    )
    found = list(products(jax.make_jaxpr(fits)(*folds, architecture(1)).jaxpr))
    assert found and all(found)
    each = jax.vmap(
        lambda i: CHOICE.fit(KEY, beginning(), labeled(), architecture(i))
    )  # several architectures at a time: every one is fitted
    assert not any(products(jax.make_jaxpr(each)(jnp.arange(2)).jaxpr))


def test_what_draws_share_is_computed_once():
    plain = [posteriors.last_layer_laplace(network(width)) for width in (4, 7)]
    choice = posteriors.any_of(*plain)
    state = jax.jit(choice.init)(KEY, X[0])._replace(which=jnp.int32(1))
    assert same(bound(choice, state)(X), bound(plain[1], state.states[1])(X))
    shared = choice.trunk(state, X[0])
    assert not shared[0].any() and same(shared[1], plain[1].trunk(state.states[1], X[0]))
    assert CHOICE.trunk is None and CHOICE.head is None


def test_a_warm_fit_goes_on_from_the_architecture_fitted_last():
    old, fresh = fitted(1)[0], jax.jit(CHOICE.init)(jax.random.key(9), X[0])
    warm = CHOICE.warm(old, fresh)
    assert same(warm.states[1], PLAIN[1].warm(old.states[1], fresh.states[1])) and same(
        warm.states[0], fresh.states[0]
    )
    assert posteriors.any_of(PLAIN[0], posteriors.linearized_laplace(DEEP)).warm is None


def test_a_architecture_that_is_none_is_refused_or_reported():
    for bad in (-1, 2):
        with pytest.raises(errors.WrongSize, match="from 0 to 1") as error:
            CHOICE.fit(KEY, beginning(), labeled(), architecture(bad))
        assert error.value.argument == "hparams"
        state, info = program()(KEY, fitted(1)[0], labeled(), architecture(bad))
        assert same(state, fitted(1)[0]) and int(info.failed_at) == 0 and np.isnan(info.loss)


def test_a_learner_refuses_architectures_that_its_posterior_lacks():
    build = lambda posterior, **args: bayesal.learner(
        posterior, acquire.uniform(), size=1, capacity=9, **args
    )
    searched = retune.successive_halving(2, retune.space(architecture=3))
    for posterior in (CHOICE, PLAIN[0]):
        for argument, value in (("hparams", architecture(2)), ("retune", searched)):
            with pytest.raises(
                errors.WrongSize, match="from 0 to 1" if posterior is CHOICE else "one architecture"
            ) as error:
                build(posterior, **{argument: value})
            assert error.value.argument == argument
    build(
        CHOICE,
        hparams=architecture(1),
        retune=retune.successive_halving(2, retune.space(architecture=2)),
    )


def test_a_retuner_without_a_space_searches_all_architectures():
    build = lambda retuner: bayesal.learner(
        CHOICE, acquire.uniform(), size=1, capacity=9, retune=retuner
    )
    usual = retune.successive_halving(4)
    found = for_posterior(usual, CHOICE)
    assert found.architectures == 2 and for_posterior(usual, CHOICE) is found
    assert for_posterior(usual, PLAIN[0]).architectures == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither leaves anything out
        build(usual)
        build(fixed())
    for space in (retune.space(), retune.space(architecture=1)):
        with pytest.warns(UserWarning, match="2 architectures.* holds 1"):
            build(retune.successive_halving(4, space))


def test_the_search_of_all_architectures_tries_them():
    rows = np.arange(12) % 3 == np.arange(3)[:, None]

    def fit(hparams, fold):
        losses = jnp.where(hparams.architecture == 1, 0.1, 1.0) * jnp.asarray(rows)[fold % 3]
        return losses[:, None].astype(jnp.float32), (hparams.architecture, ())

    task = _racing.Task(fit, jnp.asarray(rows), jnp.arange(12, dtype=jnp.int32), jnp.zeros(1))
    found = for_posterior(retune.successive_halving(8), CHOICE)
    start = _checks.as_traced(bayesal.HParams())
    run = jax.jit(lambda key: found.run(key, task, start, found.init(start), jnp.int32(0))[:2])
    hparams, tuning = run(jax.random.key(0))
    assert set(np.asarray(tuning.candidates.architecture).tolist()) == {0, 1}
    assert int(hparams.architecture) == 1


@pytest.mark.parametrize("strategy", [acquire.batch_bald, scores.bald, acquire.top])
def test_a_factory_or_a_score_is_no_strategy(strategy):
    with pytest.raises(errors.WrongType, match="has to be called") as error:
        oracles.as_users_do(bayesal.learner)(PLAIN[0], strategy, size=1, capacity=9)
    assert error.value.argument == "strategy"


def rows(scale: float) -> Posterior:
    """A state with a row for every label, as Gaussian processes have it."""
    return Posterior(
        lambda key, x: jnp.zeros((1, FEATURES)),
        lambda key, state, labeled, hparams: (
            scale * labeled.x,
            FitInfo(jnp.float32(0.0), jnp.int32(-1)),
        ),
        lambda key, state, num: jnp.arange(num),
        lambda state, draw, x: jax.nn.log_softmax(state.sum() + x[:CLASSES]),
    )


def test_states_may_make_room_for_labels():
    choice = posteriors.any_of(rows(1.0), rows(2.0))
    state = choice.init(KEY, X[0])
    for i in (1, 0):
        state, _ = choice.fit(KEY, state, labeled(), architecture(i))
        assert same(state.states[i], (1.0 + i) * labeled().x)
    assert same(state.states[1], 2.0 * labeled().x) and choice.embed is None


def test_what_cannot_be_one_posterior_is_refused():
    real = posteriors.point(network(outputs=2), likelihood=likelihoods.gaussian())
    for given, error in (
        ((), errors.WrongSize),
        (PLAIN[:1], errors.WrongSize),
        ((PLAIN[0], DEEP), errors.WrongType),
        ((PLAIN, PLAIN), errors.WrongType),
        ((PLAIN[0], real), errors.WrongType),
        ((PLAIN[0], posteriors.ensemble(DEEP, members=2)), errors.WrongSize),
    ):
        with pytest.raises(error) as caught:
            oracles.as_users_do(posteriors.any_of)(*given)
        assert caught.value.argument == "posteriors"
    with pytest.raises(errors.WrongShape, match=r"\(3,\), \(4,\)"):
        posteriors.any_of(PLAIN[1], posteriors.point(network(outputs=4))).init(KEY, X[0])
    chains = rows(1.0)._replace(
        fit=lambda key, state, labeled, hparams: (
            state,
            FitInfo(jnp.zeros(2), jnp.zeros(2, jnp.int32)),
        )
    )
    choice = posteriors.any_of(rows(1.0), chains)
    with pytest.raises(errors.WrongShape, match=r"loss=\(\).*loss=\(2,\)"):
        choice.fit(KEY, choice.init(KEY, X[0]), labeled(), architecture(0))


@pytest.mark.slow
def test_a_learner_of_the_choice_is_a_learner_of_the_chosen():
    x, y = problem()
    picks = []
    for posterior in (CHOICE, PLAIN[0]):
        learner = bayesal.learner(
            posterior,
            acquire.batch_bald(configurations=20),
            size=4,
            capacity=30,
            num_draws=6,
            num_folds=2,
            hparams=architecture(0),
            calibrate=calibrate.temperature(),
        )
        state = learner.tell(learner.init(KEY, x), x, np.arange(10), y[:10])
        for _ in range(2):
            asked = np.asarray(learner.ask(state, x).indices)
            picks.append(asked.tolist())
            state = learner.tell(state, x, asked, y[asked])
    assert picks[:2] == picks[2:]
