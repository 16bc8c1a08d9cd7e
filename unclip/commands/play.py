"""`python cli.py play`: a page to play on, on this machine."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import typer

from unclip.commands.common import checkpoints
from unclip.config.errors import UserError
from unclip.config.layout import models_in
from unclip.painting.options import REPOSITORY, recipe_of

PRETRAINED = REPOSITORY / "pretrained"


def play(host: str, port: int, *, rev: str | None, source: Path | None) -> None:
    """Serves the page until Ctrl-C.

    Args:
        host: the address to listen on; others than this machine's own let others in.
        port: to listen on; 0 takes a free one.
        rev: git revision or experiment whose checkpoints are used.
        source: folder whose checkpoints are used.

    Raises:
        UserError: there is nothing to paint with, or the address can not be had.
    """
    with _listening(host, port) as listener:
        source, is_given = _choose(rev, source)
        with checkpoints(rev, source) as folder:
            _serve(listener, host, folder, _notice(rev, folder, is_given))


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
                f"--host {host} --port {port}: can not be had ({error.strerror}); name another port"
            ) from None
        listener.listen()  # whoever comes before the page is up waits for it
        yield listener


def _choose(rev: str | None, source: Path | None) -> tuple[Path | None, bool]:
    """Returns the folder to paint from, and whether it is one that came with the code.

    That is taken where nothing is named and nothing is trained here yet.
    """
    if rev is not None or source is not None or (models_in(Path()) / "decoder").is_dir():
        return source, False
    given = sorted(path.parent for path in PRETRAINED.glob("*/decoder"))
    return (given[0], True) if given else (None, False)


def _notice(rev: str | None, folder: Path, is_given: bool) -> str:
    """Returns what is painted with, for the page and the terminal."""
    if is_given:
        name = folder.relative_to(REPOSITORY).as_posix()
        return f"Nothing is trained here yet: painting with {name}, which came with the code."
    return f"Painting with experiment {rev}." if rev else f"Painting with {models_in(folder)}."


def _serve(listener: socket.socket, host: str, folder: Path, notice: str) -> None:
    # Torch takes seconds to import; every check that needs none of it stands above.
    import uvicorn

    from unclip.commands.common import open_system
    from unclip.serving.app import make_app
    from unclip.serving.hosts import OWN_NAMES
    from unclip.serving.studio import Studio

    sample = recipe_of(folder).sample
    system, machine = open_system(folder, sample.precision)
    app = make_app(Studio(system, sample, machine), notice, host)
    port = listener.getsockname()[1]
    typer.echo(notice)
    if host not in OWN_NAMES:
        typer.echo(f"--host {host}: whoever reaches this machine can paint here", err=True)
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"Open http://{shown}:{port}  (Ctrl-C ends it)")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
