"""`python cli.py trace`: the way back from a saved picture, and the picture painted again."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unclip.config.errors import UserError

if TYPE_CHECKING:
    from unclip.provenance.search import Network
    from unclip.provenance.tracing import Traced
    from unclip.tracking.lineage import Lineage
    from unclip.tracking.store import Run

MOST_REVISIONS = 3  # of one network that are named
HASH = 12  # characters of a commit


def trace(
    picture: Annotated[Path, typer.Argument(help="A PNG that was painted here.")],
    repaint: Annotated[
        bool, typer.Option("--repaint", help="Paint it again and say whether it is the same.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="One more folder in which its checkpoints may be."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the picture that --repaint paints.")
    ] = None,
) -> None:
    """Show the whole way back from a saved picture, and paint it again.

    Shows prompt, seed and settings, the checkpoints by their hashes, the revisions that have them,
    and from MLflow the runs that trained them, with params, data set and commit. The checkpoints
    are looked for in models/, pretrained/ and all that DVC remembers: commits, branches, tags and
    experiments, in its cache or its remote.

    With --repaint the exit status is 1 if a pixel differs.

    Example: `python cli.py trace samples/painted/a-large-red-circle_seed0.png --repaint`
    """
    from unclip.provenance.tracing import read_traced

    if source is not None and not source.is_dir():
        raise UserError(f"--from {source}: is no folder; name one that holds trained networks")
    traced = read_traced(picture)
    if repaint:
        _require_single(traced, out)
    elif out is not None:
        raise UserError(f"--out {out}: is for the picture painted again; add --repaint")
    # Torch takes seconds to import; every check that needs none of it stands above.
    from unclip.provenance.search import find_networks

    networks = find_networks(traced.hashes, Path(), source)
    console = Console(highlight=False)
    _print_note(console, traced)
    lineage = _ask_mlflow(console, traced.hashes)
    for network in networks:
        _print_network(console, network, lineage.trainings.get(network.kind))
    for record in lineage.records:
        _print_record(console, record)
    if repaint and not _repaint(traced, networks, out):
        raise typer.Exit(1)


def _require_single(traced: "Traced", out: Path | None) -> None:
    if not traced.is_single:
        raise UserError(
            f"{traced.path}: is a sheet of pictures; --repaint takes one of the single pictures "
            "saved beside it"
        )
    if out is not None and out.resolve() == traced.path.resolve():
        raise UserError(f"--out {out}: is the picture itself; name another file")


def _print_rows(console: Console, title: str, rows: Mapping[str, str]) -> None:
    """Prints a heading and, under it, names and values."""
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    console.print(Text(title, style="bold"))
    console.print(table)
    console.print()


def _print_note(console: Console, traced: "Traced") -> None:
    from unclip.provenance.tracing import describe_note

    rows = {"size": f"{traced.size[0]} × {traced.size[1]}, {traced.mode}"}
    if not traced.is_single:
        rows["kind"] = "a sheet; the single pictures saved beside it can be painted again"
    _print_rows(console, str(traced.path), rows | describe_note(traced.text))


def _ask_mlflow(console: Console, hashes: Mapping[str, str]) -> "Lineage":
    from unclip.tracking.lineage import Lineage, find_lineage
    from unclip.tracking.store import TrackingError

    try:
        return find_lineage(hashes)
    except TrackingError as error:
        console.print(Text(f"MLflow: {error}\n"), soft_wrap=True)
        return Lineage({}, [])


def _print_network(console: Console, network: "Network", training: "Run | None") -> None:
    from unclip.tracking.store import STAGES

    where = "not on this machine"
    if network.folder is not None:
        where = str(network.folder)
    elif network.is_here:
        where = "DVC's cache"
    rows = {"SHA-256": network.hash, "lies in": where}
    if network.revisions:
        others = len(network.revisions) - MOST_REVISIONS
        more = f" and {others} more" if others > 0 else ""
        rows["revisions"] = ", ".join(network.revisions[:MOST_REVISIONS]) + more
    if training is not None:
        rows["trained by"] = f"{_name_of(training)}, run {training.id} in {STAGES}"
        rows |= _commit_of(training)
        params = {key.partition(".")[2] or key: value for key, value in training.params.items()}
        rows["params"] = ", ".join(f"{key} {value}" for key, value in params.items())
    _print_rows(console, network.kind, rows)


def _print_record(console: Console, record: "Run") -> None:
    from unclip.tracking.address import EXPERIMENTS

    data = {k.removeprefix("data."): v for k, v in record.params.items() if k.startswith("data.")}
    name = data.pop("dataset", "")
    rows = {
        "run": f"{record.id} in {EXPERIMENTS}",
        **_commit_of(record),
        "data set": ", ".join([name, *(f"{key} {value}" for key, value in data.items())]),
    }
    _print_rows(console, f"experiment {_name_of(record)}", rows)


def _name_of(run: "Run") -> str:
    return run.tags.get("mlflow.runName", run.id)


def _commit_of(run: "Run") -> dict[str, str]:
    """Returns the commit that a run started from, and the DVC experiment that it was part of."""
    commit, code = run.tags.get("commit", ""), run.tags.get("code", "")
    rows = {"commit": " ".join(filter(None, [commit[:HASH], code]))} if commit else {}
    name = run.tags.get("dvc_exp", "")
    return rows | ({"DVC": f"experiment {name}"} if name else {})


def _repaint(traced: "Traced", networks: "Sequence[Network]", out: Path | None) -> bool:
    """Paints a picture again, says what came of it, and returns whether every pixel is the same."""
    from unclip.core.device import open_device
    from unclip.painting.loading import load_system
    from unclip.painting.notes import repaint
    from unclip.pictures.png import as_image, encode_png, save_png
    from unclip.provenance.search import gather
    from unclip.provenance.tracing import compare_pixels, read_pixels

    with tempfile.TemporaryDirectory() as folder:
        gather(networks, Path(), Path(folder))
        system = load_system(Path(folder), open_device())
    again = repaint(system, traced.text)
    if out is not None:
        try:
            save_png(as_image(again), out, traced.text)
        except OSError as error:
            raise UserError(f"--out {out}: cannot be written ({error.strerror})") from None
    is_same_file = encode_png(as_image(again), traced.text) == traced.path.read_bytes()
    difference = compare_pixels(read_pixels(traced.path), again)
    if difference:
        typer.echo(
            f"painted again: {difference}; another processor, thread count or version of torch "
            "rounds otherwise, or the picture was changed after it was painted"
        )
    elif is_same_file:
        typer.echo("painted again: the same pixels, and the same file byte for byte")
    else:
        typer.echo("painted again: the same pixels; as a file it was saved in another way")
    return not difference
