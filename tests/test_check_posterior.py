"""The self-check lets what is right pass, and bites: every planted fault breaks the law that it
should, in a sentence.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from bayesal import errors, likelihoods, networks, posteriors, testing
from bayesal.testing._predictive import _joint_information
from bayesal.types import FitInfo, Gaussian, HParams, Posterior

N, D, C = 24, 3, 3
random = np.random.default_rng(0)
Y = (np.arange(N) % C).astype(np.int32)
X = (np.eye(C)[Y][:, :D] * 2 + 0.5 * random.normal(size=(N, D))).astype(np.float32)

(
    RUNS,
    DATA,
    TYPES,
    LOSS,
    FINITE,
    PADDING,
    KEYS,
    PROPER,
    DRAWS,
    TWICE,
    EQUAL,
    COMPANY,
    NEARLY,
    ENOUGH,
    STATE,
    LOGITS,
    TRUNK,
    EMBED,
) = (
    "can be started",
    "are data",
    "types and shapes",
    "loss stays finite",
    "parameters are finite",
    "padding",
    "one key",
    "normalized log-probabilities",
    "different functions",
    "asked twice",
    "equal rows",
    "predicted together",
    "nearly agree",
    "suffice",
    "changes no state",
    "logits, not probabilities",
    "`head` of `trunk`",
    "`embed`",
)


def broken(report):
    return [found for law, found in report.outcomes if found], {
        law for law, found in report.outcomes if found
    }


def breaks(report, *laws):
    """Whether these laws are broken and no others, each in a sentence."""
    sentences, found = broken(report)
    assert all(len(sentence.split()) > 4 for sentence in sentences)
    assert len(found) == len(laws) and all(any(law in name for name in found) for law in laws), (
        report
    )
    return " ".join(sentences)


# a posterior of one layer: class means as weights, and draws of noise around them


def init(key, x):
    return {"w": jnp.zeros((x.size, C)), "scale": jnp.float32(0.0)}


def fit(key, state, labeled, hparams):
    seen = (jnp.arange(labeled.y.shape[0]) < labeled.count)[:, None]
    x, one_hot = jnp.where(seen, labeled.x, 0.0), jnp.where(seen, jax.nn.one_hot(labeled.y, C), 0.0)
    w = x.T @ one_hot / jnp.maximum(one_hot.sum(0), 1) / (1 + hparams.weight_decay / labeled.count)
    return {"w": w, "scale": jnp.float32(0.3) * hparams.prior_scale}, FitInfo(
        jnp.float32(0.0), jnp.int32(-1)
    )


def draw(key, state, num):
    return state["scale"] * jax.random.normal(key, (num, *state["w"].shape))


def apply(state, noise, x):
    return jax.nn.log_softmax(x @ (state["w"] + noise))


GOOD = Posterior(init, fit, draw, apply, lambda state, x: x @ state["w"])


def check(posterior=GOOD, draws=60, batch=3, **options):
    return testing.check_posterior(posterior, X, Y, num_draws=draws, batch=batch, **options)


def test_a_right_posterior_keeps_every_law():
    report = check()
    assert (
        report.passed
        and len(report.outcomes) == 18
        and str(report).startswith("fit: 18 of 18 laws kept")
    ), report


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda net: posteriors.mc_dropout(net),
        lambda net: posteriors.ensemble(net, members=8),
        lambda net: posteriors.variational(net),
    ],
    ids=["mc_dropout", "ensemble", "variational"],
)
def test_our_posteriors_keep_every_law(make):
    report = testing.check_posterior(make(networks.mlp(D, C, (16,))), X, Y, batch=1)
    assert report.passed and "<locals>" not in report.name, report


@pytest.mark.slow
def test_a_point_net_has_no_draws():
    report = testing.check_posterior(
        posteriors.point(networks.mlp(D, C, (4,))), X, Y, hparams=HParams(steps=20)
    )
    assert "all 20 draws agree" in breaks(report, DRAWS) and report.name == "point"
    with pytest.raises(testing.LawBroken, match="point: 17 of 18"):
        testing.check_posterior(
            posteriors.point(networks.mlp(D, C, (4,))),
            X,
            Y,
            hparams=HParams(steps=20),
            raise_on_failure=True,
        )


@pytest.mark.slow
def test_real_labels():
    normal = likelihoods.gaussian(noise_std=0.5)
    real = GOOD._replace(
        fit=lambda key, state, labeled, hparams: fit(
            key, state, labeled._replace(y=(labeled.y > 0).astype(jnp.int32)), hparams
        ),
        apply=lambda state, noise, x: normal.predict((x @ (state["w"] + noise))[:1]),
        real=True,
    )
    assert testing.check_posterior(real, X, X[:, 0], num_draws=10).passed
    flat = real._replace(
        apply=lambda state, noise, x: Gaussian(x @ state["w"][:, 0] + noise[0, 0], jnp.float32(0.0))
    )
    sentences, laws = broken(testing.check_posterior(flat, X, X[:, 0], num_draws=10))
    assert any(PROPER in law for law in laws) and "finite variance above 0" in " ".join(sentences)


count = iter(range(10**6))


def leaky_padding(key, state, labeled, hparams):
    return fit(key, state, labeled._replace(count=jnp.int32(labeled.y.shape[0])), hparams)


def reads_values(key, state, labeled, hparams):
    return fit(key, state, labeled, hparams._replace(prior_scale=float(hparams.prior_scale)))


def static(key, state, labeled, hparams):
    return jax.jit(fit, static_argnums=3)(key, state, labeled, hparams)


def grown(key, state, labeled, hparams):
    state, info = fit(key, state, labeled, hparams)
    return state | {"scale": jnp.full(2, 0.3)}, info


def diverged(key, state, labeled, hparams):
    state, info = fit(key, state, labeled, hparams)
    return state | {"w": state["w"].at[0, 0].set(jnp.nan)}, info


def failed(key, state, labeled, hparams):
    return fit(key, state, labeled, hparams)[0], FitInfo(jnp.float32(jnp.nan), jnp.int32(17))


def restless(state, noise, x):
    return apply(state, noise + next(count), x * (1 + next(count)))


def by_content(state, noise, x):
    return apply(
        state,
        jax.random.normal(
            jax.random.key(jax.lax.bitcast_convert_type(x.sum() + noise.sum(), jnp.int32)),
            noise.shape,
        ),
        x,
    )


FAULTS = {
    "a fit that looks at padding": (
        GOOD._replace(fit=leaky_padding),
        (PADDING,),
        "rows < count only",
    ),
    "a fit that reads hyperparameters": (GOOD._replace(fit=reads_values), (DATA,), "traced"),
    "a fit compiled for each hyperparameter": (GOOD._replace(fit=static), (DATA,), "static"),
    "a fit that changes shapes": (
        GOOD._replace(
            fit=grown, draw=lambda key, state, num: draw(key, state | {"scale": 0.3}, num)
        ),
        (TYPES,),
        r"float32\[2\]",
    ),
    "a fit that reports failure": (GOOD._replace(fit=failed), (LOSS,), "step 17"),
    "draws of another number": (
        posteriors.ensemble(networks.mlp(D, C, (4,)), members=4),
        (RUNS,),
        "4 members",
    ),
    "draws without a key": (
        GOOD._replace(draw=lambda key, state, num: draw(jax.random.key(0), state, num)),
        (KEYS,),
        "does not use its key",
    ),
    "draws from Python's luck": (
        GOOD._replace(draw=lambda key, state, num: draw(jax.random.key(next(count)), state, num)),
        (KEYS,),
        "outside the key",
    ),
    "no variance between draws": (
        GOOD._replace(draw=lambda key, state, num: jnp.zeros((num, D, C))),
        (DRAWS,),
        "BALD is 0",
    ),
    "probabilities": (
        GOOD._replace(apply=lambda *a: jnp.exp(apply(*a))),
        (PROPER,),
        "jax.nn.log_softmax",
    ),
    "logits": (
        GOOD._replace(apply=lambda state, noise, x: x @ (state["w"] + noise)),
        (PROPER,),
        "sum to",
    ),
    "a batch axis": (
        GOOD._replace(apply=lambda *a: apply(*a)[None]),
        (PROPER,),
        "without a batch axis",
    ),
    "a counter in Python": (GOOD._replace(apply=restless), (STATE, COMPANY), "changes in Python"),
    "masks from the rows": (GOOD._replace(apply=by_content), (NEARLY,), "from the rows themselves"),
    "a softmax inside the network": (
        GOOD._replace(
            apply=lambda state, noise, x: jax.nn.log_softmax(
                jax.nn.softmax(9 * (x @ (state["w"] + noise)))
            )
        ),
        (LOGITS,),
        "must not be a softmax",
    ),
    "a head of its own": (
        GOOD._replace(trunk=lambda state, x: 2 * x, head=apply),
        (TRUNK,),
        "one function",
    ),
    "features of two axes": (GOOD._replace(embed=lambda state, x: x[None]), (EMBED,), r"\[D\]"),
    "features that are NaN": (GOOD._replace(embed=lambda state, x: x / 0), (EMBED,), "NaN"),
}


SLOW = (
    "draws of another number",
    "masks from the rows",
    "a batch axis",
    "draws from Python's luck",
    "features of two axes",
    "logits",
)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FAULTS],
)
def test_broken_posteriors_break_the_law_they_should(fault):
    posterior, laws, words = FAULTS[fault]
    found = breaks(check(posterior), *laws)
    assert words.replace("\\", "") in found, found


def test_nan_in_parameters_is_named():
    _, found = broken(report := check(GOOD._replace(fit=diverged)))
    assert any(FINITE in law for law in found) and any(PROPER in law for law in found)
    assert "['w'] are NaN" in str(report) and "NaN at" in str(report)


def test_too_few_draws_for_the_batch():
    assert "6 draws hold log K = 1.79" in breaks(
        check(
            GOOD._replace(draw=lambda key, state, num: 20 * draw(key, state, num)),
            draws=6,
            batch=20,
        ),
        ENOUGH,
    )


def test_joint_information_is_that_of_enumeration():
    log_p, p = oracles.random_log_probs(0, (5, 4, 3))
    assert (
        abs(
            _joint_information(log_p.astype(np.float64), 4, samples=20_000)
            - oracles.joint_information(p, range(4))
        )
        < 0.01
    )
    certain = np.log(np.eye(4)[:, None, :].repeat(3, 1) + 1e-300)
    assert _joint_information(certain, 3) == pytest.approx(math.log(4))


def test_what_cannot_be_tried_is_refused():
    call = oracles.as_users_do(testing.check_posterior)
    for args, error, argument in (
        ((networks.mlp(D, C), X, Y), errors.WrongType, "posterior"),
        ((GOOD, X[:5], Y[:5]), errors.WrongSize, "len(x)"),
        ((GOOD, X, Y[:-1]), errors.WrongLabel, "y"),
        ((GOOD, X, Y.astype(float)), errors.WrongLabel, "y"),
        ((GOOD._replace(real=True), X, np.full(N, np.nan)), errors.WrongLabel, "y"),
    ):
        with pytest.raises(error) as caught:
            call(*args)
        assert caught.value.argument == argument
    with pytest.raises(errors.WrongSize, match=r"`len\(x\)`"):
        testing.check_predictive(good, X[:3])


# predictives: functions of many rows, where masks can go wrong

NOISE = 0.5 * random.normal(size=(40, D, C)).astype(np.float32)


def softmax(z):
    return oracles.log_softmax(z).astype(np.float32)


def good(x):
    return softmax(np.einsum("nd,kdc->knc", np.asarray(x), NOISE))


def mask_per_row(x):
    keep = np.random.default_rng(0).random((40, len(x), D)) > 0.5
    return softmax(np.einsum("knd,kdc->knc", np.asarray(x) * keep, NOISE))


def mask_per_call(x):
    return softmax(
        np.einsum(
            "nd,kdc->knc", np.asarray(x) * (np.random.default_rng(len(x)).random(D) > 0.5), NOISE
        )
    )


def batch_norm(x):
    return good((np.asarray(x) - np.mean(x, axis=0)) / np.std(x, axis=0))


def new_luck(x):
    return softmax(
        np.einsum(
            "nd,kdc->knc",
            np.asarray(x),
            NOISE + np.random.default_rng(next(count)).normal(size=NOISE.shape),
        )
    )


PREDICTIVES = {
    "masks that differ per row": (mask_per_row, (EQUAL, COMPANY)),
    "masks that differ per call": (mask_per_call, (COMPANY,)),
    "statistics of the batch": (batch_norm, (COMPANY,)),
    "new draws in every call": (new_luck, (TWICE, COMPANY, NEARLY)),
    "copies of one net": (lambda x: good(x)[:1].repeat(5, 0), (DRAWS,)),
}


def test_a_right_predictive_keeps_every_law():
    report = testing.check_predictive(good, X, batch=3)
    assert report.passed and len(report.outcomes) == 7, report
    assert testing.check_predictive(
        lambda x: Gaussian(*(jnp.stack([a, 2 * a]) for a in (x[:, 0], jnp.ones(len(x))))), X
    ).passed


@pytest.mark.parametrize("fault", PREDICTIVES)
def test_broken_predictives_break_the_law_they_should(fault):
    predictive, laws = PREDICTIVES[fault]
    breaks(testing.check_predictive(predictive, X, batch=3), *laws)
