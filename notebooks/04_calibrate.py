# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Is the confidence true?
# A confidence of .9 should be right nine times in ten. This notebook measures whether it is,
# corrects it with a temperature, and shows three limits: labels that were chosen, sets instead of
# numbers, and data that move.

# %%
import dataclasses

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, calibrate, metrics, networks, plots, posteriors, scores
from bayesal.calibrate import conformal

bayesal.cache()  # compiled programs are kept for the next run

# %% [markdown]
# Noisy digits in three parts: a pool to choose from, 300 held labels, and a test set. No fit sees
# the last two.

# %%
images, answers = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
order = rng.permutation(len(images))
noise = rng.normal(0, 0.2, images.shape)
images, answers = np.float32(images[order] / 16 + noise), answers[order]
pool, held, test = np.split(images, [1000, 1300])
labels, held_labels, test_labels = np.split(answers, [1000, 1300])

# %% [markdown]
# ## A net that is too sure
# One net without dropout and without weight decay. Both learners ask where the margin is smallest,
# 40 labels at a time. The second one labels a random quarter of each batch: its **audit**.

# %%
posterior = posteriors.point(networks.mlp(64, 10))
parts = dict(
    size=40,
    capacity=120,
    num_draws=1,
    calibrate=calibrate.temperature(),
    hparams=bayesal.HParams(dropout=0.0, weight_decay=0.0),
)
learners = {
    "chosen": bayesal.learner(posterior, acquire.top(scores.margin), **parts),
    "audited": bayesal.learner(posterior, acquire.top(scores.margin), audit=0.25, **parts),
}
states = {}
for name, learner in learners.items():
    state = learner.init(0, pool)
    for _ in range(3):
        picks = np.asarray(learner.ask(state, pool).indices)
        state = learner.tell(state, pool, picks, labels[picks])
    states[name] = state
audits = int(np.sum(bayesal.audit_mask(states["audited"], pool)))
print(f"120 labels each; {audits} of the second learner's are a random sample of the pool")

# %% [markdown]
# ## A temperature
# Every `tell` fits one on out-of-fold predictions: each label is predicted by a net that has not
# seen it. `T` divides the logits, and `T > 1` makes the net less sure. The test set judges.

# %%
after = bayesal.predictive_of(posterior, states["chosen"], 1)
before = dataclasses.replace(after, temperature=jnp.float32(1))
plots.reliability(before.log_probs(test), test_labels, after=after.log_probs(test))

# %% [markdown]
# ## Chosen labels are no fair sample
# The margin asks for hard digits. The net is wrong about them more often than about the pool, so a
# temperature of theirs alone tends to be too high. An audit is a fair sample, and corrects the
# temperature as far as 30 labels can tell. It has a price: the margin did not choose those labels,
# and the net learns less from them. "Fair" is the yardstick, a temperature of the 300 held labels.


# %%
def judged(predictive):
    """Test NLL and ECE, as text."""
    log_probs = predictive.log_probs(test)
    nll, ece = metrics.nll(log_probs, test_labels), metrics.ece(log_probs, test_labels)
    return f"test NLL {float(nll):.3f}, ECE {float(ece):.3f}"


out_of_fold, known, valid = bayesal.out_of_fold(posterior, states["chosen"], pool)
wrong = np.asarray(out_of_fold).mean(0).argmax(-1)[np.asarray(valid)] != known[valid]
wrong_test = np.asarray(after.predict(test)) != test_labels
print(f"wrong, each by a fit that has not seen it: {wrong.mean():.0%} of the chosen labels,")
print(f"{wrong_test.mean():.0%} of the test set")

for name, state in states.items():
    fitted = bayesal.predictive_of(posterior, state, 1)
    plain = dataclasses.replace(fitted, temperature=jnp.float32(1))
    fair = calibrate.fit_temperature(plain(held), held_labels).temperature
    yardstick = dataclasses.replace(plain, temperature=fair)
    for how, predictive in (("none", plain), ("of its labels", fitted), ("fair", yardstick)):
        print(f"{name:<8} {how:<14} T = {float(predictive.temperature):.2f}, {judged(predictive)}")

# %% [markdown]
# ## Sets that hold the truth
# A conformal set holds the true class in 90 % of the cases, whatever the net. That needs held rows
# that are *exchangeable* with the test rows: drawn from the same source, in no order that matters.

# %%
limit = conformal.limit(
    conformal.of_label(conformal.lac_score(after.log_probs(held)), held_labels), alpha=0.1
)


def sets_of(x):
    """Which classes are in each row's set `[n, C]`."""
    return np.asarray(conformal.sets(conformal.lac_score(after.log_probs(x)), limit, least=1))


def coverage(x):
    """Share of sets that hold the true class."""
    return float(sets_of(x)[np.arange(len(x)), test_labels].mean())


sizes = sets_of(test).sum(axis=1)
print(f"{coverage(test):.0%} of the sets hold the digit; {np.mean(sizes == 1):.0%} name one class")

# %% [markdown]
# ## A shift breaks both
# Now turn the test digits. Nothing here was fitted on turned digits: the calibration error grows,
# with a temperature as without one, and the sets lose their guarantee.

# %%
degrees = np.array([0, 15, 30, 45, 60])
squares = test.reshape(-1, 8, 8)
turned = [
    rotate(squares, angle, (1, 2), reshape=False, order=1).reshape(-1, 64) for angle in degrees
]
error = lambda predictive: [
    float(metrics.ece(predictive.log_probs(x), test_labels)) for x in turned
]
covered = [coverage(x) for x in turned]

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
plots.calibration_under_shift(
    degrees, {"net": error(after)}, left, before={"net": error(before)}, unit="turned by (degrees)"
)
right.plot(degrees, covered, "o-", color="#0072B2", lw=2.2)
right.axhline(0.9, color="#8A8A8A", ls="--", lw=1)
right.set(xlabel="turned by (degrees)", ylabel="coverage", ylim=(0, 1), xticks=degrees)
right.set_title("Conformal sets: 90 % promised (dashed), and held", loc="left", fontsize=11)
right.spines[["top", "right"]].set_visible(False)

# %%
assert metrics.nll(after.log_probs(test), test_labels) < metrics.nll(
    before.log_probs(test), test_labels
)
assert wrong.mean() > wrong_test.mean()
assert 0.84 < covered[0] < 0.96 and covered[3] < 0.8
