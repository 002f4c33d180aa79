"""What a posterior says it does not use changes nothing, and what it uses changes something."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import CLASSES, FEATURES, HPARAMS, MLP, POSTERIORS, Case, fit, labeled, numbers, problem

import bayesal
from bayesal import acquire, errors, likelihoods, networks, posteriors, retune
from bayesal.loop import _remarks
from bayesal.networks import from_functions
from bayesal.retune._retuners import fixed, for_posterior
from bayesal.retune._spaces import searched
from bayesal.types import HParams

OTHER = HParams(
    learning_rate=2e-2,
    weight_decay=5.0,
    dropout=0.6,
    prior_scale=2.0,
    steps=20,
    warmup=0.3,
    final_rate=0.5,
    label_smoothing=0.2,
    architecture=1,
)
SHORT = HPARAMS._replace(steps=jnp.int32(12))
REAL = networks.mlp(FEATURES, 1, (8,))
NORMAL = likelihoods.gaussian(noise_std=0.1)
LINEAR = from_functions(
    lambda key, x: 0.1 * jax.random.normal(key, (FEATURES, CLASSES)), lambda w, x, key: x @ w
)
CHAINS = dict(warmup=10, samples=2, chains=1)
PLAIN = {
    "point": posteriors.point(MLP),
    "without_dropout": posteriors.point(LINEAR),
    "real": posteriors.point(REAL, likelihood=NORMAL),
    "variational": posteriors.variational(MLP),
    "mc_dropout": posteriors.mc_dropout(MLP),
    "swag": posteriors.swag(MLP),
    "untuned_logistic": posteriors.logistic(CLASSES, tune=False),
    "linear": posteriors.linear(),
}
SLOW = {
    "untuned_laplace": posteriors.last_layer_laplace(MLP, tune=False),
    "last_layer_nuts": posteriors.nuts(MLP, on="last", **CHAINS),
    "real_nuts": posteriors.nuts(REAL, likelihood=NORMAL, **CHAINS),
    "gp_regression": posteriors.gp_regression(waves=16),
    "inducing": posteriors.gp_regression(waves=16, inducing=5),
    "preference": posteriors.preference(waves=16),
    "of_gps": posteriors.any_of(
        posteriors.gp_regression(waves=16), posteriors.gp_regression(waves=16, inducing=5)
    ),
}
CASES = [
    *(Case(name, posterior) for name, posterior in PLAIN.items()),
    *(Case(name, posterior, slow=True) for name, posterior in SLOW.items()),
    *(case._replace(slow=True) for case in POSTERIORS if case.name not in PLAIN),
]
# only labels that say nothing leave the prior as it was given
TUNED = ("laplace", "sngp", "laplace_all")


def said(case, data, hparams):
    """Predictions of a fit, to the bit."""
    _, state, _ = fit(case, data, hparams)
    draws = case.posterior.draw(jax.random.key(2), state, case.posterior.members or 2)
    predict = jax.vmap(lambda d: case.posterior.apply(state, d, data.x[0]))
    return b"".join(leaf.tobytes() for leaf in numbers(predict(draws)))


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.slow) for case in CASES],
)
def test_what_is_unused_changes_nothing_and_what_is_used_does(case):
    data = labeled()
    if case.name == "preference":
        items = jnp.stack([data.x, data.x[::-1]], axis=1)
        data = data._replace(x=items, y=data.y % 2)
    elif case.posterior.real:
        data = data._replace(y=data.x[:, 0])
    usual = said(case, data, SHORT)
    for name in HParams._fields:
        if name == "architecture" and case.posterior.architectures == 1:
            continue
        value = jnp.asarray(getattr(OTHER, name), getattr(SHORT, name).dtype)
        changed = said(case, data, SHORT._replace(**{name: value})) != usual
        if name == "prior_scale" and case.name in TUNED:
            continue
        assert changed == (name not in case.posterior.unused), name


def test_a_network_knows_whether_it_takes_a_rate():
    drops = {True: networks.mlp(2, 2, (4,)), False: LINEAR}
    for takes, network in drops.items():
        assert network.takes_rate is takes
        assert posteriors.point(network).unused == (() if takes else ("dropout",)) + (
            "prior_scale",
        )


def test_a_retuner_leaves_unused_fields_as_they_are():
    usual = retune.successive_halving(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nobody asked for them
        found = for_posterior(usual, PLAIN["without_dropout"])
    assert searched(found.space) == ("learning_rate", "weight_decay", "steps")
    assert for_posterior(usual, PLAIN["without_dropout"]) is found  # nothing compiles again
    assert searched(for_posterior(usual, PLAIN["point"]).space)[-2:] == ("dropout", "steps")
    assert for_posterior(fixed(), PLAIN["point"]).space is None


def test_who_asks_for_an_unused_field_is_told():
    asked = retune.successive_halving(4, retune.space(prior_scale=(0.1, 1.0), weight_decay=None))
    with pytest.warns(
        UserWarning, match=r"has prior_scale, which .* not use: not searched"
    ) as seen:
        found = for_posterior(asked, PLAIN["point"])
    assert len(seen) == 1 and searched(found.space) == ("learning_rate", "dropout", "steps")
    alone = dict.fromkeys(HParams._fields) | {"prior_scale": (0.1, 1.0)}
    with (
        pytest.warns(UserWarning),
        pytest.raises(errors.WrongSize, match="has prior_scale alone") as error,
    ):
        for_posterior(retune.successive_halving(4, retune.space(**alone)), PLAIN["point"])
    assert error.value.argument == "retune"


def test_a_winner_at_a_bound_is_remarked_on_once():
    retuner = retune.successive_halving(4, retune.space(label_smoothing=(0.0, 0.1)))
    old = HParams()
    for new, words in (
        (old._replace(steps=np.int32(1000)), "`steps` = 1e.03, .* upper bound"),
        (old._replace(learning_rate=np.float32(5e-4)), "`learning_rate` = 0.0005, .* lower bound"),
    ):
        with pytest.warns(UserWarning, match=words) as seen:
            _remarks.of_search(retuner, old, new)
        assert len(seen) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _remarks.of_search(retuner, new, new)  # said before
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # inside; outside the search; no way on; no search
        for new in (old._replace(steps=np.int32(999)), old._replace(warmup=np.float32(0.0))):
            _remarks.of_search(retuner, old, new)
        _remarks.of_search(retuner, old._replace(label_smoothing=0.05), old)
        _remarks.of_search(fixed(), old, old._replace(steps=1000))


@pytest.mark.slow
def test_a_learner_says_that_its_search_ended_at_a_bound():
    x, y = problem()
    space = retune.space(**dict.fromkeys(HParams._fields) | {"steps": (1, 3)})
    learner = bayesal.learner(
        PLAIN["mc_dropout"],
        acquire.uniform(),
        size=5,
        capacity=60,
        num_folds=2,
        hparams=HParams(steps=1, learning_rate=0.05, warmup=0.0),
        retune=retune.successive_halving(8, space),
    )
    with pytest.warns(UserWarning, match="`steps` = 3, .* upper bound"):
        state = learner.tell(learner.init(0, x), x, np.arange(60), y[:60])
    assert int(state.hparams.steps) == 3
