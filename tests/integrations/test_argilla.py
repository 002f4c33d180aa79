"""Picks as Argilla's records and back. Its own classes are used where they are installed, with a
loopback server that only says who is logged in; records of the same shape where they are not.
"""

import importlib.util
import json
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from bayesal import errors
from bayesal.integrations import argilla
from bayesal.types import Selection

CLASSES = ["spam", "ham"]
TEXTS = [f"text {i}" for i in range(9)]
BATCH = Selection(indices=np.array([7, 2, 5]), scores=np.array([0.5, 0.25, np.nan]))
ANN, BOB = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"

installed = pytest.mark.skipif(
    importlib.util.find_spec("argilla") is None, reason="pip install argilla"
)


def record(row, *responses):
    """What a record looks like that the server gives back."""
    names = "question_name", "value", "user_id", "status"
    return types.SimpleNamespace(
        id=str(row),
        responses=[types.SimpleNamespace(**dict(zip(names, r, strict=True))) for r in responses],
    )


def test_submitted_responses_become_labels():
    found = argilla.answers(
        [
            record(7, ("label", "ham", ANN, "submitted"), ("label", "spam", BOB, "submitted")),
            record(2, ("label", "ham", ANN, "draft"), ("other", "x", ANN, "submitted")),
            record(5, ("label", "ham", ANN, "discarded"), ("label", None, BOB, "discarded")),
            record(3),
        ],
        CLASSES,
    )
    assert found.rows.tolist() == [7, 7] and found.labels.tolist() == [1, 0]
    assert found.annotators.tolist() == [ANN, BOB] and found.discarded.tolist() == [5]
    assert found.rows.dtype == found.labels.dtype == np.int64


def test_nothing_answered_is_nothing():
    assert argilla.answers([record(1)], CLASSES).rows.shape == (0,)


def test_foreign_records_and_labels_are_refused():
    with pytest.raises(errors.UnknownName, match="row 7 was answered 'eggs'"):
        argilla.answers([record(7, ("label", "eggs", ANN, "submitted"))], CLASSES)
    with pytest.raises(errors.WrongIndex, match="'a3f'"):
        argilla.answers([record("a3f")], CLASSES)


@pytest.fixture(scope="module")
def rg():
    """Argilla's package, logged in to a server on this machine that knows one person."""
    person = {"id": ANN, "username": "ann", "first_name": "Ann", "role": "owner", "api_key": "k"}
    person |= {"inserted_at": "2024-01-01T00:00:00", "updated_at": "2024-01-01T00:00:00"}

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(person).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    module = pytest.importorskip("argilla", reason="pip install argilla")
    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    module.Argilla(api_url=f"http://127.0.0.1:{server.server_port}", api_key="k")
    yield module
    server.shutdown()
    server.server_close()


@installed
def test_settings_have_the_question_and_the_score(rg):
    made = argilla.settings([rg.TextField(name="text")], CLASSES, guidelines="read")
    assert [question.name for question in made.questions] == ["label"]
    assert made.questions[0].labels == CLASSES and made.guidelines == "read"
    assert [property.name for property in made.metadata] == ["acquisition"]


@installed
def test_records_carry_the_row_the_score_and_a_suggestion(rg):
    probs = np.array([[0.3, 0.7], [0.9, 0.1], [0.4, 0.6]])
    made = argilla.records(
        BATCH, lambda row: {"text": TEXTS[row]}, probs=probs, classes=CLASSES, agent="bayesal-r7"
    )
    sent = [one.api_model().model_dump() for one in made]
    assert [one["external_id"] for one in sent] == ["7", "2", "5"]
    assert [one["fields"] for one in sent] == [{"text": TEXTS[row]} for row in (7, 2, 5)]
    assert [one["metadata"] for one in sent] == [{"acquisition": 0.5}, {"acquisition": 0.25}, {}]
    suggested = [(one["suggestions"][0]["value"], one["suggestions"][0]["score"]) for one in sent]
    assert suggested == [("ham", 0.7), ("spam", 0.9), ("ham", 0.6)]
    assert {one["suggestions"][0]["agent"] for one in sent} == {"bayesal-r7"}
    assert not argilla.records(BATCH, lambda row: {"text": "x"})[0].api_model().suggestions


@installed
def test_responses_of_the_packages_own_records_are_read(rg):
    given = rg.Record(
        id="4",
        fields={"text": "x"},
        responses=[
            rg.Response("label", "ham", user_id=ANN, status="submitted"),
            rg.Response("label", "spam", user_id=BOB, status="draft"),
        ],
    )
    found = argilla.answers([given], CLASSES)
    assert found.rows.tolist() == [4] and found.labels.tolist() == [1]


@installed
def test_probabilities_of_other_rows_are_refused(rg):
    with pytest.raises(errors.WrongShape, match=r"\[3 picks, 2 classes\]"):
        argilla.records(BATCH, lambda row: {}, probs=np.ones((9, 2)) / 2, classes=CLASSES)
