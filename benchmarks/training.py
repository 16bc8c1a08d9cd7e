"""Training: pictures and floating-point operations a second, beside the machine and the others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import naive, ours, peer
from benchmarks.environment import describe
from benchmarks.flops import matrix_product
from benchmarks.report import Bar, Column, Row, Section, Table
from benchmarks.scale import Scale
from benchmarks.timing import Timing, ratio, take_turns
from benchmarks.worker import RemoteWork, Worker, Workers
from stages.train_decoder import STAGE as DECODER

MATRIX_SIZES = (512, 1024, 2048)
PROFILED_STEPS = 5
MATRIX = "matrix product"
SHIPPED_WAY, FP32, NAIVE = "ours", "ours, fp32", "the naive way"
DIFFUSERS, WIDER = "diffusers, our FLOPs", "diffusers, our widths"

FIGURES = (
    Column("parameters", "parameters", "{:,}"),
    Column("precision", "precision"),
    Column("pictures", "batch", "{}"),
    Column("pictures_per_second", "pictures/s", "{:,.0f}"),
    Column("median", "ms a step", "{:,.1f}"),
    Column("minimum", "ms at best", "{:,.1f}"),
    Column("gflops", "GFLOP a step", "{:,.2f}"),
    Column("gflops_per_second", "GFLOP/s", "{:,.0f}"),
    Column("share", "of the matrix product", "{:.0%}"),
)
COMPARED = {"optimizer": "adamw"}  # of all who are compared: Muon would cost each of them the same
MS = 1e3  # milliseconds in a second


def measure(folder: Path, scale: Scale, workers: Workers) -> Section:
    """Returns the training figures of every stage, and of the decoder beside other ways.

    Args:
        folder: for temporary workspaces.
        scale: how much is measured.
        workers: where the contenders run.
    """
    quick, large = scale.make_workspaces(folder)
    shipped, profile, share = _every_stage(quick, workers.ours, scale)
    small = _ways(quick, workers)
    beside = _ways(large, workers) | {
        FP32: workers.fp32.build(ours.training, large, DECODER, "fp32", **COMPARED),
        NAIVE: workers.theirs.build(naive.training, large, small[SHIPPED_WAY].facts["device"]),
    }
    small_timings, timings = _take_turns(small, scale), _take_turns(beside, scale)
    tables = [shipped, _comparison("The decoder at the tutorial's size", beside, timings)]
    tables += [_comparison("The decoder at the shipped size", small, small_timings), profile]
    mine_large = timings[SHIPPED_WAY]
    bars = [
        Bar(
            "decoder at 15 M, against the naive way",
            ratio(timings[NAIVE], mine_large),
            4,
            True,
            "×",
        ),
        Bar(
            "decoder at 15 M, against diffusers",
            ratio(timings[DIFFUSERS], mine_large),
            1.3,
            True,
            "×",
        ),
        Bar("shipped decoder, share of the matrix product", share, 0.5, True, "%"),
    ]
    return Section("training", describe(), tables, bars)


def _ways(folder: Path, workers: Workers) -> dict[str, RemoteWork]:
    """Returns our training step of a workspace's decoder, and those of diffusers beside it."""
    mine = workers.ours.build(ours.training, folder, DECODER, "auto", **COMPARED)
    machine = mine.facts["precision"], mine.facts["device"]
    return {
        SHIPPED_WAY: mine,
        DIFFUSERS: workers.theirs.build(peer.training, folder, *machine),
        WIDER: workers.theirs.build(peer.training, folder, *machine, has_our_flops=False),
    }


def _take_turns(works: Mapping[str, RemoteWork], scale: Scale) -> dict[str, Timing]:
    return take_turns(works, rounds=scale.rounds, turn_seconds=scale.turn_seconds)


def _every_stage(folder: Path, worker: Worker, scale: Scale) -> tuple[Table, Table, float]:
    """Returns the stages beside the matrix product, the decoder's profile, and its share."""
    works = {stage: worker.build(ours.training, folder, stage, "auto") for stage in ours.TASKS}
    precision, device = works[DECODER].facts["precision"], works[DECODER].facts["device"]
    products = {
        f"{MATRIX}, {size} × {size}": worker.build(matrix_product, size, precision, device)
        for size in MATRIX_SIZES
    }
    timings = _take_turns(works | products, scale)
    rates = {n: work.facts["flops"] / timings[n].median for n, work in products.items()}
    best = max(rates, key=lambda name: rates[name])
    rows = [row_of(name, work.facts, timings[name]) for name, work in works.items()]
    rows.append(row_of(best, products[best].facts, timings[best]))
    for row in rows:
        row["share"] = row["gflops_per_second"] * 1e9 / rates[best]
    share = next(row["share"] for row in rows if row["name"] == DECODER)
    note = "Through the training loop of the stages, at the shipped params; medians of turns."
    table = Table("Training steps", (Column("name", "stage"), *FIGURES), rows, note)
    found = worker.build(ours.operators, folder, DECODER, "auto", PROFILED_STEPS).facts
    return table, _profile(found["operators"]), share


def row_of(name: str, facts: Mapping[str, Any], timing: Timing) -> Row:
    """Returns the figures of one contender's steps; `median` and `minimum` in milliseconds."""
    row: Row = {"name": name, **facts, "seconds": list(timing.samples)}
    row |= {"median": timing.median * MS, "minimum": timing.minimum * MS}
    row |= {"gflops": facts["flops"] / 1e9}
    row |= {"gflops_per_second": facts["flops"] / 1e9 / timing.median}
    if "pictures" in facts:
        row["pictures_per_second"] = facts["pictures"] / timing.median
    return row


def _comparison(
    title: str, works: Mapping[str, RemoteWork], timings: Mapping[str, Timing]
) -> Table:
    """Returns the ways to do the same step, each with how many times as long as ours it takes."""
    rows = []
    for name, work in works.items():
        row = row_of(name, work.facts, timings[name])
        rows.append(row | {"times": ratio(timings[name], timings[SHIPPED_WAY])})
    columns = (Column("name", "way"), *FIGURES[:-1], Column("times", "× ours", "{:.2f}"))
    widths = ", ".join(map(str, works[DIFFUSERS].facts["widths"]))
    note = (
        "In turns; × ours is the ratio of median times. With our widths diffusers' UNet has more "
        f"floating-point operations than ours; the widths {widths} give it as many."
    )
    return Table(title, columns, rows, note)


def _profile(rows: Sequence[Row]) -> Table:
    columns = (
        Column("operator", "operator"),
        Column("milliseconds", "ms a step", "{:.2f}"),
        Column("share", "share", "{:.1%}"),
        Column("calls", "calls a step", "{:g}"),
    )
    shown = [row | {"milliseconds": row["seconds"] * MS} for row in rows]
    return Table("A training step of the shipped decoder, by operator", columns, shown)
