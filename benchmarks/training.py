"""Training: pictures and floating-point operations a second, beside the machine and the others."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import naive, ours, peer
from benchmarks.report import Table
from benchmarks.turns import Contender, Timing, take_turns
from benchmarks.workspace import Scale
from stages.train_decoder import STAGE as DECODER
from unclip.core.device import Machine, open_machine

MATRIX_SIZES = (512, 1024, 2048)
COMPARED = {"optimizer": "adamw"}  # of all who are compared: Muon would cost each of them the same
FIGURES = {
    "parameters": ("parameters", ",d"),
    "precision": ("precision", ""),
    "pictures": ("batch", "d"),
    "pictures_per_second": ("pictures/s", ",.0f"),
    "median": ("ms a step", ",.1f"),
    "minimum": ("ms at best", ",.1f"),
    "gflops": ("GFLOP a step", ",.2f"),
    "gflops_per_second": ("GFLOP/s", ",.0f"),
}


def measure(shipped: Path, large: Path, scale: Scale) -> list[Table]:
    """Returns the training figures of every stage, and of the decoder beside other ways."""
    machine = open_machine("auto")
    others = {
        "ours, fp32": Contender(
            "fp32", partial(ours.training, large, DECODER, precision="fp32", **COMPARED)
        ),
        "the naive way": Contender("theirs", partial(naive.training, large, machine.device)),
    }
    tutorials = _compare("The decoder at the tutorial's size", large, machine, scale, others)
    ships = _compare("The decoder at the shipped size", shipped, machine, scale, {})
    return [_every_stage(shipped, machine, scale), tutorials, ships]


def _every_stage(folder: Path, machine: Machine, scale: Scale) -> Table:
    """Returns the stages beside the best matrix product."""
    stages = {
        stage: Contender("ours", partial(ours.training, folder, stage)) for stage in ours.TASKS
    }
    products = {
        f"matrix product, {size} × {size}": Contender(
            "ours", partial(ours.matrix_product, size, machine.precision, machine.device)
        )
        for size in MATRIX_SIZES
    }
    rows = _rows(stages | products, scale)
    best = max((rows[name] for name in products), key=lambda row: row["gflops_per_second"])
    shown = [*(rows[name] for name in stages), best]
    for row in shown:
        row["share"] = row["gflops_per_second"] / best["gflops_per_second"]
    columns = {"name": ("stage", ""), **FIGURES, "share": ("of the matrix product", ".0%")}
    note = "Through the training loop of the stages, at the shipped params; medians of turns."
    return Table("Training steps", columns, shown, note)


def _compare(
    title: str, folder: Path, machine: Machine, scale: Scale, others: Mapping[str, Contender]
) -> Table:
    """Returns the ways to do a step of a decoder, each with how many times as long it takes."""
    theirs = partial(peer.training, folder, machine.precision, machine.device)
    contenders = {
        "ours": Contender("ours", partial(ours.training, folder, DECODER, **COMPARED)),
        "diffusers, our FLOPs": Contender("theirs", theirs),
        **others,
    }
    rows = _rows(contenders, scale)
    for row in rows.values():
        row["times"] = row["median"] / rows["ours"]["median"]
    columns = {"name": ("way", ""), **FIGURES, "times": ("× ours", ".2f")}
    widths = ", ".join(map(str, rows["diffusers, our FLOPs"]["widths"]))
    note = (
        f"In turns; × ours is the ratio of median times. The widths {widths} give diffusers' UNet "
        "about as many floating-point operations as ours has."
    )
    return Table(title, columns, list(rows.values()), note)


def _rows(contenders: Mapping[str, Contender], scale: Scale) -> dict[str, dict[str, Any]]:
    timings = take_turns(contenders, rounds=scale.rounds, turn_seconds=scale.turn_seconds)
    return {name: _row(name, timing) for name, timing in timings.items()}


def _row(name: str, timing: Timing) -> dict[str, Any]:
    """Returns the figures of one contender's steps; `median` and `minimum` in milliseconds."""
    gflops = timing.facts["flops"] / 1e9
    row = {"name": name, **timing.facts, "seconds": timing.seconds, "gflops": gflops}
    row |= {"median": timing.median * 1e3, "minimum": timing.minimum * 1e3}
    if "pictures" in timing.facts:
        row["pictures_per_second"] = timing.facts["pictures"] / timing.median
    return row | {"gflops_per_second": gflops / timing.median}
