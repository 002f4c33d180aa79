"""A campaign of 60 tiny rows behind a real server on loopback, shared by a file of tests."""

import contextlib
import http.client
import json
import socket
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import uvicorn

from bayesal import campaign, service

RECIPE = {
    "question": "Left or right?",
    "classes": ["left", "right"],
    "size": 4,
    "posterior": {"call": "posteriors.logistic", "args": [2]},
}
ROWS = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Client(NamedTuple):
    """Requests of one person."""

    port: int
    name: str
    bearer: str | None

    def send(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            sent = {"Authorization": f"Bearer {self.bearer}"} if self.bearer else {}
            # a body that is refused is not read to its end; the answer is there all the same
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=body, headers=sent | dict(headers))
            got = connection.getresponse()
            return Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    def get(self, path, **headers):
        return self.send("GET", f"/c/{self.name}/{path}", headers=headers)

    def post(self, path, given, **headers):
        kind = {"Content-Type": "application/json"}
        return self.send("POST", f"/c/{self.name}/{path}", json.dumps(given), kind | headers)

    def ask(self, n=1):
        return self.post("ask", {"n": n}).json["asks"]


@contextlib.contextmanager
def running(app):
    """The port of an app that is served from a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, log_level="error", http="h11", loop="asyncio", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def made(folder, name="toy", **options):
    recipe = RECIPE | options.pop("recipe", {})
    return campaign.create(folder / f"{name}.db", options.pop("pool", ROWS), recipe, **options)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The campaign `toy`; its first two items are text and a picture."""
    root = tmp_path_factory.mktemp("toy")
    (root / "pictures").mkdir()
    show = [{"left": float(a), "right": float(b)} for a, b in ROWS]
    return made(root, show=show, root=root / "pictures")


@pytest.fixture(scope="module")
def port(toy):
    with running(service.app(toy, owners=["owner"], training="thread")) as port:
        yield port


@pytest.fixture(scope="module")
def ann(port, toy):
    return Client(port, "toy", toy.invite("ann"))


@pytest.fixture(scope="module")
def bob(port, toy):
    return Client(port, "toy", toy.invite("bob"))
