"""`python cli.py play`: a page to play on, on this machine."""

import contextlib
import socket
from collections.abc import Iterator
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

PRETRAINED = REPOSITORY / "pretrained"


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

    Where nothing is trained yet it uses the model shipped with the code. Nothing leaves this
    machine: the page and its server ask no other host for anything.

    Example: `python cli.py play --from pretrained/fashion_mnist`
    """
    with _listening(host, port) as listener:
        source, is_shipped = _choose(rev, source)
        unclip = open_unclip(rev, source)
        _serve(listener, host, unclip, _notice(rev, source or Path(), is_shipped))


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Gives a socket that has the address, before the seconds that it takes to load networks."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"--host {host}: is no address ({error.strerror}); try 127.0.0.1") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise UserError(
                f"--host {host} --port {port}: cannot be had ({error.strerror}); name another port"
            ) from None
        listener.listen()  # whoever comes before the page is up waits for it
        yield listener


def _choose(rev: str | None, source: Path | None) -> tuple[Path | None, bool]:
    """Returns the folder to paint from, and whether it is one shipped with the code.

    That is taken where nothing is named and nothing is trained here yet.
    """
    if rev is not None or source is not None or (models_in(Path()) / "decoder").is_dir():
        return source, False
    given = sorted(path.parent for path in PRETRAINED.glob("*/decoder"))
    return (given[0], True) if given else (None, False)


def _notice(rev: str | None, folder: Path, is_shipped: bool) -> str:
    """Returns what is painted with, for the page and the terminal."""
    if is_shipped:
        name = folder.relative_to(REPOSITORY).as_posix()
        return f"Nothing is trained here yet: painting with {name}, which is shipped with the code."
    return f"Painting with experiment {rev}." if rev else f"Painting with {models_in(folder)}."


def _serve(listener: socket.socket, host: str, unclip: "UnCLIP", notice: str) -> None:
    import uvicorn

    from unclip.serving.app import OWN_NAMES, make_app
    from unclip.serving.page_requests import PageRequests

    app = make_app(PageRequests(unclip), notice, host)
    port = listener.getsockname()[1]
    typer.echo(notice)
    if host not in OWN_NAMES:
        typer.echo(f"--host {host}: whoever reaches this machine can paint here", err=True)
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"Open http://{shown}:{port}  (Ctrl-C ends it)")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
