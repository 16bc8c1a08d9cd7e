"""By which names the server may be asked for."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OWN_NAMES = ("127.0.0.1", "localhost", "::1")


class OnlyOwnNames:
    """Sends away whoever asks for the server by a name that is not its own.

    A page of somebody else's can have its name led to this machine (DNS rebinding), but then the
    browser asks by that name.

    Args:
        app: answers all others.
        host: the address or name that is listened on.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app, self.host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or sends away."""
        if scope["type"] == "lifespan" or is_own(Headers(scope=scope).get("host", ""), self.host):
            await self.app(scope, receive, send)
        else:
            refusal = PlainTextResponse("Host: is no name of this server; ask by its address", 400)
            await refusal(scope, receive, send)


def is_own(asked: str, host: str) -> bool:
    """Returns whether a request's `Host` is a name of a server.

    Args:
        asked: the header, with or without a port.
        host: the address or name that is listened on. Where others can reach it, any address will
            do: 0.0.0.0 has many, and no name leads a browser to ask by one.
    """
    try:
        name = urlsplit(f"//{asked}").hostname or ""
    except ValueError:
        return False
    if name in OWN_NAMES:
        return True
    return host not in OWN_NAMES and (name == host.lower() or _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
