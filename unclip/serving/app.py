"""The page and its server, which never contact another host."""

import json
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from unclip.config.errors import UserError
from unclip.serving.page_requests import PageRequests

FOLDER = Path(__file__).resolve().parent / "page"
FILES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
OWN_NAMES = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 30_000_000  # of a request: a photograph in base64, twice
# With this policy the browser blocks every other host.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(requests: PageRequests, notice: str, host: str) -> Starlette:
    """Returns the application; `notice`, for the head of the page, says what paints.

    `host` is the address or name that the server listens on (see `allowed_hosts`).
    """
    facts = requests.facts() | {"notice": notice}
    verbs = {
        name: getattr(requests, name) for name in ("paint", "vary", "interpolate", "trajectory")
    }

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in FILES:
            return Response(status_code=404)
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        headers |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        return FileResponse(FOLDER / name, headers=headers, media_type=FILES[name])

    async def tell_facts(request: Request) -> Response:
        return JSONResponse(facts)

    async def warn(request: Request) -> Response:
        prompt = request.query_params.get("prompt", "")
        return JSONResponse({"warning": await run_in_threadpool(requests.warning, prompt)})

    async def answer(request: Request) -> Response:
        verb = verbs.get(request.path_params["verb"])
        if verb is None:
            return JSONResponse({"error": f"expected one of {', '.join(verbs)}"}, 404)
        try:
            pictures = await run_in_threadpool(verb, await _read_json(request))
        except UserError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"pictures": pictures})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/facts", tell_facts),
            Route("/warning", warn),
            Route("/ask/{verb}", answer, methods=["POST"]),
            Route("/{name}", page),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts(host))],
    )


async def _read_json(request: Request) -> Any:
    """Returns the JSON of a request.

    The content type must be JSON: a browser lets no foreign page send that without a preflight.

    Raises:
        UserError: it is not JSON, or too large.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise UserError("the request: is not JSON; expected Content-Type: application/json")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_BYTES:
            raise UserError(
                f"the request: is larger than {MOST_BYTES // 10**6} MB; take a smaller picture"
            )
    try:
        return json.loads(bytes(content))
    except (ValueError, RecursionError):
        raise UserError("the request: is not JSON; expected an object with what is asked") from None


def allowed_hosts(host: str) -> list[str]:
    """Returns the host names that the server answers to, given the one that it listens on.

    A foreign page can point its own name at this machine (DNS rebinding), but the browser then asks
    by that name. A server that other machines may reach answers to every name.
    """
    return [*OWN_NAMES, "[::1]"] if host in OWN_NAMES else ["*"]
