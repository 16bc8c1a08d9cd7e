"""A whole training: steps, validation, curves, and which weights are kept."""

import csv
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unclip.progress import progress
from unclip.training.loop import LossFunction, Step, require_finite, train
from unclip.training.optim import make_ema, make_optimizer, make_scheduler

ROWS_OF_HISTORY = 200  # about as many points as a plot can show


class Recipe(Protocol):
    """The params that every training stage has; see params.yaml."""

    seed: int
    train_steps: int
    lr: float
    lr_min: float
    warmup_steps: int
    weight_decay: float
    grad_clip: float
    val_every: int


class MetricLog(Protocol):
    """Where figures go while training runs: MLflow, or nowhere."""

    def log_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Takes the figures of a step."""


@dataclass(frozen=True)
class Hook:
    """Something to do after every `interval` steps and after the last one.

    Attributes:
        interval: in steps.
        act: called with the step and the weights that would be kept (EMA where there is one).
    """

    interval: int
    act: Callable[[int, nn.Module], None]


@dataclass(frozen=True)
class Fitted:
    """What a training leaves.

    Attributes:
        weights: the state dict to keep.
        kept_step: the step that it comes from.
        metrics: the validation figures of the kept weights.
    """

    weights: dict[str, Tensor]
    kept_step: int
    metrics: dict[str, float]


@dataclass
class History:
    """The rows of a training's curves."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Adds figures to the row of a step."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step})
        self.rows[-1].update(figures)

    def write(self, path: Path) -> None:
        """Writes a CSV with a column for each figure, empty where a step has none."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if k != "step" else v for k, v in row.items()} for row in self.rows
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
        os.replace(temporary, path)


def fit(
    model: nn.Module,
    loss_function: LossFunction,
    validate: Callable[[nn.Module], dict[str, float]],
    recipe: Recipe,
    *,
    stage: str,
    accelerator: Any,
    log: MetricLog,
    history_path: Path,
    ema_decay: float | None = None,
    hooks: tuple[Hook, ...] = (),
) -> Fitted:
    """Returns the trained weights: with EMA its last ones, else those of the lowest val_loss.

    Args:
        model: moved to the device and trained in place.
        loss_function: (model, step) -> scalar loss; draws its batch and noise from the step alone.
        validate: model -> figures, with "val_loss" among them; always on the same data and noise.
        recipe: optimizer, rates and lengths.
        stage: names the training in progress, errors and draws.
        accelerator: Hugging Face Accelerate's.
        log: takes the figures as they come.
        history_path: where the curves are written.
        ema_decay: None trains without EMA.
        hooks: further work at intervals.

    Raises:
        UserError: loss, gradient or validation loss is not finite.
    """
    model.to(accelerator.device).train()
    optimizer = make_optimizer(model, recipe.lr, recipe.weight_decay)
    schedule = {k: getattr(recipe, k) for k in ("train_steps", "lr", "lr_min", "warmup_steps")}
    ema = None if ema_decay is None else make_ema(model, ema_decay)
    kept = ema.module if ema is not None else model
    prepared, prepared_optimizer = accelerator.prepare(model, optimizer)
    # Not prepared: Accelerate would step it once for each process.
    scheduler = make_scheduler(optimizer, **schedule)
    steps = train(
        prepared,
        loss_function,
        prepared_optimizer,
        scheduler,
        accelerator,
        train_steps=recipe.train_steps,
        seed=recipe.seed,
        purpose=stage,
        grad_clip=recipe.grad_clip,
        ema=ema,
    )
    history, best, recent = History(), None, []
    log_every = max(1, recipe.train_steps // ROWS_OF_HISTORY)

    def is_due(interval: int, step: int) -> bool:
        return step % interval == 0 or step == recipe.train_steps

    with progress(stage, recipe.train_steps) as bar:
        for result in steps:
            recent.append(result)
            bar.advance(note=f"loss {result.loss:.4f}")
            if is_due(log_every, result.step):
                _record(history, log, result.step, _averages(recent))
                recent = []
            if is_due(recipe.val_every, result.step):
                figures = _validated(kept, validate, accelerator)
                require_finite("validation loss", figures["val_loss"], stage, result)
                _record(history, log, result.step, figures)
                if (
                    ema is not None
                    or best is None
                    or figures["val_loss"] < best.metrics["val_loss"]
                ):
                    best = Fitted(_copy_of(kept), result.step, figures)
                model.train()
            for hook in hooks:
                if is_due(hook.interval, result.step):
                    hook.act(result.step, kept.eval())
                    model.train()
    history.write(history_path)
    assert best is not None, "train_steps is at least 1"
    return best


def _averages(steps: list[Step]) -> dict[str, float]:
    """Returns the mean loss and gradient norm of some steps, and the rate of the last."""
    return {
        "train_loss": sum(s.loss for s in steps) / len(steps),
        "grad_norm": sum(s.grad_norm for s in steps) / len(steps),
        "lr": steps[-1].lr,
    }


def _record(history: History, log: MetricLog, step: int, figures: dict[str, float]) -> None:
    history.add(step, figures)
    log.log_metrics(step, figures)


def _validated(
    model: nn.Module, validate: Callable[[nn.Module], dict[str, float]], accelerator: Any
) -> dict[str, float]:
    with torch.inference_mode(), accelerator.autocast():
        return validate(model.eval())


def _copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
