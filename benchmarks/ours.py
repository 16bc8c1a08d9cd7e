"""Our own work as it ships: a training step, painting, judging. Each function runs in a Worker."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.flops import count_flops
from benchmarks.worker import Work
from stages import train_clip, train_decoder, train_judge, train_prior
from unclip.commands.profile import profile_training
from unclip.config.layout import Layout
from unclip.core.artifacts import build, load_artifact
from unclip.core.device import Machine, open_machine
from unclip.data.prepared import Prepared
from unclip.evaluation import judging
from unclip.models.judge import Judge
from unclip.painting.system import Settings, System
from unclip.params.loading import load_params
from unclip.training.updates import Training

TASKS: dict[str, Any] = {
    module.STAGE: module.Task for module in (train_clip, train_prior, train_decoder, train_judge)
}
ENDLESS = 10**7  # training steps; more than any benchmark takes
SHOWN_OPERATORS = 12


def training(folder: Path, stage: str, precision: str, **changes: Any) -> Work:
    """Returns the steps of a training stage, through the training loop that it uses.

    Args:
        folder: a workspace.
        stage: its name in dvc.yaml.
        precision: "auto", "fp32" or "bf16"; one process knows only one.
        changes: other values of the stage's section.
    """
    section, steps, model, machine = _start(folder, stage, precision, **changes)
    flops = count_flops(lambda: next(steps))

    def run(count: int) -> None:
        for _ in itertools.islice(steps, count):
            pass

    facts = {
        "pictures": section.batch_size,
        "flops": flops,
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": machine.precision,
        "device": machine.device,
    }
    return Work(run, facts)


def operators(folder: Path, stage: str, precision: str, count: int) -> Work:
    """Returns no work, but as facts the dearest operators of `count` training steps."""
    _, steps, _, machine = _start(folder, stage, precision)
    found = profile_training(steps, machine.device, count=count)
    rows: list[dict[str, Any]] = [
        {"operator": o.name, "seconds": o.seconds, "calls": o.calls}
        for o in found.operators[:SHOWN_OPERATORS]
    ]
    rest = sum(o.seconds for o in found.operators[SHOWN_OPERATORS:])
    rows.append({"operator": "other operators", "seconds": rest})
    outside = found.outside * found.profiled_seconds
    rows.append({"operator": "outside of operators", "seconds": outside})
    shares = [row | {"share": row["seconds"] / found.profiled_seconds} for row in rows]
    return Work(lambda count: None, {"operators": shares})


def _start(
    folder: Path, stage: str, precision: str, **changes: Any
) -> tuple[Any, Any, Any, Machine]:
    """Returns params, steps, network and machine of a training that has not yet begun."""
    layout = Layout(folder)
    section = getattr(load_params(layout.params), stage.removeprefix("train_"))
    update = {"train_steps": ENDLESS, "precision": precision} | changes
    section = section.model_copy(update=update)
    machine = open_machine(section.precision)
    task = TASKS[stage].of(layout, section, machine)
    model = task.new_model()
    training = Training.start(
        model,
        task.loss,
        section,
        stage=stage,
        accelerator=machine.accelerator,
        ema_decay=getattr(section, "ema_decay", None),
    )
    return section, training.steps(0), model, machine


def painting(folder: Path, batch_size: int, steps: int) -> Work:
    """Returns the painting of batches by the decoder, from embeddings to uint8 pictures.

    Args:
        folder: a workspace.
        batch_size: pictures of a batch.
        steps: of the shipped sampler.
    """
    params = load_params(Layout(folder).params).sample
    machine = open_machine(params.precision)
    system = System.load(Layout(folder).models, machine.device)
    settings = Settings.of(params)
    decoder = replace(settings.decoder, steps=steps)
    settings = replace(settings, decoder=decoder, batch_size=batch_size)
    embeds = F.normalize(torch.randn(batch_size, system.embed_dim), dim=-1)
    prompts, seeds = _prompts(system, batch_size), range(batch_size)

    def run(count: int) -> None:
        for _ in range(count):
            with machine.accelerator.autocast():
                system.decode(embeds, prompts, seeds, decoder, batch_size)

    facts = {"precision": machine.precision, "device": machine.device}
    return Work(run, facts | {"pictures": batch_size, "steps": steps})


def whole_pictures(folder: Path, count_of_pictures: int) -> Work:
    """Returns the painting of pictures from their captions, at the shipped settings."""
    params = load_params(Layout(folder).params).sample
    machine = open_machine(params.precision)
    system = System.load(Layout(folder).models, machine.device)
    settings = Settings.of(params)
    prompts = _prompts(system, count_of_pictures)

    def run(count: int) -> None:
        for _ in range(count):
            with machine.accelerator.autocast():
                system.paint(prompts, range(count_of_pictures), settings)

    facts = {"pictures": count_of_pictures, "steps": params.steps, "precision": machine.precision}
    return Work(run, facts)


def judging_batches(folder: Path, batch_size: int, count_of_pictures: int) -> Work:
    """Returns the judging of noise pictures in batches, by `judge_pictures`."""
    layout = Layout(folder)
    machine = open_machine("fp32")
    where = layout.model("judge")
    judge = build(load_artifact(where, "judge"), Judge, where).to(machine.device)
    assert isinstance(judge, Judge)
    data = Prepared(layout.prepared)
    shape = (count_of_pictures, data.channels, data.image_size, data.image_size)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def run(count: int) -> None:
        for _ in range(count):
            judging.BATCH = batch_size  # set for each turn: works of one process share it
            judging.judge_pictures(judge, data, pictures, machine.device)

    return Work(run, {"pictures": count_of_pictures, "batch_size": batch_size})


def _prompts(system: System, count: int) -> list[str]:
    return list(itertools.islice(itertools.cycle(system.prompts), count))
