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
# # The first loop
# 1,797 real digits, 20 labels to begin with, 10 more each round. Which ten should a person label
# next? `margin` asks where the two most probable classes are closest. It needed the fewest labels
# in our comparisons on digits and on sentence embeddings.

# %%
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, calibrate, metrics, networks, plots, posteriors, scores

bayesal.cache()  # compiled programs are kept for the next run

# %%
images, answers = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
images, answers = (images[order] / 16).astype(np.float32), answers[order]
pool, labels = jnp.asarray(images[500:]), answers[500:]
test, test_labels = jnp.asarray(images[:500]), answers[:500]

# %% [markdown]
# A posterior, a strategy, and three verbs. Before any label `ask` picks typical points of clusters
# (TypiClust), whatever the strategy. Each `tell` fits afresh, and fits a temperature on out-of-fold
# predictions. `ask` and `tell` are compiled once, in some seconds.

# %%
posterior = posteriors.mc_dropout(networks.mlp(64, 10))
parts = dict(
    size=10,
    capacity=90,  # the last batch is only asked for
    num_draws=100,
    calibrate=calibrate.temperature(),
)
learners = {
    "random": bayesal.learner(posterior, acquire.uniform(), first=acquire.uniform(), **parts),
    "margin": bayesal.learner(posterior, acquire.top(scores.margin), **parts),
}


def accuracy(state):
    """On images that are never asked."""
    predictive = bayesal.predictive_of(posterior, state, 100)
    return float(metrics.accuracy(predictive.log_probs(test), test_labels))


def run(learner, rounds=6):
    """Accuracy after each round, and the last state."""
    state, curve = learner.init(0, pool), []
    for size in [20] + [10] * rounds:
        picks = np.asarray(learner.ask(state, pool, size=size).indices)
        state = learner.tell(state, pool, picks, labels[picks])
        curve.append(accuracy(state))
    return curve, state


curves = {name: run(learner) for name, learner in learners.items()}

# %% [markdown]
# ## Accuracy against labels
# One seed, so a glimpse rather than a comparison: `make demo` runs five seeds of four strategies.

# %%
counts = 20 + 10 * np.arange(7)
values = {name: np.array(curve) for name, (curve, _) in curves.items()}
plots.learning_curves(values, labels=counts, target=0.8)
# %% [markdown]
# ## What would it ask next?
# BALD is high where the draws are sure but disagree; expected entropy is high where every draw is
# unsure.

# %%
state = curves["margin"][1]
predictive = bayesal.predictive_of(posterior, state, 100)
batch = learners["margin"].ask(state, pool, size=10)
plots.uncertainty_parts(predictive(pool), labels=labels, picks=batch)
# %% [markdown]
# ## Is its confidence true?
# On the test set, with 95 % intervals.

# %%
plots.reliability(predictive.log_probs(test), test_labels)
# %%
assert curves["margin"][0][-1] > curves["margin"][0][0]
assert int(state.ledger.count) == 80 == len(set(np.asarray(state.ledger.indices)[:80].tolist()))
