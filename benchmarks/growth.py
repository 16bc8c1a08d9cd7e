"""Growth: how time and memory grow with picture size, width, batch and data set."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import ours
from benchmarks.environment import describe
from benchmarks.growth_chart import Panel, draw_growth
from benchmarks.report import Column, Row, Section, Table
from benchmarks.scale import Scale
from benchmarks.stage_times import MEBIBYTE, run_stage
from benchmarks.timing import take_turns
from benchmarks.training import FIGURES, row_of
from benchmarks.worker import Worker, Workers
from benchmarks.workspace import (
    SHIPPED,
    Changes,
    changed_params,
    make_workspace,
    write_params,
    write_untrained,
)
from stages.train_decoder import STAGE as DECODER
from unclip.pictures.png import save_png

FIGURE = "growth.png"
STEPS_ON_DATA = 20  # training steps on a data set of each size
TRACKING_OFF = {"UNCLIP_TRACKING": "off"}
# One validation and one painting, both small: what grows with the data must stand out.
ON_DATA: Changes = {
    "decoder": {
        **{"train_steps": STEPS_ON_DATA, "warmup_steps": 2, "val_every": STEPS_ON_DATA},
        **{"val_pictures": 100, "paint_every": STEPS_ON_DATA, "paint_steps": 2},
    }
}
STEP_COLUMNS = tuple(
    column
    for column in FIGURES
    if column.key in ("parameters", "pictures_per_second", "median", "gflops_per_second")
)


def measure(folder: Path, scale: Scale, workers: Workers, out: Path) -> Section:
    """Returns how the decoder's training step and the data set's preparation grow.

    Args:
        folder: for temporary workspaces.
        scale: how much is measured.
        workers: where the steps run.
        out: where the figure goes.
    """
    sizes = {n: _picture_size(n) for n in scale.image_sizes}
    widths = {
        n: {"decoder": {"model_channels": n, "head_channels": min(n, 32)}} for n in scale.widths
    }
    batches = {n: {"decoder": {"batch_size": n}} for n in scale.batch_sizes}
    by_size = _steps(folder / "sizes", sizes, scale, workers.ours)
    by_width = _steps(folder / "widths", widths, scale, workers.ours)
    by_batch = _steps(folder / "batches", batches, scale, workers.ours)
    by_data = [_data_row(folder / f"data{n}", n) for n in scale.data_sizes]
    panels = [
        Panel("pictures, pixels a side", by_size, "median", "ms a step"),
        Panel("channels of the first level", by_width, "median", "ms a step"),
        Panel("pictures of a batch", by_batch, "pictures_per_second", "pictures a second"),
        Panel("pictures of the data set", by_data, "step", "ms a step"),
        Panel("pictures of the data set", by_data, "prepare", "s to prepare"),
        Panel("pictures of the data set", by_data, "train_peak", "MiB in training"),
    ]
    save_png(draw_growth(panels, "How the decoder's training grows"), out / FIGURE)
    tables = [
        _step_table("A training step by picture size", "pixels a side", by_size),
        _step_table("A training step by width", "channels of the first level", by_width),
        _step_table("A training step by batch", "pictures of a batch", by_batch),
        _data_table(by_data),
    ]
    return Section("growth", describe(), tables, figure=FIGURE)


def _picture_size(pixels: int) -> Changes:
    """Returns the changes for pictures of another size; attention stays on the inner level."""
    return {"data": {"image_size": pixels}, "decoder": {"attn_resolutions": [pixels // 4]}}


def _steps(
    folder: Path, variants: Mapping[int, Changes], scale: Scale, worker: Worker
) -> list[Row]:
    """Returns a row of the decoder's training step for each variant of the shipped params."""
    folders = {}
    for number, changes in variants.items():
        params = changed_params(SHIPPED, scale.pictures, changes)
        folders[number] = make_workspace(folder / str(number), params).root
    works = {
        str(number): worker.build(ours.training, where, DECODER, "auto")
        for number, where in folders.items()
    }
    timings = take_turns(works, rounds=scale.rounds, turn_seconds=scale.turn_seconds)
    return [
        row_of(name, work.facts, timings[name]) | {"at": int(name)} for name, work in works.items()
    ]


def _step_table(title: str, heading: str, rows: Sequence[Row]) -> Table:
    return Table(title, (Column("at", heading, "{}"), *STEP_COLUMNS), rows)


def _data_row(folder: Path, pictures: int) -> dict[str, Any]:
    """Returns time and memory of preparing a data set and of training on it."""
    params = changed_params(SHIPPED, pictures, ON_DATA)
    layout = write_params(folder, params)
    prepared = run_stage(layout, "prepare", TRACKING_OFF)
    write_untrained(layout, params)
    trained = run_stage(layout, DECODER, TRACKING_OFF)
    return {
        "at": pictures,
        "prepare": prepared.total,
        "prepare_peak": prepared.peak_memory and prepared.peak_memory / MEBIBYTE,
        "step": statistics.median(trained.laps) * 1e3,
        "train_peak": trained.peak_memory and trained.peak_memory / MEBIBYTE,
        "startup": trained.times["startup"],
        "laps": trained.laps,
    }


def _data_table(rows: Sequence[Row]) -> Table:
    columns = (
        Column("at", "pictures", "{:,}"),
        Column("prepare", "s to prepare", "{:,.1f}"),
        Column("prepare_peak", "MiB of prepare", "{:,.0f}"),
        Column("step", "ms a training step", "{:,.1f}"),
        Column("train_peak", "MiB of training", "{:,.0f}"),
    )
    note = "Pictures for training and validation; MiB are the peak of anonymous memory."
    return Table("A data set on disk", columns, rows, note)
