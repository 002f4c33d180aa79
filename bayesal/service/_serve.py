"""A server for campaigns, in one call."""

import getpass
import socket
import urllib.parse
from collections.abc import Sequence
from typing import Any

import uvicorn

from bayesal import campaign as campaigns
from bayesal import errors
from bayesal.campaign import Campaign
from bayesal.service import _desk as desks
from bayesal.service import _guard as guard
from bayesal.service._app import app

CONNECTIONS = 256  # at a time; more are told to come again


def serve(
    stores: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    people: Sequence[str] = (),
    owners: Sequence[str] = (),
    training: str = "process",
) -> None:
    """Serve campaigns until Ctrl-C, and print a start link for each of `people`.

    A link works until the same person is invited again. Without `people`, a campaign that has
    invited nobody yet invites the user of this computer; else the links of before stay.

    Args:
      stores: a store, or several: paths of SQLite files, URLs of databases, or open campaigns.
      host: "127.0.0.1": this computer alone. "0.0.0.0": everybody who reaches it; the traffic is
        not encrypted, so put a proxy with TLS in front of it.
      port: 0: any free one.
      people: annotators to invite; a new link for each.
      owners: those of them who may add items over HTTP. They are invited too.
      training: "process", "thread" or "elsewhere"; see `app`.
    Raises:
      BadStore, BadRecipe: as `campaign.open`. OutOfRange: the port is taken, or not ours to take.
    """
    several = isinstance(stores, list | tuple) and not isinstance(stores, Campaign)
    opened = [
        one if isinstance(one, Campaign) else campaigns.open(one)
        for one in (stores if several else [stores])
    ]
    local = host in ("127.0.0.1", "localhost", "::1")
    hosts = guard.LOOPBACK if local else None
    served = app(*opened, owners=owners, hosts=hosts, training=training)
    with _listening(host, port) as listener:
        address = _address(host, listener.getsockname()[1])
        for campaign in opened:
            _invite(campaign, address, [*people, *(name for name in owners if name not in people)])
        config = uvicorn.Config(
            served,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http="h11",
            loop="asyncio",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise errors.OutOfRange(
            "port", f"cannot listen at {host}, port {port}: {error}. Pass another port, or 0."
        ) from error
    # asyncio does so only for sockets of its own. Without it each answer waits 40 ms for the
    # client's delayed acknowledgment; connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _address(host: str, port: int) -> str:
    named = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    return f"http://[{named}]:{port}" if ":" in named else f"http://{named}:{port}"


def _invite(campaign: Campaign, address: str, people: Sequence[str]) -> None:
    """Print who opens what; links of before stay where nobody is named."""
    place = f"{address}/c/{urllib.parse.quote(desks.name(campaign))}/"
    known = campaign.people()
    if not people and known:
        print(
            f"{place}  with the links of before, of {', '.join(known)}; name people for new ones.",
            flush=True,
        )
        return
    for person in people or [getpass.getuser()]:
        print(f"{person}: {place}#token={campaign.invite(person)}", flush=True)
