"""Where the time of a training step goes: `python cli.py profile train_decoder`."""

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Kineto, torch's profiler, would report on stderr that a machine without a GPU has none.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from rich.console import Console
from rich.table import Table
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from unclip.config.layout import Layout
from unclip.core.device import Machine, open_machine
from unclip.params.loading import load_params
from unclip.training.updates import Training

WARM_UP = 3  # steps in which kernels are chosen and memory is first touched


@dataclass(frozen=True)
class Operator:
    """What one operator of torch costs in a step.

    Attributes:
        name: as torch calls it.
        seconds: in its own code, without the operators that it calls.
        calls: in a step.
    """

    name: str
    seconds: float
    calls: float


@dataclass(frozen=True)
class Profile:
    """Where the time of a training step goes.

    Attributes:
        seconds: of a step, measured without the profiler.
        profiled_seconds: of a step under the profiler, which slows it down.
        flops: floating-point operations of the convolutions and matrix products of a step.
        operators: the dearest first.
    """

    seconds: float
    profiled_seconds: float
    flops: int
    operators: list[Operator]

    @property
    def outside(self) -> float:
        """Returns the share of a profiled step in which no operator runs: Python, data, waiting."""
        return max(0.0, 1 - sum(o.seconds for o in self.operators) / self.profiled_seconds)


def profile_training(
    steps: Iterator[Any], device: str, *, count: int, trace: Path | None = None
) -> Profile:
    """Returns the profile of a training, from the next 1 + WARM_UP + 2 count of its steps.

    Args:
        steps: of a training, not yet begun.
        device: where it computes.
        count: how many steps are timed, and then how many are profiled.
        trace: a file for the whole trace, which chrome://tracing and Perfetto show.
    """
    with FlopCounterMode(display=False) as counter:
        next(steps)
    _run(steps, WARM_UP, device)
    seconds = _run(steps, count, device) / count
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        profiled = _run(steps, count, device) / count
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    on_gpu = device == "cuda"
    operators = [
        Operator(
            event.key,
            (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6 / count,
            event.count / count,
        )
        for event in profiler.key_averages()
        if not on_gpu or (event.device_type == DeviceType.CUDA and not event.is_user_annotation)
    ]
    operators.sort(key=lambda operator: -operator.seconds)
    return Profile(seconds, profiled, counter.get_total_flops(), operators)


def _run(steps: Iterator[Any], count: int, device: str) -> float:
    """Returns the seconds that `count` steps take."""
    start = time.perf_counter()
    for _ in itertools.islice(steps, count):
        pass
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def steps_of(task_type: Any, stage: str, layout: Layout, *, count: int) -> tuple[Any, Machine]:
    """Returns the first `count` steps of a training stage, not yet begun, and the machine.

    Args:
        task_type: the Task of the stage's module.
        stage: its name in dvc.yaml.
        layout: the workspace, with what the stage reads.
        count: how many steps; the shipped number may be smaller.

    Raises:
        UserError: params are not valid, or what the stage reads is not there.
    """
    section = getattr(load_params(layout.params), stage.removeprefix("train_"))
    section = section.model_copy(update={"train_steps": max(count, section.train_steps)})
    machine = open_machine(section.precision)
    task = task_type.of(layout, section, machine)
    training = Training.start(
        task.new_model(),
        task.loss,
        section,
        stage=stage,
        accelerator=machine.accelerator,
        ema_decay=getattr(section, "ema_decay", None),
    )
    return training.steps(0), machine


def print_profile(
    task_type: Any, stage: str, *, count: int, shown: int, trace: Path | None
) -> None:
    """Profiles a training stage of this folder and prints what its time is spent on.

    Raises:
        UserError: as `steps_of`.
    """
    needed = 1 + WARM_UP + 2 * count
    steps, machine = steps_of(task_type, stage, Layout(), count=needed)
    found = profile_training(steps, machine.device, count=count, trace=trace)
    table = Table("operator", "ms a step", "share", "calls a step", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for operator in found.operators[:shown]:
        share = operator.seconds / found.profiled_seconds
        table.add_row(
            operator.name, f"{operator.seconds * 1e3:.2f}", f"{share:.1%}", f"{operator.calls:g}"
        )
    rest = sum(operator.seconds for operator in found.operators[shown:])
    table.add_row(
        "other operators", f"{rest * 1e3:.2f}", f"{rest / found.profiled_seconds:.1%}", ""
    )
    table.add_row(
        "outside of operators",
        f"{found.outside * found.profiled_seconds * 1e3:.2f}",
        f"{found.outside:.1%}",
        "",
    )
    console = Console()
    console.print(
        f"{stage} on {machine.device}, {machine.precision}, {torch.get_num_threads()} threads: "
        f"{found.seconds * 1e3:.1f} ms a step, {found.flops / 1e9:.2f} GFLOP a step, "
        f"{found.flops / found.seconds / 1e9:.0f} GFLOP/s; "
        f"{found.profiled_seconds * 1e3:.1f} ms a step under the profiler:",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    if trace is not None:
        console.print(f"{trace}: open it in chrome://tracing or Perfetto", highlight=False)
