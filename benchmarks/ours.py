"""Our own work as it ships: a training step and painting. Each function runs in its process."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.turns import Work
from stages import train_clip, train_decoder, train_judge, train_prior
from unclip.api import UnCLIP
from unclip.config.layout import Layout
from unclip.core.device import open_machine, resolve_precision
from unclip.painting.settings import Settings
from unclip.params.loading import load_params
from unclip.training.loop import Training

TASKS: dict[str, Any] = {
    train_clip.STAGE: train_clip.ClipTask,
    train_prior.STAGE: train_prior.PriorTask,
    train_decoder.STAGE: train_decoder.DecoderTask,
    train_judge.STAGE: train_judge.JudgeTask,
}
ENDLESS = 10**7  # training steps; more than any benchmark takes
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def count_flops(run: Callable[[], object]) -> int:
    """Returns the floating-point operations of convolutions, matrix products and attention."""
    # torch counts the matrix products of plain attention, but no fused kernel of a processor.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return int(counter.get_total_flops())


def training(folder: Path, stage: str, **changes: Any) -> Work:
    """Returns the steps of a training stage, through the training loop that it uses.

    Args:
        folder: a workspace.
        stage: its name in dvc.yaml.
        changes: other values of the stage's section; one process knows one precision only.
    """
    layout = Layout(folder)
    section = getattr(load_params(layout.params), stage.removeprefix("train_"))
    section = section.model_copy(update={"train_steps": ENDLESS} | changes)
    machine = open_machine(section.precision)
    task = TASKS[stage].of(layout, section, machine)
    model = task.new_model()
    steps = Training(
        model, task.loss, section, stage=stage, accelerator=machine.accelerator
    ).steps()
    facts = {
        "pictures": section.batch_size,
        "flops": count_flops(lambda: next(steps)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": machine.precision,
    }

    def run(count: int) -> None:
        for _ in itertools.islice(steps, count):
            pass

    return Work(run, facts)


def painting(folder: Path, num: int) -> Work:
    """Returns the painting of `num` pictures from their captions, at the shipped settings."""
    unclip = UnCLIP.load(folder)
    sample = unclip.defaults.sample
    captions = list(itertools.islice(itertools.cycle(unclip.system.prompts), num))

    def run(count: int) -> None:
        for _ in range(count):
            unclip.sample(captions, 1)

    precision = resolve_precision(sample.precision, unclip.system.device)
    return Work(run, {"pictures": num, "steps": sample.steps, "precision": precision})


def decoding(folder: Path, num: int, steps: int) -> Work:
    """Returns the painting of `num` pictures at once from embeddings, by the shipped sampler."""
    unclip = UnCLIP.load(folder)
    system = unclip.system
    settings = Settings.of(unclip.defaults.sample, system.device)
    solver = replace(settings.decoder, steps=steps)
    settings = replace(settings, decoder=solver, batch_size=num)
    embeds = F.normalize(torch.randn(num, system.embed_mean.numel()), dim=-1)

    def run(count: int) -> None:
        for _ in range(count):
            system.decode(embeds, None, range(num), settings)

    return Work(run, {"pictures": num, "steps": steps, "precision": settings.precision})


def matrix_product(size: int, precision: str, device: str) -> Work:
    """Returns the product of two square matrices: the most that a machine can do.

    Args:
        size: rows and columns.
        precision: "bf16" or "fp32".
        device: where it computes.
    """
    left, right = torch.randn(2, size, size, device=device).to(DTYPES[precision])
    product = torch.empty_like(left)

    def run(count: int) -> None:
        for _ in range(count):
            torch.matmul(left, right, out=product)

    return Work(run, {"flops": 2 * size**3, "precision": precision})
