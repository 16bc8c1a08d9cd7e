"""The one command: `python -m benchmarks`."""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SECTIONS = ("training", "sampling", "stages", "growth")


@app.command()
def main(
    only: Annotated[
        str, typer.Option(help="Sections, with commas between; the others keep their figures.")
    ] = ",".join(SECTIONS),
    out: Annotated[Path, typer.Option(help="Folder for JSON, Markdown and picture.")] = Path(
        "benchmarks/results"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Only see that all of it runs: below a minute.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="With a data set of a million pictures (6 GB of disk).")
    ] = False,
) -> None:
    """Measure training, sampling, stages and growth, each beside its limit or a peer."""
    chosen = [name.strip() for name in only.split(",")]
    if unknown := set(chosen) - set(SECTIONS):
        raise typer.BadParameter(f"{sorted(unknown)}; expected some of {', '.join(SECTIONS)}")
    if quick and full:
        raise typer.BadParameter("give one of --quick and --full")
    if find_spec("diffusers") is None:
        raise typer.BadParameter("diffusers is missing; `make setup` brings it")
    # Torch takes seconds to import; help and mistakes need none of it.
    from benchmarks.run import run
    from benchmarks.scale import FULL, QUICK, USUAL

    scale = QUICK if quick else FULL if full else USUAL
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        run(chosen, scale, Path(folder), out)


if __name__ == "__main__":
    app()
