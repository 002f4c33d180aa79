"""Label Studio's protocol for machine-learning backends: what it sends, and what it gets.

Pure functions of a campaign and JSON; `_app` has the routes. Label Studio shows the *lowest* score
first, so the first pick of a batch gets the lowest. With more than one annotator it shuffles what
has a prediction, so only the picks of the round are predicted; a new round is a new model version.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from xml.etree import ElementTree

from bayesal import errors
from bayesal.campaign import Campaign
from bayesal.campaign._answers import Receipt
from bayesal.campaign._read import Asked

ITEM = "item_id"  # the field of a task's data with the item's id; without it the task's own number
STORED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED")
TRAINING = ("START_TRAINING", "PROJECT_UPDATED")  # up to 1.12 the first came as the second
LAST = 1.0  # the score of tasks that are no picks


class Control(NamedTuple):
    """The `<Choices>` of a labeling interface: names that a result must repeat, and the choices."""

    from_name: str
    to_name: str
    choices: tuple[str, ...]


def control(label_config: Any, classes: Sequence[str]) -> Control:
    """The choices of a project, whose names are the campaign's classes.

    Raises:
      WrongType: no XML, or no `<Choices>` in it. WrongLabel: a class without a choice.
    """
    bad = lambda why: errors.WrongType("label_config", f"`label_config` {why}.")
    if not isinstance(label_config, str) or "<!" in label_config.replace("<!--", ""):
        raise bad("must be the XML of a labeling interface, without declarations")
    try:
        found = ElementTree.fromstring(label_config).find(".//Choices")
    except ElementTree.ParseError as error:
        raise bad(f"is no XML ({error})") from error
    if found is None:
        raise bad("has no <Choices>: campaigns here are about classes")
    values = tuple(str(c.get("alias") or c.get("value")) for c in found.iter("Choice"))
    if missing := [name for name in classes if name not in values]:
        raise errors.WrongLabel(
            "label_config",
            f"`label_config` has no <Choice> for {', '.join(missing)}: the choices' values (or "
            "aliases) must be the campaign's classes.",
        )
    return Control(found.get("name", ""), found.get("toName", ""), values)


def version(campaign: Campaign) -> str:
    """The model version: another one in every round."""
    return f"r{campaign.due().round}"


def predictions(campaign: Campaign, sent: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to `/predict`: one entry for each task, in their order."""
    tasks = sent.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, Mapping) for task in tasks):
        raise errors.WrongType("tasks", "`tasks` must be a list of tasks.")
    classes = campaign.recipe.classes or ()
    form = control(sent.get("label_config"), classes)
    asked = {ask.id: ask for ask in campaign.asked()}
    said = version(campaign)
    return {
        "results": [
            _prediction(asked.get(item(task)), len(asked), form, campaign) | {"model_version": said}
            for task in tasks
        ]
    }


def _prediction(ask: Asked | None, picks: int, form: Control, campaign: Campaign) -> dict[str, Any]:
    if ask is None:
        return {"result": [], "score": LAST}
    classes, result = campaign.recipe.classes or (), []
    if ask.belief is not None and campaign.recipe.beliefs == "before":
        choice = classes[ask.belief.index(max(ask.belief))]
        result = [
            {
                "from_name": form.from_name,
                "to_name": form.to_name,
                "type": "choices",
                "value": {"choices": [choice]},
            }
        ]
    return {"result": result, "score": (ask.rank + 1) / (picks + 1)}


def heard(campaign: Campaign, sent: Mapping[str, Any]) -> tuple[int, dict[str, Any], bool]:
    """What a webhook says is stored; a retry changes nothing.

    Returns:
      HTTP status, body, and whether training is asked for.
    """
    action = sent.get("action")
    if action in TRAINING:
        return 201, {"result": {}, "status": "ok"}, True
    if action not in STORED:
        return 200, {"status": "Unknown event"}, False
    project = sent.get("project")
    config = project.get("label_config") if isinstance(project, Mapping) else None
    form = control(config, campaign.recipe.classes or ())
    receipt = _stored(
        campaign, form, sent.get("task"), sent.get("annotation"), gone=action.endswith("DELETED")
    )
    return 201, {"result": {"number": receipt.number}, "status": "ok"}, False


def trained(campaign: Campaign, sent: Mapping[str, Any]) -> tuple[int, dict[str, Any], bool]:
    """What servers before 1.5 post to `/train`: all tasks with their annotations."""
    form = control(sent.get("label_config"), campaign.recipe.classes or ())
    count = 0
    for task in sent.get("annotations") or []:
        for annotation in task.get("annotations") or [] if isinstance(task, Mapping) else []:
            _stored(campaign, form, task, annotation, gone=False)
            count += 1
    return 201, {"job": "", "stored": count}, True


def item(task: Any) -> str:
    """The id of a task's item."""
    data = task.get("data")
    named = data.get(ITEM) if isinstance(data, Mapping) else None
    return str(task.get("id") if named is None else named)


def _stored(
    campaign: Campaign, form: Control, task: Any, annotation: Any, *, gone: bool
) -> Receipt:
    if not isinstance(task, Mapping) or not isinstance(annotation, Mapping):
        raise errors.WrongType("annotation", "an event must hold a `task` and an `annotation`.")
    kind, value = ("skip", None) if gone else _said(form, annotation)
    person = annotation.get("completed_by")
    person = person.get("id") if isinstance(person, Mapping) else person
    return campaign.record(
        item(task),
        f"label-studio {person}",
        kind,
        value,
        key=f"label-studio {annotation.get('id')}",
        at=_time(annotation.get("updated_at")),
    )


def _said(form: Control, annotation: Mapping[str, Any]) -> tuple[str, str | None]:
    """Kind and value of an annotation: cancelled is "later", empty is "cannot tell"."""
    if annotation.get("was_cancelled"):
        return "skip", None
    parts = annotation.get("result") or []
    chosen = [
        choice
        for part in parts
        if isinstance(part, Mapping) and part.get("from_name") == form.from_name
        for choice in (part.get("value") or {}).get("choices", [])
    ]
    if not chosen:
        return "abstain", None
    if len(chosen) > 1:
        raise errors.WrongLabel(
            "annotation", f"an item has one class here, and the annotation has {chosen}."
        )
    return "label", chosen[0]


def _time(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None
