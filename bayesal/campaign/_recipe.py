"""Recipes: a learner as a document that people read, and that tomorrow's process builds again.

A part names a public function of bayesal, or a function of the user's as `module:function`. Nothing
is evaluated and nothing is pickled.
"""

import functools
import importlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bayesal import (
    acquire,
    calibrate,
    errors,
    likelihoods,
    networks,
    posteriors,
    retune,
    scores,
)
from bayesal.loop import Learner, learner
from bayesal.types import HParams, Posterior

ROOMS = {
    "acquire": acquire,
    "calibrate": calibrate,
    "likelihoods": likelihoods,
    "networks": networks,
    "posteriors": posteriors,
    "retune": retune,
    "scores": scores,
}
BELIEFS = ("after", "before", "never")
PARTS = ("posterior", "strategy", "retune", "calibrate", "first")
LEARNER = ("num_draws", "num_folds", "update", "audit", "class_weights")


class Recipe(NamedTuple):
    """A checked recipe.

    document: what was given, with every default filled in.
    classes: names of the classes; None where labels are real numbers.
    size: settled items that end a round. A batch has `size + spare` items, so that people can go on
      while a round is computed.
    answers: answers wanted for an item.
    again: what asking somebody else about an answered item costs, where a new item costs 1; None:
      nobody is asked beyond `answers`.
    lease: seconds that an item is kept for the annotator who got it.
    deadline: seconds after which a round ends with the answers that are there; None: never.
    beliefs: when people see what the net believes: "after" their answer, "before" it, "never".
    posterior, learner: built once.
    """

    document: dict[str, Any]
    classes: tuple[str, ...] | None
    size: int
    answers: int
    again: float | None
    lease: float
    deadline: float | None
    beliefs: str
    posterior: Posterior
    learner: Learner


DEFAULTS: dict[str, Any] = {
    "question": "What is this?",
    "classes": None,
    "size": 10,
    "spare": None,  # as many as `size`
    "answers": 1,
    "again": None,
    "seed": 0,
    "lease": 600.0,
    "deadline": None,
    "beliefs": "after",
    "posterior": None,
    "strategy": "margin",
    "retune": None,
    "calibrate": None,
    "first": None,
    "hparams": None,
    **dict.fromkeys(LEARNER),
}


def document(recipe: Any) -> dict[str, Any]:
    """A recipe with its defaults, of a mapping or of a TOML or JSON file.

    Raises:
      BadRecipe: what cannot be read, and on which line.
      FileNotFoundError: there is no such file.
    """
    text = None
    if isinstance(recipe, str | Path):
        text = Path(recipe).read_text(encoding="utf-8")
        recipe = _parsed(text, json if str(recipe).endswith(".json") else tomllib)
    if not isinstance(recipe, Mapping):
        raise errors.BadRecipe(
            "recipe",
            "`recipe` must be a mapping, or the path of a .toml or .json file; got "
            f"{type(recipe).__name__}.",
        )
    for key in recipe:
        if key not in DEFAULTS:
            raise errors.BadRecipe(
                "recipe",
                f"{_place(text, key)}`{key}` is no part of a recipe, which has: "
                f"{', '.join(DEFAULTS)}.",
            )
    full = DEFAULTS | dict(recipe)
    if full["spare"] is None:
        full["spare"] = full["size"]
    if full["posterior"] is None:
        raise errors.BadRecipe(
            "recipe",
            "the recipe names no `posterior`, such as { call = 'posteriors.logistic', "
            "args = [10] }.",
        )
    _numbers(full, text)
    try:
        return json.loads(json.dumps(full))
    except TypeError as error:
        raise errors.BadRecipe(
            "recipe",
            f"a recipe holds text, numbers, lists and tables, so that it can be stored: {error}. "
            "Name functions by { use = 'module:function' }.",
        ) from error


def build(document: dict[str, Any]) -> Recipe:
    """The learner of a recipe. Equal parts give the very same learner, so that nothing compiles
    twice.

    Raises:
      BadRecipe: a part that does not exist, or that refuses its arguments.
    """
    classes = document["classes"]
    parts = {name: document[name] for name in (*PARTS, *LEARNER, "hparams")}
    if isinstance(parts["class_weights"], Mapping):
        parts["class_weights"] = _in_order(parts["class_weights"], classes or [])
    batch = document["size"] + document["spare"]
    posterior, made = _built(json.dumps(parts, sort_keys=True), batch)
    if posterior.real == (classes is not None):
        raise errors.BadRecipe(
            "recipe",
            "the posterior's labels are real numbers: leave out `classes`."
            if classes is not None
            else "the posterior's labels are classes: name them in `classes`.",
        )
    return Recipe(
        document=document,
        classes=None if classes is None else tuple(classes),
        size=document["size"],
        answers=document["answers"],
        again=document["again"],
        lease=document["lease"],
        deadline=document["deadline"],
        beliefs=document["beliefs"],
        posterior=posterior,
        learner=made,
    )


@functools.lru_cache(maxsize=16)
def _built(text: str, size: int) -> tuple[Posterior, Learner]:
    document = json.loads(text)
    parts = {name: _part(name, document[name]) for name in PARTS}
    options = {name: document[name] for name in LEARNER if document[name] is not None}
    if document["hparams"] is not None:
        options["hparams"] = _called("hparams", HParams, (), document["hparams"])
    named = {name: parts[name] for name in ("retune", "calibrate", "first")}
    posterior, strategy = parts["posterior"], parts["strategy"]
    made = _called("learner", learner, (posterior, strategy), {"size": size, **named, **options})
    return posterior, made


def _in_order(weights: Mapping[str, Any], classes: list[str]) -> list[Any]:
    """Weights of classes by name, in the order of the classes."""
    if set(weights) != set(classes):
        raise errors.BadRecipe(
            "recipe", f"`class_weights` must have one weight for each of {', '.join(classes)}."
        )
    return [weights[name] for name in classes]


# --- what a document may hold


def _parsed(text: str, language: Any) -> Any:
    try:
        return language.loads(text)
    except ValueError as error:  # both name line and column
        raise errors.BadRecipe("recipe", f"the recipe cannot be read: {error}.") from error


def _numbers(full: dict[str, Any], text: str | None) -> None:
    wrong = lambda key, what: errors.BadRecipe(
        "recipe", f"{_place(text, key)}`{key}` must be {what}, got {full[key]!r}."
    )
    for key, least in (("size", 1), ("answers", 1), ("spare", 0)):
        if type(full[key]) is not int or full[key] < least:
            raise wrong(key, f"a whole number of at least {least}")
    if type(full["seed"]) is not int:
        raise wrong("seed", "a whole number")
    for key, what in (("lease", "seconds"), ("deadline", "seconds"), ("again", "new items")):
        optional = key != "lease" and full[key] is None
        if not optional and not (type(full[key]) in (int, float) and 0 < full[key] < np.inf):
            raise wrong(key, f"a number of {what} above 0")
    if full["beliefs"] not in BELIEFS:
        raise wrong("beliefs", f"one of {', '.join(BELIEFS)}")
    if not isinstance(full["question"], str):
        raise wrong("question", "text")
    names = full["classes"]
    if names is None:
        return
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise wrong("classes", "a list of names")
    if len(set(names)) < max(2, len(names)):
        raise wrong("classes", "two different names or more, each once")


def _place(text: str | None, key: str) -> str:
    """The line of a key, in words; nothing where there is no text."""
    for number, line in enumerate((text or "").splitlines(), 1):
        if re.match(rf"""\s*\[?\s*["']?{re.escape(key)}\b""", line):
            return f"line {number}: "
    return ""


# --- parts


def _part(name: str, given: Any) -> Any:
    """A part: a table with `call` or `use`, the name of a function, or of a strategy."""
    if given is None:
        return None
    if isinstance(given, str):
        if name in ("strategy", "first") and not re.search(r"[.:]", given):
            return _called(name, acquire.named, (given,), {})
        given = {"call": given}
    if not isinstance(given, Mapping) or not {"call", "use"} & set(given):
        raise errors.BadRecipe(
            "recipe",
            f"`{name}` must be the name of a function, or a table such as "
            "{ call = 'posteriors.logistic', args = [10] }; got " + f"{given!r}.",
        )
    return _value(name, given)


def _value(where: str, given: Any) -> Any:
    """What a part of a document stands for."""
    if isinstance(given, list):
        return tuple(_value(where, one) for one in given)
    if not isinstance(given, Mapping):
        return given
    if "use" in given:
        return _found(where, given["use"])
    if "call" not in given:
        return {key: _value(where, one) for key, one in given.items()}
    args = _value(where, list(given.get("args", [])))
    named = {k: _value(where, one) for k, one in given.items() if k not in ("call", "args")}
    return _called(where, _found(where, given["call"]), args, named)


def _called(where: str, function: Callable[..., Any], args: Any, named: Mapping) -> Any:
    try:
        return function(*args, **named)
    except (errors.BayesalError, TypeError, ValueError) as error:
        raise errors.BadRecipe("recipe", f"`{where}` of the recipe: {error}") from error


def _found(where: str, name: Any) -> Any:
    """A public name of bayesal as `room.name`, or anybody's as `module:name`."""
    bad = lambda why: errors.BadRecipe("recipe", f"`{where}` of the recipe: {why}")
    if not isinstance(name, str):
        raise bad(f"a function is named by text, got {name!r}.")
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
        except (ImportError, AttributeError, ValueError) as error:
            raise bad(f"{name!r} cannot be imported ({error}).") from error
    room, *names = name.split(".")
    if room not in ROOMS:
        raise bad(
            f"{name!r} is no part of bayesal: name one of {', '.join(f'{r}.…' for r in ROOMS)}, or "
            "a function of yours as 'module:function'."
        )
    at: Any = ROOMS[room]
    for part in names:
        if part not in getattr(at, "__all__", ()):
            raise bad(f"{name!r} is no public name of bayesal.")
        at = getattr(at, part)
    return at
