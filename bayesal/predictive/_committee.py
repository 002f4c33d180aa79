"""Committees of fitted models with scikit-learn's verbs (`predict_proba`, `predict`, `classes_`,
`estimators_`); nothing is imported.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bayesal import errors
from bayesal._warnings import warn
from bayesal.predictive._bound import Predictive
from bayesal.predictive._samples import from_samples

ONE_HOT = 0.95  # share of a forest's training points in pure leaves from which it is warned about


def from_committee(
    models: Any,
    *,
    classes: Sequence[Any] | np.ndarray | None = None,
    variance: float | None = None,
    embed: Callable[[Any], Any] | None = None,
) -> Predictive:
    """A committee as a predictive: one draw per member.

    The models are asked as they are, on the host, and are not changed. A class that a member never
    saw has probability 0 with it; members of a bagging ensemble get their own features.

    Args:
      models: a fitted ensemble with `estimators_` (voting, bagging, random forest, extra trees),
        whose members learned the numbers of its `classes_`, as scikit-learn's do; or a list of at
        least two fitted models, whose `classes_` are the labels themselves.
      classes: the labels in the order of the last axis. Default: the ensemble's `classes_`; of a
        list, all labels that its members know, sorted.
      variance: for members that predict numbers: the variance of the noise, in the label's unit
        squared. It must be said, for `predict` gives means only.
      embed: `x [n, D] -> [n, D']`, for strategies that need features; `lambda x: x` takes the
        columns themselves.
    Raises:
      WrongType: boosting or stacking (their members correct each other), one model alone, members
        without `predict_proba`. WrongLabel, UnknownName: classes
      that do not fit. WrongSize: fewer than two members.
    Warns:
      when the members are fully grown trees: each is certain everywhere, so BALD equals predictive
      entropy. Set `min_samples_leaf`.

    >>> from sklearn.ensemble import RandomForestClassifier
    >>> x, y = np.random.default_rng(0).normal(size=(60, 2)), np.repeat(["no", "yes"], 30)
    >>> committee = from_committee(
    ...     RandomForestClassifier(8, min_samples_leaf=5, random_state=0).fit(x, y)
    ... )
    >>> committee(x).shape
    (8, 60, 2)
    """
    members, parts, names = _members(models)
    if variance is None:
        columns, width = _columns(members, names, classes)
        _warn_if_one_hot(members)
        asked = lambda x: _probabilities(members, parts, columns, width, x)
        return from_samples(probs=asked, num_draws=len(members), host=True, embed=embed)
    _predict_numbers(members, variance)
    asked = lambda x: _means(members, parts, float(variance), x)
    return from_samples(moments=asked, num_draws=len(members), host=True, embed=embed)


def _members(models: Any) -> tuple[list[Any], list[Any], np.ndarray | None]:
    """The members, the columns each of them looks at (None: all), and the labels behind the numbers
    they learned (None: they learned labels).
    """
    if isinstance(models, list | tuple):
        members, parts, names = list(models), None, None
    else:
        kind = type(models).__name__
        if not hasattr(models, "estimators_"):
            raise errors.WrongType(
                "models",
                f"{kind} has no `estimators_`. An ensemble (voting, bagging, random forest) "
                "must be fitted first; of other fitted models pass a list of "
                "two or more. Of a pipeline pass its last step, and a pool that its other "
                "steps have transformed.",
            )
        if (
            hasattr(models, "estimator_weights_")
            or hasattr(models, "final_estimator_")
            or np.ndim(models.estimators_) > 1
        ):
            raise errors.WrongType(
                "models",
                f"the members of {kind} correct each other, so none of them is a model of "
                "the data. Pass a list of several of these "
                "ensembles fitted on bootstrap samples, or a bagging ensemble or random forest.",
            )
        members, parts, names = (
            list(models.estimators_),
            getattr(models, "estimators_features_", None),
            getattr(models, "classes_", None),
        )
    if len(members) < 2:
        raise errors.WrongSize(
            "models",
            f"`models` has {len(members)} members; a committee needs at least two that can "
            "disagree.",
        )
    return members, [None] * len(members) if parts is None else list(parts), names


def _columns(members: list[Any], names: Any, classes: Any) -> tuple[list[np.ndarray], int]:
    """Where each member's probabilities go, and how many classes there are."""
    for number, member in enumerate(members):
        if not hasattr(member, "predict_proba"):
            raise errors.WrongType(
                "models",
                f"member {number}, {type(member).__name__}, has no `predict_proba`. If it "
                "predicts numbers, say the variance of the noise: variance=...; a "
                "classifier without probabilities gets them from CalibratedClassifierCV.",
            )
    known = [_labels(member, number, names) for number, member in enumerate(members)]
    if classes is not None:
        wanted = np.asarray(classes)
    elif names is not None:
        wanted = np.asarray(names)
    else:
        if len({labels.dtype.kind in "USO" for labels in known}) > 1:
            raise errors.WrongLabel(
                "models",
                "some members know their classes by number and others by name; fit all of "
                "them on one kind of labels.",
            )
        wanted = np.unique(np.concatenate(known))
    place = {label: at for at, label in enumerate(wanted.tolist())}
    if wanted.ndim != 1 or len(place) != len(wanted) or len(place) < 2:
        raise errors.WrongLabel(
            "classes", f"`classes` must be at least two different labels; got {wanted.tolist()}."
        )
    for number, labels in enumerate(known):
        if strange := [label for label in labels.tolist() if label not in place]:
            raise errors.UnknownName(
                "classes",
                f"member {number} knows the classes {strange[:5]}, which are not among "
                f"`classes` = {wanted.tolist()[:10]}.",
            )
    return [np.array([place[label] for label in labels.tolist()]) for labels in known], len(place)


def _labels(member: Any, number: int, names: Any) -> np.ndarray:
    """The labels behind the columns of a member's `predict_proba`."""
    labels = getattr(member, "classes_", None)
    if labels is None or isinstance(labels, list) or np.ndim(labels) != 1:
        raise errors.WrongType(
            "models",
            f"member {number}, {type(member).__name__}, must know its classes as one array "
            "`classes_`: fit it first, and on one label per row.",
        )
    labels = np.asarray(labels)
    if names is None:
        return labels
    if (
        labels.dtype.kind not in "iuf"
        or (labels % 1 != 0).any()
        or labels.min() < 0
        or labels.max() >= len(names)
    ):
        raise errors.WrongLabel(
            "models",
            f"member {number} has the classes {labels.tolist()[:5]}, which are no numbers of "
            f"the ensemble's {len(names)} `classes_`. If its members learned "
            "the labels themselves, pass the list of members.",
        )
    return np.asarray(names)[labels.astype(int)]


def _warn_if_one_hot(members: list[Any]) -> None:
    trees = [member.tree_ for member in members if hasattr(member, "tree_")]
    if not trees:
        return
    leaves = [tree.children_left == -1 for tree in trees]
    pure = [
        (tree.n_node_samples * (leaf & (tree.impurity == 0))).sum()
        / tree.n_node_samples[leaf].sum()
        for tree, leaf in zip(trees, leaves, strict=True)
    ]
    if np.mean(pure) > ONE_HOT:
        warn(
            "these trees are fully grown: nearly every leaf holds one class, so each tree is "
            "certain everywhere, expected entropy is 0 and BALD equals "
            "predictive entropy. Grow them with min_samples_leaf=5 or more to tell "
            "disagreement from noise.",
        )


def _predict_numbers(members: list[Any], variance: Any) -> None:
    if (
        isinstance(variance, bool)
        or not isinstance(variance, int | float | np.number)
        or not 0 < variance < np.inf
    ):
        raise errors.WrongSize(
            "variance",
            "`variance` must be a positive, finite number, the variance of the noise; got "
            f"{variance!r}.",
        )
    if classifiers := [type(member).__name__ for member in members if hasattr(member, "classes_")]:
        raise errors.WrongType(
            "variance",
            f"`variance` is for members that predict numbers, and {classifiers[0]} predicts "
            "classes: leave it out.",
        )


def _rows(x: np.ndarray) -> np.ndarray:
    if x.ndim != 2:
        raise errors.WrongShape(
            "x",
            "`x` must be rows of features [n, D], as these models take; got shape "
            f"{x.shape}. Flatten the pool: x.reshape(len(x), -1).",
        )
    return x


def _probabilities(members, parts, columns, width, x):
    out = np.zeros((len(members), len(_rows(x)), width))
    for k, (member, part, column) in enumerate(zip(members, parts, columns, strict=True)):
        out[k][:, column] = member.predict_proba(x if part is None else x[:, part])
    return out


def _means(members, parts, variance, x):
    means = np.stack(
        [
            np.asarray(member.predict(x if part is None else x[:, part]), float)
            for member, part in zip(members, parts, strict=True)
        ]
    )
    return means, np.full(means.shape, variance)
