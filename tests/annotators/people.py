"""Simulated annotators, and Dawid-Skene in plain Python floats."""

import math

import numpy as np


def simulated(seed, items, confusions, asked=1.0, abstaining=0.0):
    """True classes `[N]` and answers `[N, A]` of people with given confusion matrices."""
    random = np.random.default_rng(seed)
    classes = len(confusions[0])
    truth = random.integers(0, classes, items)
    said = np.array([[random.choice(classes, p=rows[t]) for rows in confusions] for t in truth])
    said = np.where(random.random(said.shape) < abstaining, -2, said)
    return truth, np.where(random.random(said.shape) < asked, said, -1)


def even(right, classes):
    """One who is wrong evenly."""
    wrong = (1 - right) / (classes - 1)
    return np.full((classes, classes), wrong) + (right - wrong) * np.eye(classes)


def expect(answers, prior, confusion, abstain):
    """Posterior of each item, and the log-likelihood of all answers. `prior[i][c]` is a
    probability.
    """
    posterior, total = [], 0.0
    for i, row in enumerate(answers):
        joint = []
        for c in range(len(prior[0])):
            p = prior[i][c]
            for a, label in enumerate(row):
                if label == -2:
                    p *= abstain[a][c]
                elif label >= 0:
                    p *= (1 - abstain[a][c]) * confusion[a][c][label]
            joint.append(p)
        total += math.log(sum(joint))
        posterior.append([p / sum(joint) for p in joint])
    return posterior, total


def estimate(answers, posterior, diagonal, off, strength=5.0):
    """Confusions, P(abstain | class) and class frequencies from posteriors (the M-step)."""
    people, classes = len(answers[0]), len(posterior[0])
    confusion, abstain = [], []
    for a in range(people):
        said = [row[a] for row in answers if row[a] != -1]
        share = sum(label == -2 for label in said) / max(len(said), 1)
        matrix, missing = [], []
        for c in range(classes):
            cells = [off + diagonal * (c == label) for label in range(classes)]
            none = count = 0.0
            for i, row in enumerate(answers):
                if row[a] != -1:
                    count += posterior[i][c]
                    if row[a] == -2:
                        none += posterior[i][c]
                    else:
                        cells[row[a]] += posterior[i][c]
            matrix.append([cell / sum(cells) for cell in cells])
            missing.append((none + strength * share) / (count + strength))
        confusion.append(matrix)
        abstain.append(missing)
    answered = [i for i, row in enumerate(answers) if any(label != -1 for label in row)]
    mass = [1 + sum(posterior[i][c] for i in answered) for c in range(classes)]
    return confusion, abstain, [m / sum(mass) for m in mass]


def objective(model, log_likelihood, answers, diagonal, off, learned, strength=5.0):
    """Log posterior of a model, but for a constant."""
    confusion, abstain, frequency = model
    total = log_likelihood
    for a, matrix in enumerate(confusion):
        said = [row[a] for row in answers if row[a] != -1]
        share = sum(label == -2 for label in said) / max(len(said), 1)
        for c, row in enumerate(matrix):
            total += sum((off + diagonal * (c == k)) * math.log(p) for k, p in enumerate(row))
            for weight, p in ((share, abstain[a][c]), (1 - share, 1 - abstain[a][c])):
                total += strength * weight * math.log(p) if weight else 0.0
    return total + (sum(map(math.log, frequency)) if learned else 0.0)


def dawid_skene(answers, classes, prior=None, diagonal=3.0, off=0.5, steps=10):
    """EM from one right answer more than the prior's. Posterior, model and objectives."""
    nothing = [[0.0] * classes for _ in answers]
    _, abstain, frequency = estimate(answers, nothing, diagonal, off)
    first = [[off + (diagonal + 1) * (c == k) for k in range(classes)] for c in range(classes)]
    confusion = [[[cell / sum(row) for cell in row] for row in first] for _ in answers[0]]
    model, found = (confusion, abstain, frequency), []
    for step in range(steps + 1):
        rows = [model[2]] * len(answers) if prior is None else prior
        posterior, log_likelihood = expect(answers, rows, *model[:2])
        if step < steps:
            found.append(objective(model, log_likelihood, answers, diagonal, off, prior is None))
            model = estimate(answers, posterior, diagonal, off)
    return posterior, model, found
