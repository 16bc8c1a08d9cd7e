"""Sampling: pictures a second by steps and by batch, beside diffusers and the naive way."""

from pathlib import Path

from benchmarks import naive, ours, peer
from benchmarks.environment import describe
from benchmarks.report import Bar, Column, Row, Section, Table
from benchmarks.scale import Scale
from benchmarks.timing import Timing, ratio, take_turns
from benchmarks.worker import RemoteWork, Worker, Workers
from benchmarks.workspace import SHIPPED, changed_params

TEN = 10  # pictures of the headline
STEPS_BATCH = 10  # pictures painted at once where steps are compared
RATES = (
    Column("ours", "ours, pictures/s", "{:,.1f}"),
    Column("diffusers", "diffusers, pictures/s", "{:,.1f}"),
    Column("times", "ours is × as fast", "{:.2f}"),
)


def measure(folder: Path, scale: Scale, workers: Workers) -> Section:
    """Returns how fast pictures are painted and judged.

    Args:
        folder: for temporary workspaces.
        scale: how much is measured.
        workers: where the contenders run.
    """
    quick, large = scale.make_workspaces(folder)
    shipped = changed_params(SHIPPED, scale.pictures).sample
    facts = workers.ours.build(ours.painting, quick, 1, 1).facts
    painters = _Painters(quick, workers, facts["precision"], facts["device"])
    batch = min(STEPS_BATCH, max(scale.paint_batches))
    steps = [painters.compare(batch, n, scale) | {"steps": n} for n in scale.sampling_steps]
    batches = [
        painters.compare(n, shipped.steps, scale) | {"batch_size": n} for n in scale.paint_batches
    ]
    judged = _judging(quick, workers.fp32, scale)
    headline, times = _ten_pictures(quick, large, workers, facts["device"], scale)
    tables = [
        headline,
        Table(
            "Painting by steps",
            (Column("steps", "steps", "{}"), *RATES),
            steps,
            f"The shipped decoder and sampler with guidance, {batch} pictures at once.",
        ),
        Table(
            "Painting by batch",
            (Column("batch_size", "pictures at once", "{}"), *RATES),
            batches,
            f"{shipped.steps} steps. Best for us: {_best(batches, 'ours')} at once.",
        ),
        judged,
    ]
    bar = Bar("ten pictures, against the naive way at the tutorial's size", times, 300, True, "×")
    return Section("sampling", describe(), tables, [bar])


class _Painters:
    """Our decoder and the peer of it, at any batch and number of steps."""

    def __init__(self, folder: Path, workers: Workers, precision: str, device: str) -> None:
        self.folder, self.workers = folder, workers
        self.machine = (precision, device)

    def compare(self, batch_size: int, steps: int, scale: Scale) -> Row:
        """Returns pictures a second of both, and how many times as fast we are."""
        works = {
            "ours": self.workers.ours.build(ours.painting, self.folder, batch_size, steps),
            "diffusers": self.workers.theirs.build(
                peer.painting, self.folder, batch_size, steps, *self.machine
            ),
        }
        timings = take_turns(works, rounds=scale.rounds, turn_seconds=scale.turn_seconds)
        rates = {name: batch_size / timing.median for name, timing in timings.items()}
        samples = {f"{name}_seconds": list(timing.samples) for name, timing in timings.items()}
        return rates | samples | {"times": ratio(timings["diffusers"], timings["ours"])}


def _best(rows: list[Row], name: str) -> int:
    best: int = max(rows, key=lambda row: row[name])["batch_size"]
    return best


def _judging(folder: Path, worker: Worker, scale: Scale) -> Table:
    """Returns how many pictures a second are judged, by batch."""
    works = {
        str(n): worker.build(ours.judging_batches, folder, n, scale.judged)
        for n in scale.judge_batches
    }
    timings = take_turns(works, rounds=scale.rounds, turn_seconds=scale.turn_seconds)
    rows = [
        {
            "batch_size": int(name),
            "ours": scale.judged / timing.median,
            "seconds": list(timing.samples),
        }
        for name, timing in timings.items()
    ]
    columns = (
        Column("batch_size", "pictures at once", "{}"),
        Column("ours", "pictures/s", "{:,.0f}"),
    )
    note = f"`judge_pictures` in fp32. Best: {_best(rows, 'ours')} at once."
    return Table("Judging by batch", columns, rows, note)


def _ten_pictures(
    quick: Path, large: Path, workers: Workers, device: str, scale: Scale
) -> tuple[Table, float]:
    """Returns the seconds for ten pictures from captions, and naive at full size over ours."""
    works: dict[str, _Scaled] = {
        "ours": _Scaled(workers.ours.build(ours.whole_pictures, quick, TEN), 1, 1),
        "the naive way, shipped networks": _naive(quick, workers.theirs, device, scale),
        "the naive way, the tutorial's networks": _naive(large, workers.theirs, device, scale),
    }
    timings = take_turns(works, rounds=scale.rounds, turn_seconds=scale.turn_seconds)
    rows = [
        {
            "name": name,
            "steps": works[name].work.facts["steps"],
            "precision": works[name].work.facts["precision"],
            "median": timing.median,
            "minimum": timing.minimum,
            "times": ratio(timing, timings["ours"]),
            "seconds": list(timing.samples),
        }
        for name, timing in timings.items()
    ]
    columns = (
        Column("name", "way"),
        Column("precision", "precision"),
        Column("steps", "steps of the decoder", "{}"),
        Column("median", "s", "{:,.2f}"),
        Column("minimum", "s at best", "{:,.2f}"),
        Column("times", "× ours", "{:,.0f}"),
    )
    note = (
        f"From captions to pictures, at the shipped settings. Of the naive way's steps "
        f"{scale.naive_steps} were timed, and the time of all worked out from them; it draws "
        "the embedding anew in every step and has no guidance, which would double its work."
    )
    return Table("Ten pictures", columns, rows, note), ratio(_last(timings), timings["ours"])


def _last(timings: dict[str, Timing]) -> Timing:
    return list(timings.values())[-1]


class _Scaled:
    """A contender of which a slice is timed, for a whole that is so many times as long."""

    def __init__(self, work: RemoteWork, slice_units: int, whole_units: int) -> None:
        self.work, self.slice_units, self.whole_units = work, slice_units, whole_units

    def seconds(self, count: int) -> float:
        """Returns the seconds that `count` wholes would take, from a slice of each."""
        seconds = self.work.seconds(count * self.slice_units)
        return seconds * self.whole_units / self.slice_units


def _naive(folder: Path, worker: Worker, device: str, scale: Scale) -> _Scaled:
    work = worker.build(naive.painting, folder, TEN, device)
    return _Scaled(work, scale.naive_steps, work.facts["steps"])
