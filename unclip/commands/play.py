"""`python cli.py play`: a page to play on, on this machine."""

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.commands import options
from unclip.commands.common import open_unclip
from unclip.config.errors import UserError
from unclip.config.layout import models_in
from unclip.config.settings import REPOSITORY

if TYPE_CHECKING:
    from unclip.api import UnCLIP

SHIPPED = REPOSITORY / "pretrained" / "fashion_mnist"


def play(
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default nobody else can reach the page.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 7860,
    rev: options.Rev = None,
    source: options.From = None,
) -> None:
    """Open a page to play on: prompts, variations, ways between pictures, pictures out of noise.

    If nothing is trained here yet, it uses the model shipped with the code. Nothing leaves this
    machine: the page and its server never contact another host.

    Example: `python cli.py play --from pretrained/fashion_mnist`
    """
    use_shipped = rev is None and source is None and not (models_in(Path()) / "decoder").is_dir()
    if use_shipped:
        source, name = SHIPPED, SHIPPED.relative_to(REPOSITORY).as_posix()
        notice = f"Nothing is trained here yet: painting with {name}, shipped with the code."
    elif rev is not None:
        notice = f"Painting with experiment {rev}."
    else:
        notice = f"Painting with {models_in(source or Path())}."
    with _listen(host, port) as listener:
        _serve(listener, host, open_unclip(rev, source), notice)


def _listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket: a taken port is reported before the networks are loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        raise UserError(f"--host {host}: is no address ({error.strerror}); try 127.0.0.1") from None
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot be had ({error.strerror}); name another port"
        ) from None


def _serve(listener: socket.socket, host: str, unclip: "UnCLIP", notice: str) -> None:
    import uvicorn

    from unclip.serving.app import OWN_NAMES, make_app
    from unclip.serving.page_requests import PageRequests

    app = make_app(PageRequests(unclip), notice, host)
    port = listener.getsockname()[1]
    typer.echo(notice)
    if host not in OWN_NAMES:
        typer.echo(f"--host {host}: everybody who reaches this machine can paint here", err=True)
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"Open http://{shown}:{port}  (Ctrl-C ends it)")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
