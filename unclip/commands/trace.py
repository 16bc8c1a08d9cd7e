"""`python cli.py trace`: the way back from a saved picture, and the picture painted again."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.config.errors import UserError

if TYPE_CHECKING:
    from unclip.provenance.search import Network
    from unclip.provenance.tracing import Traced
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
        typer.Option("--from", help="One more folder to look for its checkpoints in."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the picture that --repaint paints.")
    ] = None,
) -> None:
    """Show the whole way back from a saved picture, and paint it again.

    Shows prompt, seed and settings, the checkpoints by their hashes, the revisions that have them,
    and from MLflow the runs that trained them, with params, data set and commit. It looks for the
    checkpoints in models/, in pretrained/ and, in DVC's cache and remote, in every commit, branch,
    tag and experiment.

    With --repaint the exit status is 1 if a pixel differs.

    Example: `python cli.py trace samples/painted/a-large-red-circle_seed0.png --repaint`
    """
    from unclip.provenance.tracing import describe_note, read_traced

    if source is not None and not source.is_dir():
        raise UserError(f"--from {source}: is no folder; name one that holds trained networks")
    traced = read_traced(picture)
    if repaint and not traced.is_single:
        raise UserError(
            f"{picture}: is a sheet of pictures; --repaint takes one of the single pictures saved "
            "beside it"
        )
    if out is not None and not repaint:
        raise UserError(f"--out {out}: is for the picture painted again; add --repaint")
    if out is not None and out.resolve() == picture.resolve():
        raise UserError(f"--out {out}: is the picture itself; name another file")
    from unclip.provenance.search import find_networks
    from unclip.tracking.lineage import Lineage, find_lineage
    from unclip.tracking.store import TrackingError

    unread: list[str] = []
    networks = find_networks(traced.hashes, Path(), source, unread.append)
    kind = {} if traced.is_single else {"kind": "a sheet of the single pictures saved beside it"}
    shape = " × ".join(map(str, traced.pixels.shape))
    _print_rows(str(picture), {"C × H × W": shape} | kind | describe_note(traced.note))
    lineage = Lineage({}, [])
    try:
        lineage = find_lineage(traced.hashes)
    except TrackingError as error:
        unread.append(f"MLflow: {error}")
    typer.echo("\n\n".join([*unread, ""]), nl=False)
    for network in networks:
        training = lineage.trainings.get(network.kind)
        _print_rows(network.kind, _describe_network(network) | _describe_training(training))
    for record in lineage.records:
        _print_rows(f"experiment {_name_of(record)}", _describe_record(record))
    if repaint and not _repaint(traced, networks, out):
        raise typer.Exit(1)


def _print_rows(title: str, rows: Mapping[str, str]) -> None:
    """Prints a heading and, under it, names and values."""
    typer.secho(title, bold=True)
    width = max(map(len, rows))
    for name, value in rows.items():
        typer.echo(f"  {name:<{width}}  {value}")
    typer.echo()


def _describe_network(network: "Network") -> dict[str, str]:
    where = str(network.folder or ("DVC's cache" if network.md5 else "not on this machine"))
    rows = {"SHA-256": network.hash, "place": where}
    if network.revisions:
        others = len(network.revisions) - MOST_REVISIONS
        more = f" and {others} more" if others > 0 else ""
        rows["revisions"] = ", ".join(network.revisions[:MOST_REVISIONS]) + more
    return rows


def _describe_training(run: "Run | None") -> dict[str, str]:
    from unclip.tracking.store import STAGES

    if run is None:
        return {}
    params = ", ".join(f"{key.split('.', 1)[-1]} {value}" for key, value in run.params.items())
    trained_by = f"{_name_of(run)}, run {run.id} in {STAGES}"
    return {"trained by": trained_by, **_describe_commit(run), "params": params}


def _describe_record(run: "Run") -> dict[str, str]:
    from unclip.tracking.store import EXPERIMENTS

    data = {k.removeprefix("data."): v for k, v in run.params.items() if k.startswith("data.")}
    dataset = data.pop("dataset", "")
    data_set = ", ".join([dataset, *(f"{key} {value}" for key, value in data.items())])
    return {"run": f"{run.id} in {EXPERIMENTS}", **_describe_commit(run), "data set": data_set}


def _describe_commit(run: "Run") -> dict[str, str]:
    """Returns the commit that a run started from, and the DVC experiment that it was part of."""
    commit, code = run.tags.get("commit", ""), run.tags.get("code", "")
    rows = {"commit": f"{commit[:HASH]} {code}".strip()} if commit else {}
    name = run.tags.get("dvc_exp", "")
    return rows | ({"DVC": f"experiment {name}"} if name else {})


def _name_of(run: "Run") -> str:
    return run.tags.get("mlflow.runName", run.id)


def _repaint(traced: "Traced", networks: "Sequence[Network]", out: Path | None) -> bool:
    """Paints a picture again, reports the difference, and returns whether there is none."""
    from unclip.core.device import open_device
    from unclip.painting.loading import load_system
    from unclip.painting.notes import repaint
    from unclip.pictures.png import as_image, encode_png, save_png
    from unclip.provenance.search import gather
    from unclip.provenance.tracing import compare_pixels

    with tempfile.TemporaryDirectory() as folder:
        gather(networks, Path(), Path(folder))
        system = load_system(Path(folder), open_device())
    again = repaint(system, traced.note)
    if out is not None:
        try:
            save_png(as_image(again), out, traced.note)
        except OSError as error:
            raise UserError(f"--out {out}: cannot be written ({error.strerror})") from None
    difference = compare_pixels(traced.pixels, again)
    if difference:
        told = (
            f"{difference}; another processor, thread count or version of torch rounds "
            "differently, or the picture was changed after it was painted"
        )
    elif encode_png(as_image(again), traced.note) == traced.path.read_bytes():
        told = "the same pixels, and the same file byte for byte"
    else:
        told = "the same pixels; the file was written by another program"
    typer.echo(f"painted again: {told}")
    return not difference
