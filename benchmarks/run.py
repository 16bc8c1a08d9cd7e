"""Runs sections one after another and writes what each found at once, so that none is lost."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import growth, sampling, stage_times, training
from benchmarks.report import Report, Section, write_text
from benchmarks.scale import Scale
from benchmarks.tables import print_section, to_markdown
from benchmarks.worker import Workers

Measure = Callable[[Path, Scale, Workers, Path], Section]

MEASURES: dict[str, Measure] = {
    "training": lambda folder, scale, workers, out: training.measure(folder, scale, workers),
    "sampling": lambda folder, scale, workers, out: sampling.measure(folder, scale, workers),
    "stages": lambda folder, scale, workers, out: stage_times.measure(folder, scale),
    "growth": growth.measure,
}


def run(names: Sequence[str], scale: Scale, folder: Path, out: Path) -> None:
    """Measures the named sections, prints them and writes benchmarks.json and benchmarks.md.

    Args:
        names: of sections; what `out` holds of the others is kept.
        scale: how much is measured.
        folder: temporary, empty.
        out: for the results.
    """
    console = Console(width=160) if not Console().is_terminal else Console()
    report = Report.at(out / "benchmarks.json")
    with Workers() as workers:
        for name in names:
            section = MEASURES[name](folder / name, scale, workers, out)
            workers.forget()
            print_section(section, console)
            report.sections[name] = section
            report.write(out / "benchmarks.json")
            write_text(out / "benchmarks.md", to_markdown(report))
    console.print(f"{out / 'benchmarks.json'} and {out / 'benchmarks.md'}", highlight=False)
