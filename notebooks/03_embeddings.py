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
# # Vectors from a frozen model
# Most people have embeddings and want labels next. Here a kernel map of scikit-learn stands for the
# frozen model: it turns 1,797 digits into vectors of 200 numbers, without any label. A sentence
# encoder or a vision backbone takes its place in your work.
#
# On fixed vectors a small Bayesian head needs no training loop. `posteriors.logistic` solves one
# convex problem per fit and finds its own prior, so there is nothing to tune.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression

import bayesal
from bayesal import acquire, metrics, plots, posteriors, scores

bayesal.cache()  # compiled programs are kept for the next run

# %%
images, answers = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
images, answers = images[order] / 16, answers[order]
embed = Nystroem(gamma=0.05, n_components=200, random_state=0).fit(images)
vectors = embed.transform(images).astype(np.float16)  # half the memory is enough for a pool
test, pool = np.split(vectors, [500])
test_labels, labels = np.split(answers, [500])

# %% [markdown]
# ## Ask, answer, fit
# The first batch is picked from the vectors alone (TypiClust). After that the margin between the
# two most probable classes decides. Each `tell` takes a fraction of a second.

# %%
posterior = posteriors.logistic(10)
parts = dict(size=20, capacity=256, num_draws=50)
learners = {
    "chance": bayesal.learner(posterior, acquire.uniform(), first=acquire.uniform(), **parts),
    "margin": bayesal.learner(posterior, acquire.top(scores.margin), **parts),
}


def run(learner, rounds=9):
    """Test accuracy and NLL after each round, and the last state."""
    state, curve = learner.init(0, pool), []
    for _ in range(rounds):
        picks = np.asarray(learner.ask(state, pool).indices)
        state = learner.tell(state, pool, picks, labels[picks])
        log_probs = bayesal.predictive_of(posterior, state, 50).log_probs(test)
        figures = metrics.accuracy(log_probs, test_labels), metrics.nll(log_probs, test_labels)
        curve.append([float(value) for value in figures])
    return np.array(curve), state


start = time.perf_counter()
curves = {name: run(learner) for name, learner in learners.items()}
print(f"two campaigns of 180 labels in {time.perf_counter() - start:.0f} s, compiling included")

# %%
counts = 20 * np.arange(1, 10)
figure, panels = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
for panel, column, metric in zip(panels, (0, 1), ("accuracy", "nll"), strict=True):
    values = {strategy: curve[:, column] for strategy, (curve, _) in curves.items()}
    plots.learning_curves(values, panel, labels=counts, metric=metric)

# %% [markdown]
# ## How sure is it, and is that true?
# scikit-learn's logistic regression on the same 180 labels, as shipped, beside it. Its prior is
# fixed; ours is found by cross-validation of what the draws predict.

# %%
state = curves["margin"][1]
known = np.asarray(state.ledger.indices)[: int(state.ledger.count)]
theirs = LogisticRegression(max_iter=2_000).fit(pool[known].astype(float), labels[known])
said = {
    "posteriors.logistic": bayesal.predictive_of(posterior, state, 50).log_probs(test),
    "scikit-learn": theirs.predict_log_proba(test.astype(float)).astype(np.float32),
}
for name, log_probs in said.items():
    accuracy, nll = metrics.accuracy(log_probs, test_labels), metrics.nll(log_probs, test_labels)
    ece = metrics.ece(log_probs, test_labels)
    print(f"{name:<20} accuracy {accuracy:.3f}, NLL {nll:.3f}, ECE {ece:.3f}")

# %% [markdown]
# ## What it would ask next

# %%
batch = learners["margin"].ask(state, pool, size=8)
rows = np.asarray(batch.indices)
guess = bayesal.predictive_of(posterior, state, 50).predict(pool[rows])
pictures = images[500 + rows].reshape(-1, 8, 8)
plots.picked_images(pictures, labels=labels[rows], predicted=np.asarray(guess))
# %%
assert curves["margin"][0][-1, 0] > curves["margin"][0][0, 0]
assert metrics.nll(said["posteriors.logistic"], test_labels) < metrics.nll(
    said["scikit-learn"], test_labels
)
