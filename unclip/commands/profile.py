"""Where the time of a training step goes: `python cli.py profile train_decoder`."""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Kineto, torch's profiler, would report on stderr that a machine without a GPU has none.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
import typer
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from unclip.config.layout import Layout
from unclip.core.device import open_machine
from unclip.params.loading import load_params
from unclip.training.loop import Training

WARM_UP = 3  # steps in which kernels are chosen and memory is first touched


def print_profile(
    task_type: Any, stage: str, *, count: int, shown: int, trace: Path | None
) -> None:
    """Profiles a training stage of this folder and prints what its time is spent on.

    Args:
        task_type: the task of the stage's module.
        stage: its name in dvc.yaml.
        count: how many steps are timed, and then how many are profiled.
        shown: how many operators to print.
        trace: a file for the whole trace, which chrome://tracing and Perfetto show.

    Raises:
        UserError: params are not valid, or what the stage reads is not there.
    """
    section = getattr(load_params(Layout().params), stage.removeprefix("train_"))
    enough = max(1 + WARM_UP + 2 * count, section.train_steps)
    section = section.model_copy(update={"train_steps": enough})
    machine = open_machine(section.precision)
    task, accelerator = task_type.of(Layout(), section, machine), machine.accelerator
    model = task.new_model()
    steps = Training(model, task.loss, section, stage=stage, accelerator=accelerator).steps()
    with FlopCounterMode(display=False) as counter:
        next(steps)
    run_steps(steps, WARM_UP, machine.device)
    seconds = run_steps(steps, count, machine.device) / count
    with profile() as profiler:
        run_steps(steps, count, machine.device)
    gflops = counter.get_total_flops() / 1e9
    typer.echo(
        f"{stage} on {machine.device}, {machine.precision}, {torch.get_num_threads()} threads: "
        f"{seconds * 1e3:.1f} ms a step, {gflops:.2f} GFLOP a step, {gflops / seconds:.0f} GFLOP/s"
    )
    by = "self_device_time_total" if machine.device == "cuda" else "self_cpu_time_total"
    typer.echo(profiler.key_averages().table(sort_by=by, row_limit=shown))
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
        typer.echo(f"{trace}: open it in chrome://tracing or Perfetto")


def run_steps(steps: Iterator[Any], count: int, device: str) -> float:
    """Returns the seconds that `count` steps take."""
    start = time.perf_counter()
    for _ in itertools.islice(steps, count):
        pass
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
