"""The service over HTTP: questions, answers, progress, and what it refuses."""

import base64
import json
import socket
import time

import numpy as np
import pytest

from bayesal import campaign, errors, service
from tests.service.server import RECIPE, ROWS, Client, ann, bob, made, port, running, toy

PNG = b"\x89PNG\r\n\x1a\n"
JSON = {"Content-Type": "application/json"}


def right(ask):
    return "left" if ROWS[ask["row"], 0] < 0 else "right"


def waited(client, done, seconds=60):
    for _ in range(int(seconds * 20)):
        got = client.get("progress").json
        if done(got):
            return got
        time.sleep(0.05)
    raise AssertionError(got)


# --- people answer


def test_a_round_over_http(tmp_path):
    toy = made(tmp_path, "round")
    with running(service.app(toy, training="thread")) as at:
        ann = Client(at, "round", toy.invite("ann"))
        about = ann.get("about").json
        assert (about["question"], about["classes"]) == ("Left or right?", ["left", "right"])
        first = ann.ask(3)
        assert [a["token"] for a in ann.ask(3)] == [a["token"] for a in first]  # a reload
        for ask in ann.ask(4):
            sent = {"token": ask["token"], "kind": "label", "value": right(ask), "seconds": 1.5}
            got = ann.post("answer", sent)
            assert got.status == 200 and not got.json["repeated"]
            assert ann.post("answer", sent).json["repeated"]
        figures = waited(ann, lambda f: f["round"] == 1)
        assert figures["answers"] == 4 and figures["kinds"]["label"] == 4
        assert len(figures["batch"]) == 8
        later = ann.ask(1)[0]
        got = ann.post("answer", {"token": later["token"], "kind": "label", "value": "left"}).json
        assert len(got["belief"]) == 2 and later["belief"] is None  # shown after the answer
        got = ann.post("answer", {"token": later["token"], "kind": "label", "value": "right"})
        assert got.status == 409 and "already" in got.json["error"]
        sent = {"token": later["token"], "kind": "label", "value": "right", "revise": True}
        assert ann.post("answer", sent).status == 200


def test_exports(ann):
    assert ann.get("export").status == 200 and ann.get("export.csv").body.startswith(
        b"id,row,label"
    )
    assert ann.get("export.jsonl").status == 200 and ann.get("export.exe").status == 404


def test_new_items(port, toy):
    owner = Client(port, "toy", toy.invite("owner"))
    lines = json.dumps({"x": [9.0, 9.0], "id": "far", "show": "far away"})
    got = owner.send("POST", "/c/toy/items", lines, {"Content-Type": "application/jsonl"})
    assert (got.status, got.json) == (201, {"first": 60, "rows": 1})
    again = owner.send("POST", "/c/toy/items", lines, {"Content-Type": "application/jsonl"})
    assert again.status == 422 and "far" in again.json["error"]
    text = "id,text,a,b\nnear,close by,0.5,0.5\n"
    assert owner.send("POST", "/c/toy/items", text, {"Content-Type": "text/csv"}).status == 201


def test_events_tell_how_far_the_round_is(port, ann):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.sendall(
            f"GET /c/toy/events HTTP/1.1\r\nHost: localhost:{port}\r\n"
            f"Authorization: Bearer {ann.bearer}\r\n\r\n".encode()
        )
        got = b""
        while b'"settled"' not in got:
            got += wire.recv(4096)
    assert b"text/event-stream" in got


def test_pages_and_pictures(tmp_path):
    images = np.random.default_rng(0).random((30, 8, 8)).astype(np.float32)
    recipe = {"posterior": {"call": "posteriors.logistic", "args": [2]}}
    toy = made(tmp_path, "images", pool=images, recipe=recipe)
    with running(service.app(toy, training="elsewhere")) as at:
        ann = Client(at, "images", toy.invite("ann"))
        page = ann.send("GET", "/c/images/")
        assert page.status == 200 and b"<script" in page.body
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"
        picture = ann.get("item/3.png")
        assert picture.status == 200 and picture.body.startswith(b"\x89PNG")
        assert ann.get("item/30.png").status == 404
        assert ann.send("GET", "/").status in (302, 307)


# --- attacks


def test_who_has_no_token_learns_nothing(port):
    nobody, wrong = Client(port, "toy", None), Client(port, "toy", "guessed")
    for client in (nobody, wrong):
        for path in ("about", "progress", "export", "export.csv", "events", "item/0.png"):
            got = client.get(path)
            assert got.status == 401 and set(got.json) == {"error", "argument"}
        for path in ("ask", "answer", "items", "label-studio/webhook"):
            assert client.post(path, {}).status == 401
    assert nobody.send("GET", "/health").json == {"status": "UP"}


def test_the_question_of_somebody_else_is_unknown(ann, bob):
    token = ann.ask(1)[0]["token"]
    got = bob.post("answer", {"token": token, "kind": "label", "value": "left"})
    assert got.status == 404 and "no question" in got.json["error"]


def test_only_owners_add_items(ann):
    got = ann.send("POST", "/c/toy/items", '{"x": [1, 2]}', {"Content-Type": "application/jsonl"})
    assert got.status == 403


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"kind": "label", "value": "left"}, 404),
        ({"token": ["x"], "kind": "label", "value": "left"}, 404),
        ({"token": "ÄÖ", "kind": "label", "value": "left"}, 404),
        ({"token": "TOKEN", "kind": "label", "value": "middle"}, 422),
        ({"token": "TOKEN", "kind": "label", "value": {"a": 1}}, 422),
        ({"token": "TOKEN", "kind": "magic"}, 422),
        ({"token": "TOKEN", "kind": "reject", "value": "left"}, 422),
        ({"token": "TOKEN", "kind": "label", "value": "left", "revise": 1}, 422),
        ({"token": "TOKEN", "kind": "label", "value": "left", "seconds": -1}, 422),
        ({"token": "TOKEN", "kind": "label", "value": "left", "extra": 1}, 422),
    ],
)
def test_answers_that_are_none(ann, given, status):
    if given.get("token") == "TOKEN":
        given = given | {"token": ann.ask(1)[0]["token"]}
    got = ann.post("answer", given)
    assert got.status == status and got.json["error"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"[1]", JSON, 400),
        (b"\xff\xfe", JSON, 400),
        (b"{}", {"Content-Type": "text/html"}, 415),
        (b"{}", {}, 415),
        (b"x" * (2 << 20), JSON, 413),
        (b"[" * 100_000, JSON, 400),
        (b'{"n": 0}', JSON, 422),
        (b'{"n": 1e999}', JSON, 422),
        (b'{"n": true}', JSON, 422),
    ],
)
def test_bodies_that_are_none(ann, body, headers, status):
    got = ann.send("POST", "/c/toy/ask", body, headers)
    assert got.status == status and got.json["error"]


def test_a_body_without_an_end_is_cut(port, ann):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.sendall(
            f"POST /c/toy/ask HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ann.bearer}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            for _ in range(64):
                wire.sendall(chunk)
        except OSError:
            pass
        assert b" 413 " in wire.recv(4096)


@pytest.mark.slow
def test_a_slow_body_is_not_waited_for(port, ann):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(
            f"POST /c/toy/ask HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ann.bearer}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{".encode()
        )
        assert b" 408 " in wire.recv(4096)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_page_of_another_site_cannot_call_it_by_its_name(ann, host):
    assert ann.send("GET", "/health", headers={"Host": host}).status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/static/../_app.py",
        "/static/..%2f_app.py",
        "/static/%2e%2e/_app.py",
        "/static//etc/passwd",
        "/c/toy/item/../../../etc/passwd.png",
        "/c/..%2f..%2fetc/about",
        "/c/nobody/about",
        "/c/toy/item/-1.png",
        "/c/toy/item/99999999999999999999.png",
    ],
)
def test_paths_lead_nowhere(ann, path):
    got = ann.send("GET", path)
    assert got.status in (401, 404) and b"root:" not in got.body and b"import" not in got.body


def test_images_come_from_the_root_alone(tmp_path):
    root, secret = tmp_path / "root", tmp_path / "secret.png"
    root.mkdir()
    secret.write_bytes(PNG + b"secret")
    (root / "in.png").write_bytes(PNG + b"fine")
    (root / "link.png").symlink_to(secret)
    (root / "page.html").write_text("<script>alert(1)</script>")
    names = ["in.png", "../secret.png", str(secret), "link.png", "page.html", "no.png", ""]
    show = [{"image": name} for name in names]
    toy = made(tmp_path, "files", pool=ROWS[:7], show=show, root=root)
    with running(service.app(toy, training="elsewhere")) as at:
        ann = Client(at, "files", toy.invite("ann"))
        got = [ann.get(f"item/{row}.png") for row in range(7)]
    assert [one.status for one in got] == [200] + [404] * 6
    assert not any(b"secret" in one.body or b"script" in one.body for one in got[1:])


def test_text_of_items_is_data(tmp_path):
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    toy = made(
        tmp_path, "texts", pool=ROWS[:20], show=[evil] * 20, ids=[f"{evil}{i}" for i in range(20)]
    )
    with running(service.app(toy, training="elsewhere")) as at:
        ann = Client(at, "texts", toy.invite("ann"))
        got = ann.post("ask", {"n": 1})
        assert got.headers["content-type"].startswith("application/json")
        assert evil in json.dumps(got.json)  # as it is: the page writes it by textContent
        assert got.headers["x-content-type-options"] == "nosniff"
    pages = [path.read_text() for path in service._app.STATIC.iterdir()]
    assert not any(
        word in page for page in pages for word in ("innerHTML", "insertAdjacent", "eval(")
    )


# --- Label Studio, over the wire


def test_label_studio(tmp_path):
    toy = made(tmp_path, "studio")
    choices = '<Choice value="left"/><Choice value="right"/>'
    config = f'<View><Choices name="s" toName="t">{choices}</Choices></View>'
    with running(service.app(toy, training="thread")) as at:
        basic = base64.b64encode(f"bayesal:{toy.invite('studio')}".encode()).decode()
        client = Client(at, "studio", None)
        head = {"Authorization": f"Basic {basic}"} | JSON
        send = lambda path, body: client.send(
            "POST", f"/c/studio/label-studio/{path}", json.dumps(body), head
        )
        up = client.send("GET", "/c/studio/label-studio/health", headers=head)
        assert up.json == {"status": "UP", "model_class": "bayesal"}
        assert send("setup", {"project": "1.1", "schema": config}).json == {"model_version": "r0"}
        tasks = [{"id": row, "data": {"x": 1}} for row in range(60)]
        results = send("predict", {"tasks": tasks, "label_config": config}).json["results"]
        picks = sorted(range(60), key=lambda row: results[row]["score"])[:4]
        for row in picks:
            said = [{"from_name": "s", "type": "choices", "value": {"choices": ["left"]}}]
            event = {
                "action": "ANNOTATION_CREATED",
                "project": {"id": 1, "label_config": config},
                "task": tasks[row],
                "annotation": {"id": row, "completed_by": 1, "result": said},
            }
            assert send("webhook", event).status == send("webhook", event).status == 201
        for _ in range(600):
            if send("setup", {}).json == {"model_version": "r1"}:
                break
            time.sleep(0.05)
        assert toy.progress().kinds["label"] == 4 and toy.due().round == 1
        assert send("webhook", {"action": "NEWS"}).json == {"status": "Unknown event"}
        assert send("predict", {"tasks": tasks[:1]}).status == 422


# --- starting it


def test_apps_that_cannot_be(toy):
    with pytest.raises(errors.UnknownName, match="training"):
        service.app(toy, training="cloud")
    with pytest.raises(errors.WrongSize, match="one name"):
        service.app(toy, toy)
    with pytest.raises(errors.BadStore):
        service.serve("nowhere.db")


def test_answers_do_not_wait_for_acknowledgments():
    with service._serve._listening("127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
def test_rounds_are_computed_in_a_process_of_their_own(tmp_path):
    toy = made(tmp_path, "apart")
    with running(service.app(toy)) as at:
        ann = Client(at, "apart", toy.invite("ann"))
        for ask in ann.ask(4):
            ann.post("answer", {"token": ask["token"], "kind": "label", "value": right(ask)})
        waited(ann, lambda f: f["round"] == 1, 120)
    again = campaign.open(tmp_path / "apart.db")
    assert again.due().round == 1 and len(again.export()) == 4
    assert RECIPE["size"] == 4
