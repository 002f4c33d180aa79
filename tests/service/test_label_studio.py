"""Label Studio's protocol: requests in the shape that its servers send."""

import pytest

from bayesal import campaign, errors
from bayesal.service import _label_studio as studio
from tests.campaign.world import RECIPE, X, begun, clock, right, running, store

CONFIG = """<View>
  <!-- which side? -->
  <Text name="text" value="$text"/>
  <Choices name="side" toName="text" choice="single">
    <Choice value="left"/><Choice value="right"/>
  </Choices>
</View>"""
PROJECT = {"id": 3, "label_config": CONFIG, "title": "sides"}


def task(number, item=None):
    return {"id": number, "data": {"text": "?", **({} if item is None else {"item_id": item})}}


def event(action, item, choice, *, updated="2026-01-02T03:04:05.678901Z", person=7, id=70, **more):
    result = [
        {
            "id": "r1",
            "from_name": "side",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": [choice]},
        }
    ]
    annotation = {
        "id": id,
        "completed_by": person,
        "result": result if choice else [],
        "was_cancelled": False,
        "updated_at": updated,
        "lead_time": 3.1,
    }
    return {
        "action": action,
        "project": PROJECT,
        "task": task(900, item),
        "annotation": annotation | more,
    }


def test_the_first_pick_has_the_lowest_score_and_the_rest_the_highest(running):
    picks = [ask.id for ask in running.asked()]
    sent = {
        "tasks": [task(i, str(i)) for i in range(40)],
        "model_version": "r0",
        "project": "3.1700000000",
        "label_config": CONFIG,
        "params": {"login": None, "password": None, "context": None},
    }
    results = studio.predictions(running, sent)["results"]
    assert len(results) == 40 and {r["model_version"] for r in results} == {"r0"}
    order = sorted(range(40), key=lambda i: results[i]["score"])
    assert [str(i) for i in order[: len(picks)]] == picks
    assert all(results[i]["score"] == 1.0 for i in order[len(picks) :])
    assert all(r["result"] == [] for r in results)  # nothing is known, and beliefs bias people


def test_beliefs_are_sent_where_the_recipe_shows_them_before(begun, tmp_path, clock):
    running = campaign.create(tmp_path / "c.db", X, RECIPE | {"beliefs": "before"}, clock=clock)
    for ask in running.next("ann", 4):
        running.answer(ask.token, "label", right(ask.row))
    running.step()
    pick = running.asked()[0]
    sent = {"tasks": [task(1, pick.id)], "label_config": CONFIG}
    (said,) = studio.predictions(running, sent)["results"]
    best = ("left", "right")[pick.belief.index(max(pick.belief))]
    assert said["result"] == [
        {
            "from_name": "side",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": [best]},
        }
    ]
    assert said["model_version"] == "r1"


def test_a_task_without_an_item_id_is_its_own_number(running):
    assert studio.item(task(17)) == "17" and studio.item(task(17, "x")) == "x"


def test_an_annotation_is_stored_once_however_often_it_comes(running):
    sent = event("ANNOTATION_CREATED", "5", "left")
    for _ in range(3):
        status, body, train = studio.heard(running, sent)
        assert (status, body["status"], train) == (201, "ok", False)
    assert running.progress().answers == 1
    later = event("ANNOTATION_UPDATED", "5", "right", updated="2026-01-02T03:05:00Z")
    studio.heard(running, later)
    studio.heard(running, sent)  # an old one, late
    assert [r["label"] for r in running.export()] == ["right"]
    gone = event("ANNOTATION_DELETED", "5", "right", updated="2026-01-02T03:06:00Z")
    studio.heard(running, gone)
    assert running.export() == []


@pytest.mark.parametrize(
    ("choice", "more", "kind"),
    [("left", {"was_cancelled": True}, "skip"), (None, {}, "abstain"), ("left", {}, "label")],
)
def test_kinds(running, choice, more, kind):
    studio.heard(running, event("ANNOTATION_CREATED", "5", choice, **more))
    assert running.progress().kinds[kind] == 1


def test_two_people_of_label_studio_are_two(running):
    studio.heard(running, event("ANNOTATION_CREATED", "5", "left", person={"id": 7, "email": "a"}))
    studio.heard(running, event("ANNOTATION_CREATED", "5", "left", person=8, id=71))
    assert {p.annotator for p in running.progress().people} == {"label-studio 7", "label-studio 8"}


def test_training_and_events_that_are_none(running):
    assert studio.heard(running, {"action": "START_TRAINING", "project": PROJECT})[2]
    assert studio.heard(running, {"action": "TASKS_CREATED"}) == (
        200,
        {"status": "Unknown event"},
        False,
    )


def test_the_old_train_request(running):
    old = event("ANNOTATION_CREATED", "5", "left")
    sent = {
        "annotations": [old["task"] | {"annotations": [old["annotation"]]}],
        "project": "3.1700000000",
        "label_config": CONFIG,
    }
    status, body, train = studio.trained(running, sent)
    assert (status, body["stored"], train) == (201, 1, True)
    assert running.progress().kinds["label"] == 1


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (None, errors.WrongType, "must be the XML"),
        ("<View", errors.WrongType, "is no XML"),
        ("<View/>", errors.WrongType, "has no <Choices>"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View/>', errors.WrongType, "without declarations"),
        (CONFIG.replace('"right"', '"other"'), errors.WrongLabel, "no <Choice> for right"),
    ],
)
def test_interfaces_that_do_not_fit(config, error, message):
    with pytest.raises(error, match=message):
        studio.control(config, ("left", "right"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"task": None}, errors.WrongType, "an event must hold"),
        ({"annotation": 3}, errors.WrongType, "an event must hold"),
        ({"task": task(1, "nobody")}, errors.WrongIndex, "is no item"),
        ({"project": None}, errors.WrongType, "must be the XML"),
    ],
)
def test_events_that_are_refused(running, change, error, message):
    with pytest.raises(error, match=message):
        studio.heard(running, event("ANNOTATION_CREATED", "5", "left") | change)
    assert running.progress().answers == 0
