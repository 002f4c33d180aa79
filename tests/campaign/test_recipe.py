"""Recipes: what they name, and how they are refused."""

import json

import numpy as np
import pytest

from bayesal import acquire, campaign, errors
from bayesal.campaign import _recipe as recipes
from tests.campaign.world import RECIPE, X

TOML = """
question = "Which side?"
classes = ["left", "right"]
size = 4

[posterior]
call = "posteriors.mc_dropout"
args = [{ call = "networks.mlp", args = [2, 2, [8]] }]

[strategy]
call = "acquire.softmax"
score = { use = "scores.margin" }
beta = 4.0

[hparams]
steps = 20
"""


def steep(log_probs):
    """A score of the user's."""
    return -log_probs.max(axis=(0, -1))


def test_a_toml_file(tmp_path):
    (tmp_path / "r.toml").write_text(TOML)
    document = recipes.document(tmp_path / "r.toml")
    built = recipes.build(document)
    assert (built.size, built.classes, document["spare"]) == (4, ("left", "right"), 4)
    assert float(built.posterior.members or 0) == 0
    assert recipes.build(document).learner is built.learner  # nothing compiles twice
    (tmp_path / "r.json").write_text(json.dumps(document))
    assert recipes.document(tmp_path / "r.json") == document


def test_a_function_of_the_users_own():
    own = {"call": "acquire.top", "args": [{"use": "tests.campaign.test_recipe:steep"}]}
    recipes.build(recipes.document(RECIPE | {"strategy": own}))


def test_every_strategy_has_a_name_that_works():
    for name in acquire._names.NAMES:
        acquire.named(name)
    with pytest.raises(errors.UnknownName, match="power_bald"):
        acquire.named("magic")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"siez": 3}, "`siez` is no part of a recipe"),
        ({"size": 0}, "`size` must be a whole number of at least 1"),
        ({"size": True}, "`size` must be a whole number"),
        ({"spare": -1}, "`spare` must be"),
        ({"answers": 1.5}, "`answers` must be"),
        ({"seed": "x"}, "`seed` must be"),
        ({"lease": 0}, "`lease` must be a number of seconds"),
        ({"deadline": float("inf")}, "`deadline` must be"),
        ({"again": 0}, "`again` must be a number of new items above 0"),
        ({"beliefs": "maybe"}, "one of after, before, never"),
        ({"question": 3}, "`question` must be text"),
        ({"classes": "ab"}, "`classes` must be a list of names"),
        ({"classes": ["a", "a"]}, "two different names"),
        ({"classes": None}, "name them in `classes`"),
        ({"posterior": None}, "names no `posterior`"),
        ({"posterior": 3}, "`posterior` must be the name of a function, or a table"),
        ({"posterior": "posteriors.magic"}, "is no public name of bayesal"),
        ({"posterior": "os.system"}, "is no part of bayesal"),
        ({"posterior": {"call": "posteriors._heads"}}, "is no public name"),
        ({"posterior": {"call": "no.such:thing"}}, "cannot be imported"),
        ({"posterior": {"call": ["posteriors"]}}, "named by text"),
        ({"posterior": {"call": "posteriors.logistic", "args": [2], "folds": 3}}, "folds"),
        ({"strategy": "magic"}, "is no strategy"),
        ({"strategy": {"call": "acquire.top", "args": ["margin"]}}, "strategy"),
        ({"calibrate": "calibrate.variance"}, "for real labels"),
        ({"hparams": {"lr": 1.0}}, "learning_rate"),
        ({"class_weights": {"left": 1.0}}, "one weight for each"),
        ({"posterior": "posteriors.linear"}, "leave out `classes`"),
        ({"posterior": {"call": "posteriors.logistic", "args": [2], "x": {1, 2}}}, "holds text"),
    ],
)
def test_what_is_no_recipe(changes, message):
    with pytest.raises(errors.BadRecipe, match=message):
        recipes.build(recipes.document(RECIPE | changes))


def test_the_line_is_named(tmp_path):
    (tmp_path / "r.toml").write_text(TOML.replace("size = 4", "size = -4"))
    with pytest.raises(errors.BadRecipe, match="line 4: `size` must be"):
        recipes.document(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_text(TOML.replace("size = 4", "size == 4"))
    with pytest.raises(errors.BadRecipe, match=r"cannot be read.*line 4"):
        recipes.document(tmp_path / "r.toml")
    (tmp_path / "r.json").write_text('{"classes": [')
    with pytest.raises(errors.BadRecipe, match=r"cannot be read.*line 1"):
        recipes.document(tmp_path / "r.json")
    with pytest.raises(errors.BadRecipe, match="must be a mapping"):
        recipes.document(3)


@pytest.mark.parametrize(
    ("recipe", "pool", "error", "message"),
    [
        (RECIPE | {"classes": ["a", "b", "c"]}, X, errors.BadRecipe, "names 3 classes, .* has 2"),
        (RECIPE, X[0], errors.WrongShape, "`pool`"),
        (RECIPE, X[:0], errors.WrongSize, "empty pool"),
        (RECIPE, "nowhere.npy", errors.BadPool, "cannot be read"),
        (RECIPE, "pool.csv", errors.BadPool, "must be an array or an .npy file"),
        (RECIPE, np.array([["a"], ["b"]]), errors.BayesalError, "`pool`"),
    ],
)
def test_nothing_is_written_of_a_campaign_that_cannot_be(tmp_path, recipe, pool, error, message):
    with pytest.raises(error, match=message):
        campaign.create(tmp_path / "c.db", pool, recipe)
    assert not list(tmp_path.iterdir())
