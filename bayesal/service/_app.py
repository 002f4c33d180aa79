"""The app: JSON endpoints and two pages of every campaign."""

import asyncio
import base64
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from bayesal import _checks, errors
from bayesal.campaign import Campaign
from bayesal.service import _bodies as bodies
from bayesal.service import _desk as desks
from bayesal.service import _guard as guard
from bayesal.service import _label_studio as protocol
from bayesal.service import _rounds as rounds
from bayesal.service._desk import Desk

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
MOST = 20  # questions in one request
STUDIO = ("setup", "predict", "webhook", "train")
STATUS = {
    errors.UnknownToken: 404,
    errors.Conflict: 409,
    errors.BadStore: 503,
    errors.BadPool: 503,
}

Answers = Callable[[Request, Desk, str], Awaitable[Response]]


def app(
    *campaigns: Campaign,
    owners: Sequence[str] = (),
    hosts: Sequence[str] | None = guard.LOOPBACK,
    training: str = "process",
) -> Starlette:
    """An ASGI app for campaigns, each at `/c/{name of its store}/`.

    `POST ask {n}`, `POST answer {token, kind, value, seconds, revise}`, `POST items` (JSONL or
    CSV), `GET about`, `GET progress`, `GET export`, `export.csv` and `export.jsonl`, `GET events`
    (a stream of server-sent events), `GET item/{row}.png`; the pages `/c/{name}/` and
    `progress.html`; `GET /health`; `label-studio/`, the URL of a machine-learning backend for Label
    Studio. All but pages and health ask for `Authorization: Bearer ...`, a token of
    `Campaign.invite` (Label Studio: basic authentication, with the token as password). An error is
    `{"error": sentence, "argument": name}`.

    Campaigns are created by `campaign.create` alone, never over HTTP: a recipe may name any
    importable function, so whoever may send recipes may run code here.

    Args:
      campaigns: with different names.
      owners: annotators who may add items.
      hosts: names that requests may call this server by; None: any, for a server that others reach.
      training: where rounds are computed: in a "process" of its own, in a "thread" of this one
        (requests wait for up to a second while programs are traced), or "elsewhere", by whoever
        calls `Campaign.step` on the same store.
    Raises:
      UnknownName: `training`. WrongSize: no campaign, or two of one name.

    >>> app()
    Traceback (most recent call last):
    ...
    bayesal.errors.WrongSize: pass at least one campaign.
    """
    if training not in rounds.PLACES:
        raise errors.UnknownName(
            "training", f"`training` must be one of {', '.join(rounds.PLACES)}, got {training!r}."
        )
    served = [desks.desk(campaign) for campaign in campaigns]
    by_name = {desk.name: desk for desk in served}
    if not served:
        raise errors.WrongSize("campaigns", "pass at least one campaign.")
    if len(by_name) < len(served):
        raise errors.WrongSize(
            "campaigns", f"two stores have one name: {[desk.name for desk in served]}."
        )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        work = [asyncio.create_task(_kept_up(desk, training)) for desk in served]
        yield
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for desk in served:
            desk.line.shutdown()

    return Starlette(
        routes=_routes(by_name, owners),
        lifespan=lifespan,
        middleware=[Middleware(guard.guarded, hosts=hosts)],
        exception_handlers={errors.BayesalError: _typed, HTTPException: _plain},
    )


def _routes(by_name: dict[str, Desk], owners: Sequence[str]) -> list[Route]:
    """Endpoints, pages and Label Studio's protocol."""

    def ours(path: str, answers: Answers, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            desk = _desk(by_name, request)
            return await answers(request, desk, await _annotator(request, desk))

        return Route(f"/c/{{name}}/{path}", endpoint, methods=[method])

    def page(path: str, file: str) -> Route:
        async def endpoint(request: Request) -> Response:
            _desk(by_name, request)
            return _static(file)

        return Route(path, endpoint)

    async def add(request: Request, desk: Desk, who: str) -> Response:
        if who not in owners:
            raise HTTPException(403, f"{who!r} may not add items: pass it in `owners` to serve.")
        return await _items(request, desk)

    async def studio(request: Request, desk: Desk, who: str) -> Response:
        del who  # whose token it is; people are named in what is sent
        return await _studio(request, desk)

    async def home(_: Request) -> Response:
        if len(by_name) > 1:
            raise HTTPException(404, "several campaigns are served here: open your start link.")
        return RedirectResponse(f"/c/{next(iter(by_name))}/")

    return [
        Route("/", home),
        Route("/health", _health),
        Route("/favicon.ico", _no_icon),
        Route("/static/{file}", _file),
        page("/c/{name}/", "label.html"),
        page("/c/{name}/progress.html", "progress.html"),
        ours("ask", _ask, "POST"),
        ours("answer", _answer, "POST"),
        ours("items", add, "POST"),
        ours("about", _about),
        ours("progress", _progress),
        ours("events", _events),
        ours("export", _export),
        ours("export.{kind}", _export),
        ours("item/{row:int}.png", _picture),
        *(ours(f"label-studio/{path}", studio, "GET") for path in ("", "health", "metrics")),
        *(ours(f"label-studio/{path}", studio, "POST") for path in STUDIO),
    ]


async def _kept_up(desk: Desk, place: str) -> None:
    """The pool in memory and the state on the board before the first question; then training."""
    await run_in_threadpool(desk.pool)
    await rounds.train(desk.campaign, desk.board, desk.wake, place)


# --- who asks for what


def _desk(by_name: dict[str, Desk], request: Request) -> Desk:
    desk = by_name.get(request.path_params["name"])
    if desk is None:
        raise HTTPException(404, "there is no campaign of this name here.")
    return desk


async def _annotator(request: Request, desk: Desk) -> str:
    """Whose token it is: a bearer token, or the password of Label Studio's basic authentication."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    who = None
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            bearer = base64.b64decode(bearer, validate=True).decode().partition(":")[2]
    if scheme.lower() in ("bearer", "basic"):
        who = await run_in_threadpool(desk.campaign.who, bearer)
    if who is None:
        raise HTTPException(
            401, "no valid token: open the start link that you were given, or ask for a new one."
        )
    return who


async def _written(desk: Desk, work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(desk.line, work)


# --- questions and answers


async def _ask(request: Request, desk: Desk, who: str) -> Response:
    given = await bodies.fields(request, ("n",))
    n = _checks.at_least(1, given.get("n", 1), "n")

    def work() -> list[dict[str, Any]]:
        asks = desk.campaign.next(who, min(n, MOST))
        return [ask._asdict() | desks.shown(desk, ask.row, ask.show) for ask in asks]

    asks = await _written(desk, work)
    for ask in asks:
        del ask["show"]
    return JSONResponse({"asks": asks, "state": _state(desk)})


async def _answer(request: Request, desk: Desk, who: str) -> Response:
    given = await bodies.fields(request, ("token", "kind", "value", "seconds", "revise"))
    revise = given.get("revise", False)
    if not isinstance(revise, bool):
        raise errors.WrongType("revise", f"`revise` must be true or false, got {revise!r:.50}.")
    token = given.get("token")
    if isinstance(token, str) and not token.isascii():
        token = None  # no token of ours, and no text for every database

    def work() -> Any:
        return desk.campaign.answer(
            token,
            given.get("kind"),
            given.get("value"),
            annotator=who,
            seconds=given.get("seconds"),
            revise=revise,
        )

    receipt = await _written(desk, work)
    desk.wake.set()
    return JSONResponse(desks.plain(receipt))


async def _items(request: Request, desk: Desk) -> Response:
    new = await bodies.rows(request, await run_in_threadpool(desk.pool))
    first = await _written(desk, lambda: desk.campaign.add(new.pool, show=new.show, ids=new.ids))
    desk.wake.set()
    return JSONResponse({"first": first, "rows": len(new.pool)}, 201)


async def _studio(request: Request, desk: Desk) -> Response:
    """Label Studio's protocol: stored answers and stored scores, so that both come at once."""
    name = request.url.path.rpartition("/")[2]
    if request.method == "GET":
        up = {"status": "UP", "model_class": "bayesal"}
        return JSONResponse({} if name == "metrics" else up)
    sent = await bodies.anything(request)
    if name == "setup":
        version = await run_in_threadpool(protocol.version, desk.campaign)
        return JSONResponse({"model_version": version})
    if name == "predict":
        return JSONResponse(await run_in_threadpool(protocol.predictions, desk.campaign, sent))
    heard = protocol.trained if name == "train" else protocol.heard
    status, body, _ = await _written(desk, lambda: heard(desk.campaign, sent))
    desk.wake.set()
    return JSONResponse(body, status)


# --- what people may know


async def _about(_: Request, desk: Desk, who: str) -> Response:
    recipe = desk.campaign.recipe
    return JSONResponse(
        {
            "name": desk.name,
            "annotator": who,
            "question": recipe.document["question"],
            "classes": recipe.classes,
            "beliefs": recipe.beliefs,
            "strategy": _spoken(recipe.document["strategy"]),
            "answers": recipe.answers,
            "state": _state(desk),
        }
    )


def _spoken(strategy: Any) -> str:
    """A strategy in words: its name."""
    called = strategy if isinstance(strategy, str) else strategy.get("call") or strategy["use"]
    return called.rpartition(".")[2].rpartition(":")[2].replace("_", " ")


async def _progress(request: Request, desk: Desk, who: str) -> Response:
    def work() -> dict[str, Any]:
        figures = desk.figures()
        batch = [
            {"row": item.row, "id": item.id} | desks.shown(desk, item.row, item.show)
            for item in desk.campaign.items()
        ]
        return figures | {"batch": batch}

    figures = await run_in_threadpool(work)
    about = json.loads(bytes((await _about(request, desk, who)).body))
    return JSONResponse({"about": about, **figures})


async def _export(request: Request, desk: Desk, who: str) -> Response:
    del who  # anybody with a token
    kind = request.path_params.get("kind", "json")
    kinds = {"json": "application/json", "csv": "text/csv", "jsonl": "application/x-ndjson"}
    if kind not in kinds:
        raise HTTPException(404, "an export is .csv or .jsonl.")

    def work() -> bytes:
        if kind == "json":
            return json.dumps(desk.campaign.export()).encode()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"export.{kind}"
            desk.campaign.export(path)
            return path.read_bytes()

    return Response(await run_in_threadpool(work), media_type=kinds[kind])


async def _events(_: Request, desk: Desk, who: str) -> Response:
    del who

    async def stream() -> AsyncIterator[str]:
        async for state in desk.board.follow():
            said = ":" if state is None else f"data: {json.dumps(state._asdict())}"
            yield said + "\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def _picture(request: Request, desk: Desk, who: str) -> Response:
    del who
    try:
        found = await run_in_threadpool(desks.picture, desk, request.path_params["row"])
    except errors.WrongIndex as error:
        raise HTTPException(404, str(error)) from error
    if found is None:
        raise HTTPException(404, "this item has no picture.")
    data, kind = found
    return Response(data, media_type=kind)


def _state(desk: Desk) -> dict[str, Any] | None:
    state = desk.board.latest()
    return None if state is None else state._asdict()


# --- pages and errors


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "UP"})


async def _no_icon(_: Request) -> Response:
    return Response(status_code=204)


async def _file(request: Request) -> Response:
    return _static(request.path_params["file"])


def _static(name: str) -> Response:
    """One of the files that are there: a name from outside is compared, never opened."""
    for path in STATIC.iterdir():
        if path.name == name and path.suffix in TYPES:
            return Response(path.read_bytes(), media_type=TYPES[path.suffix])
    raise HTTPException(404, "there is no such file.")


async def _typed(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.BayesalError)
    status = next((s for kind, s in STATUS.items() if isinstance(error, kind)), 422)
    return guard.refused(status, str(error), error.argument)


async def _plain(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return guard.refused(error.status_code, str(error.detail))
