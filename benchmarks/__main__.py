"""The one command: `python -m benchmarks`."""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from unclip.config.streams import replace_what_cannot_be_shown

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SECTIONS = ("training", "sampling", "commands")


@app.command()
def main(
    only: Annotated[
        str, typer.Option(help="Sections, with commas between; the others keep their figures.")
    ] = ",".join(SECTIONS),
    out: Annotated[Path, typer.Option(help="Folder for JSON and Markdown.")] = Path(
        "benchmarks/results"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Only see that all of it runs: about a minute.")
    ] = False,
) -> None:
    """Measure training, sampling and commands, each beside its limit or a peer."""
    chosen = [name.strip() for name in only.split(",")]
    if unknown := set(chosen) - set(SECTIONS):
        raise typer.BadParameter(f"{sorted(unknown)}; expected some of {', '.join(SECTIONS)}")
    if find_spec("diffusers") is None:
        raise typer.BadParameter("diffusers is missing; `make setup` brings it")
    # Torch takes seconds to import; help and mistakes need none of it.
    from rich.console import Console
    from rich.markdown import Markdown

    from benchmarks import commands, sampling, training
    from benchmarks.report import add_section
    from benchmarks.workspace import QUICK, USUAL, make_workspaces

    measures = dict(zip(SECTIONS, (training, sampling, commands), strict=True))
    scale = QUICK if quick else USUAL
    console = Console() if Console().is_terminal else Console(width=160)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        shipped, large = make_workspaces(Path(folder), scale)
        for name in chosen:
            tables = measures[name].measure(shipped, large, scale)
            console.print(Markdown(add_section(out, name, tables)))
    console.print(f"{out / 'benchmarks.json'} and {out / 'benchmarks.md'}", highlight=False)


if __name__ == "__main__":
    replace_what_cannot_be_shown()
    app()
