"""What every request passes before anything looks at it, and what every response carries."""

import asyncio
import logging
from collections.abc import Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LARGEST = 1 << 20  # bytes of a body
PATIENCE = 10.0  # seconds for a whole body, however it is dripped

# Scripts, styles and pictures of our own; `blob:` is a picture that our script fetched with the
# token, which an <img> cannot send.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def refused(status: int, message: str, argument: str | None = None) -> JSONResponse:
    """An error as clients get it."""
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": message, "argument": argument}, status, headers=headers)


def guarded(app: ASGIApp, hosts: Sequence[str] | None) -> ASGIApp:
    """An app behind its guard: known hosts, bodies of bounded size and time, safe headers.

    Args:
      hosts: names that a request may call this server by; None: any. A page of another site whose
        name was made to point here (DNS rebinding) calls it by that name.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})

        started = False

        async def safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                ours = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *ours]
            await send(message)

        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if hosts is not None and _name(host) not in hosts:
            answer = refused(400, f"this server is not called {host[:100]!r}.", "host")
            return await answer(scope, receive, safely)
        if scope["method"] not in ("GET", "HEAD"):
            body = await _body(headers, receive)
            if isinstance(body, JSONResponse):
                body.headers["connection"] = "close"  # the rest of the body is not read
                return await body(scope, receive, safely)
            receive = _replayed(body, receive)
        try:
            await app(scope, receive, safely)
        except Exception:
            if started:
                raise
            logging.getLogger("bayesal").exception("a request failed")
            answer = refused(500, "the server has an error; its log says more.")
            await answer(scope, receive, safely)

    return guard


def _name(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


async def _body(headers: dict[bytes, bytes], receive: Receive) -> bytes | JSONResponse:
    """A whole body, or why it is refused. What is counted is what comes, not what is announced."""
    large = refused(413, f"a body has at most {LARGEST} bytes.", "body")
    announced = headers.get(b"content-length", b"0")
    if not announced.isdigit() or int(announced[:20]) > LARGEST:
        return large
    pieces, total = [], 0
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return refused(400, "the connection ended before the body.", "body")
                pieces.append(message.get("body", b""))
                total += len(pieces[-1])
                if total > LARGEST:
                    return large
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        return refused(408, f"the body took more than {PATIENCE:.0f} s.", "body")


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = [body]

    async def again() -> Message:
        if given:
            return {"type": "http.request", "body": given.pop(), "more_body": False}
        return await receive()

    return again
