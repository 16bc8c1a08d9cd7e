"""Sampling: pictures a second by steps and by batch, beside diffusers and the naive way."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import naive, ours, peer
from benchmarks.report import Row, Table
from benchmarks.turns import Contender, take_turns
from benchmarks.workspace import Scale
from unclip.config.layout import Layout
from unclip.core.device import Machine, open_machine
from unclip.params.loading import load_params

TEN = 10  # pictures where batches are not compared


def measure(shipped: Path, large: Path, scale: Scale) -> list[Table]:
    """Returns how fast pictures are painted."""
    machine, steps = open_machine("auto"), load_params(Layout(shipped).params).sample.steps
    sizes = [*((TEN, n) for n in scale.sampling_steps), *((n, steps) for n in scale.paint_batches)]
    rows = _beside_diffusers(shipped, sizes, machine, scale)
    rates = {
        "ours": ("ours, pictures/s", ",.1f"),
        "diffusers": ("diffusers, pictures/s", ",.1f"),
        "times": ("ours is × as fast", ".2f"),
    }
    note = "The shipped decoder and sampler with guidance"
    return [
        _ten_pictures(shipped, large, machine, scale),
        Table(
            "Painting by steps",
            {"steps": ("steps", "d"), **rates},
            rows[: len(scale.sampling_steps)],
            f"{note}, {TEN} pictures at once.",
        ),
        Table(
            "Painting by batch",
            {"num": ("pictures at once", "d"), **rates},
            rows[len(scale.sampling_steps) :],
            f"{note}, {steps} steps.",
        ),
    ]


def _beside_diffusers(
    folder: Path, sizes: Sequence[tuple[int, int]], machine: Machine, scale: Scale
) -> list[Row]:
    """Returns pictures a second of us and the peer, for pairs of pictures at once and steps."""
    contenders = {}
    for num, steps in sizes:
        mine = partial(ours.decoding, folder, num, steps)
        contenders[f"ours {num} {steps}"] = Contender("ours", mine)
        theirs = partial(peer.painting, folder, num, steps, machine.precision, machine.device)
        contenders[f"diffusers {num} {steps}"] = Contender("theirs", theirs)
    timings = take_turns(contenders, rounds=scale.rounds, turn_seconds=scale.turn_seconds)
    rows: list[Row] = []
    for num, steps in sizes:
        both = {who: timings[f"{who} {num} {steps}"] for who in ("ours", "diffusers")}
        row: dict[str, Any] = {"num": num, "steps": steps}
        row |= {who: num / timing.median for who, timing in both.items()}
        row |= {f"{who}_seconds": timing.seconds for who, timing in both.items()}
        rows.append(row | {"times": both["diffusers"].median / both["ours"].median})
    return rows


def _ten_pictures(shipped: Path, large: Path, machine: Machine, scale: Scale) -> Table:
    """Returns the seconds for ten pictures from captions, by us and in the naive way."""
    slow = {"shipped": shipped, "tutorial's": large}
    contenders = {"ours": Contender("ours", partial(ours.painting, shipped, TEN))} | {
        f"the naive way, the {size} networks": Contender(
            "theirs", partial(naive.painting, folder, TEN, scale.naive_steps, machine.device)
        )
        for size, folder in slow.items()
    }
    timings = take_turns(contenders, rounds=scale.rounds, turn_seconds=scale.turn_seconds)
    rows: list[dict[str, Any]] = []
    for name, timing in timings.items():
        whole = timing.facts.get("whole", 1)
        row = {"name": name, **timing.facts, "seconds": timing.seconds}
        row |= {"median": timing.median * whole, "minimum": timing.minimum * whole}
        rows.append(row | {"times": row["median"] / timings["ours"].median})
    columns = {
        "name": ("way", ""),
        "precision": ("precision", ""),
        "steps": ("steps of the decoder", "d"),
        "median": ("s", ",.2f"),
        "minimum": ("s at best", ",.2f"),
        "times": ("× ours", ",.0f"),
    }
    note = (
        f"From captions to pictures, at the shipped settings. Of the naive way's steps "
        f"{scale.naive_steps} were timed, and the time of all worked out from them; it draws "
        "the embedding anew in every step and has no guidance, which would double its work."
    )
    return Table("Ten pictures", columns, rows, note)
