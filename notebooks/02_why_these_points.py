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
# # Why these points?
# Somebody will spend a minute on every label you ask for, and may well ask back: *why this one?*
# Here are two batches of ten for one and
# the same net, side by side: the ten images with the highest BALD score, and the ten that BatchBALD
# picks together. Then the
# questions that a batch should be able to answer: what does each pick tell, what does it add to the
# others, and what had to wait for it?

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, export, networks, plots, pools, posteriors, scores, select

# %% [markdown]
# A net that has seen 20 of 1,797 digits, two of each, and 100 of its opinions: the draws of MC
# dropout, the same 100 functions at every image.

# %%
images, answers = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
pool, labels = jnp.asarray(images[order] / 16, jnp.float32), answers[order]
labeled = np.concatenate([np.flatnonzero(labels == c)[:2] for c in range(10)])
free = ~np.isin(np.arange(len(pool)), labeled)

posterior = posteriors.mc_dropout(networks.mlp(64, 10, (128, 128)))
learner = bayesal.learner(
    posterior,
    acquire.batch_bald(),
    size=10,
    capacity=20,
    num_draws=100,
    hparams=bayesal.HParams(steps=1000),
)
state = learner.tell(learner.init(jax.random.key(0), pool), pool, labeled, labels[labeled])
log_probs = bayesal.predictive_of(posterior, state, 100)(pool)  # [K draws, N points, C classes]
numbers = pools.numbers(log_probs=log_probs, axes="K N C", features=pool)
predicted = np.asarray(jax.nn.logsumexp(log_probs, axis=0)).argmax(-1)
print(f"{np.mean(predicted[free] == labels[free]):.0%} of the unlabeled images are recognized")

# %% [markdown]
# ## Two batches
# BALD is high where draws are sure of themselves and contradict one another: there a label tells
# which of them to believe. `select.top` takes the
# ten highest scores, each for itself: here mostly the same two questions in several handwritings.
# `select.batch_bald` takes ten whose labels,
# *together*, tell most: look how many classes it asks about.

# %%
bald = scores.bald(log_probs)
batches = {
    "BALD": select.top(bald, 10, available=free),
    "BatchBALD": select.batch_bald(jax.random.key(0), log_probs, 10, available=free),
}
rows = {name: np.asarray(batch.indices) for name, batch in batches.items()}
figure, axes = plt.subplots(2, 1, figsize=(11, 4.6), layout="constrained")
for ax, (name, at) in zip(axes, rows.items(), strict=True):
    plots.picked_images(
        pool[at].reshape(-1, 8, 8),
        ax,
        labels=labels[at],
        predicted=predicted[at],
        scores=bald[at],
        title=f"{name}: BALD of each pick; a red border where the net is wrong",
    )
for name, at in rows.items():
    print(
        f"{name}'s ten are of {len(np.unique(labels[at]))} classes: "
        f"{', '.join(map(str, np.sort(labels[at])))}; the net is wrong about "
        f"{np.sum(predicted[at] != labels[at])}"
    )

# %% [markdown]
# ## What does each pick tell?
# The uncertainty of a prediction (`total`) has two parts: what every draw finds ambiguous
# (`aleatoric`: no label will settle that) and what the draws disagree
# about (`epistemic`, which is BALD). `gain` is what the label adds to the labels of the picks
# before it. `nearest` is the labeled image most like it.
#
# First the ten highest BALD scores. Look from `epistemic` to `gain`: after a few picks a label is
# worth a fraction of what it promised, because
# its neighbors in the batch had asked the same question already.

# %%
why = {
    name: bayesal.explain(batch, None, numbers, labeled=labeled, available=free)
    for name, batch in batches.items()
}
print(why["BALD"])
why["BALD"]

# %% [markdown]
# And BatchBALD's. It begins with the same image (the first pick is always the highest BALD), then
# takes lower scores and tells more: compare the last
# `joint`. `share` is how much of ln K is used up.

# %%
print(why["BatchBALD"])
why["BatchBALD"]

# %% [markdown]
# ## Counting twice
# The sum of the scores (gray) is what a batch would tell if its points had nothing to do with one
# another; the joint information (orange) is what it
# does tell; the gray area is counted twice. No batch can tell more than ln K, by which the draws
# are told apart.

# %%
figure, axes = plt.subplots(1, 2, figsize=(12.5, 4.2), layout="constrained")
for ax, (name, told) in zip(axes, why.items(), strict=True):
    plots.batch_information(told, ax, name=name)
print(
    ", ".join(
        f"{name}: {told.joint[-1]:.2f} nats together, {told.epistemic.sum():.2f} counted one by one"
        for name, told in why.items()
    )
)

# %% [markdown]
# ## What had to wait?
# Most of BatchBALD's picks passed over an image with a higher score of its own, which the table
# calls `displaced`. Was that right? Put the displaced image in the
# pick's place and ask what it would have added there. Its score never changes; what it has left to
# tell falls with every pick that asks the same.

# %%
told, picks = why["BatchBALD"], rows["BatchBALD"]
there = np.flatnonzero(told.displaced >= 0)
instead = []
for b in there:
    other = picks.copy()
    # it may have been picked later: then the two change places
    other[other == told.displaced[b]] = picks[b]
    other[b] = told.displaced[b]
    swapped = bayesal.Selection(other, np.zeros(10))
    instead.append(bayesal.explain(swapped, None, numbers).gain[b])

often = np.bincount(told.displaced[there]).argmax()
left, right = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(1, 3), layout="constrained")[1]
left.imshow(pool[often].reshape(8, 8), cmap="gray_r")
left.set(
    xticks=[],
    yticks=[],
    title=f"row {often}",
    xlabel=f"passed over {np.sum(told.displaced == often)} times\ntrue {labels[often]}, says "
    f"{predicted[often]}",
)
for values, color, name in (
    (told.displaced_epistemic[there], "#8A8A8A", "score of the displaced"),
    (told.gain[there], "#D55E00", "gain of the pick"),
    (instead, "#0072B2", "gain of the displaced"),
):
    right.plot(there + 1, values, "o-", color=color, label=name)
right.set(xlabel="pick", ylabel="nats", ylim=(0, None))
right.spines[["top", "right"]].set_visible(False)
right.legend(frameon=False)
print(
    f"these picks add {told.gain[there].sum():.2f} nats; the displaced, each in its place, "
    f"would add {np.sum(instead):.2f}; their scores sum to "
    f"{told.displaced_epistemic[there].sum():.2f}"
)

# %% [markdown]
# ## When the draws have nothing left to say
# Six draws can tell ln 6 = 1.79 nats, whatever the batch. Ask them for 20 points: once 95 % of that
# is used up, further picks are noise. The selection says how far it went, and what ordered the
# rest.

# %%
few = select.batch_bald(jax.random.key(0), log_probs[:6], 20, available=free)
print(few.note())

# %% [markdown]
# ## Into the labeling tool
# `bayesal.choose` runs any strategy on predictions of any library. `export.ranking` ranks
# everything
# behind the batch too, and `to_records("ranking.csv")` (or `.jsonl`) writes it: sort by `score`,
# and
# the images come in this order.

# %%
choice = bayesal.choose(0, None, numbers, 10, acquire.batch_bald(), available=free)
names = [f"digit-{row:04d}" for row in order]
records = export.ranking(choice, None, numbers, available=free, ids=names).to_records()
for record in records[:3]:
    print(record)

# %%
assert rows["BALD"][0] == rows["BatchBALD"][0] == choice.indices[0]
assert why["BatchBALD"].joint[-1] > why["BALD"].joint[-1] and np.all(
    why["BALD"].gain <= why["BALD"].epistemic + 1e-6
)
assert few.saturated.any() and records[0]["rank"] == 1 and len(records) == free.sum()
