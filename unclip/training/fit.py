"""A whole training: steps, validation, curves, and which weights are kept."""

import csv
import functools
import io
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from unclip.errors import UserError
from unclip.progress import progress
from unclip.training.loop import LossFunction, Step, train
from unclip.training.optim import lr_at, make_ema, make_optimizers
from unclip.training.share import Share
from unclip.training.state import Snapshot, TrainingState

ROWS_OF_HISTORY = 200  # about as many points as a plot can show


class Recipe(Protocol):
    """The params that every training stage has; see params.yaml."""

    seed: int
    train_steps: int
    optimizer: str
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
        go_on: called where a training goes on that acted before it was interrupted.
    """

    interval: int
    act: Callable[[int, nn.Module], None]
    go_on: Callable[[], None] = lambda: None


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
    log: MetricLog | None,
    history_path: Path | None,
    ema_decay: float | None = None,
    hooks: tuple[Hook, ...] = (),
    state: TrainingState | None = None,
) -> Fitted:
    """Returns the trained weights: with EMA its last ones, else those of the lowest val_loss.

    A training that was interrupted goes on from its state, and ends in the same bytes. Where
    several processes share it, all end with the same weights; only the first is given what it
    writes to.

    Args:
        model: moved to the device and trained in place.
        loss_function: (model, step) -> scalar loss; draws its batch and noise from the step alone.
        validate: model -> figures, with "val_loss" among them; always on the same data and noise.
        recipe: optimizers, rates and lengths.
        stage: names the training in progress, errors and draws.
        accelerator: Hugging Face Accelerate's.
        log: takes the figures as they come; None forgets them.
        history_path: where the curves are written; None writes none.
        ema_decay: None trains without EMA.
        hooks: further work at intervals.
        state: where the training is kept while it lasts; None keeps nothing.

    Raises:
        UserError: loss, gradient or validation loss is not finite.
    """
    state = state or TrainingState(None)
    training = Training.start(
        model, loss_function, recipe, stage=stage, accelerator=accelerator, ema_decay=ema_decay
    )
    ledger, first_step, leads = Ledger(stage), 0, Share.of(accelerator).leads
    snapshot = _as_the_first_has_it(state.load())
    if snapshot is not None:
        first_step = snapshot.step
        training.restore(snapshot.tensors)
        ledger.restore(snapshot)
        if leads:
            goes_on = f"{stage}: goes on from step {first_step} of {recipe.train_steps}"
            print(goes_on, file=sys.stderr)
        if log is not None:  # the run that MLflow has of these rows ended with its process
            for row in ledger.history.rows:
                log.log_metrics(int(row["step"]), {k: v for k, v in row.items() if k != "step"})
        for hook in hooks:
            hook.go_on()
    log_every = max(1, recipe.train_steps // ROWS_OF_HISTORY)

    def is_due(interval: int, step: int) -> bool:
        return step % interval == 0 or step == recipe.train_steps

    def record(step: int, figures: dict[str, float]) -> None:
        ledger.history.add(step, figures)
        if log is not None:
            log.log_metrics(step, figures)

    with progress(stage, recipe.train_steps, done=first_step, shown=leads) as bar:
        for result in training.steps(first_step):
            ledger.recent.append(result)
            bar.advance(note=ledger.note)
            if is_due(log_every, result.step):
                record(result.step, ledger.take_averages())
            if is_due(recipe.val_every, result.step):
                figures = _validated(training.kept, validate, accelerator)
                _require_finite("validation loss", figures["val_loss"], stage, result)
                record(result.step, figures)
                best = ledger.best
                is_best = best is None or figures["val_loss"] < best.metrics["val_loss"]
                if ema_decay is not None or is_best:
                    ledger.best = Fitted(_copy_of(training.kept), result.step, figures)
                model.train()
            for hook in hooks:
                if is_due(hook.interval, result.step):
                    hook.act(result.step, training.kept.eval())
                    model.train()
            if state.is_due() or result.step == recipe.train_steps:
                ledger.require_finite()
                state.save(ledger.snapshot(result.step, training.tensors()))
    state.finish()
    if history_path is not None:
        ledger.history.write(history_path)
    assert ledger.best is not None, "train_steps is at least 1"
    return ledger.best


@dataclass(frozen=True)
class Training:
    """A network, what updates it, and the steps that do.

    Attributes:
        model: the network.
        optimizers: of its parameters, each of one part.
        ema: follows the model, if there is one.
        steps: first step -> the steps from there on, to be iterated.
    """

    model: nn.Module
    optimizers: list[Optimizer]
    ema: AveragedModel | None
    steps: Callable[[int], Iterator[Step]]

    @classmethod
    def start(
        cls,
        model: nn.Module,
        loss_function: LossFunction,
        recipe: Recipe,
        *,
        stage: str,
        accelerator: Any,
        ema_decay: float | None,
    ) -> "Training":
        """Returns a training that has not begun; arguments as in `fit`."""
        model.to(accelerator.device).train()
        optimizers = make_optimizers(
            model,
            recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            dtype=torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32,
        )
        ema = None if ema_decay is None else make_ema(model, ema_decay)
        prepared, *prepared_optimizers = accelerator.prepare(model, *optimizers)
        rates = {k: getattr(recipe, k) for k in ("train_steps", "lr", "lr_min", "warmup_steps")}

        def steps(first_step: int) -> Iterator[Step]:
            return train(
                prepared,
                loss_function,
                prepared_optimizers,
                functools.partial(lr_at, **rates),
                accelerator,
                first_step=first_step,
                train_steps=recipe.train_steps,
                seed=recipe.seed,
                purpose=stage,
                grad_clip=recipe.grad_clip,
                ema=ema,
            )

        return cls(model, optimizers, ema, steps)

    @property
    def kept(self) -> nn.Module:
        """Returns the network whose weights are kept: the EMA where there is one."""
        return self.model if self.ema is None else self.ema.module

    def tensors(self) -> dict[str, Tensor]:
        """Returns all tensors that the next step depends on."""
        parts = {"model": self.model.state_dict()}
        if self.ema is not None:
            parts["ema"] = self.ema.state_dict()
        for i, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                parts[f"optimizer.{i}.{index}"] = values
        return {
            f"{part}/{name}": tensor
            for part, each in parts.items()
            for name, tensor in each.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `tensors` gave."""
        self.model.load_state_dict(_part(tensors, "model"))
        if self.ema is not None:
            self.ema.load_state_dict(_part(tensors, "ema"))
        for i, optimizer in enumerate(self.optimizers):
            described = optimizer.state_dict()
            places = [place for group in described["param_groups"] for place in group["params"]]
            moments = {place: _part(tensors, f"optimizer.{i}.{place}") for place in places}
            optimizer.load_state_dict(described | {"state": moments})


@dataclass
class Ledger:
    """What a training has noted so far.

    Attributes:
        stage: names it in errors.
        history: the rows of the curves.
        recent: the steps since the last row.
        best: the weights to keep, as far as is known.
        note: the loss of the last row, to be shown.
    """

    stage: str
    history: History = field(default_factory=History)
    recent: list[Step] = field(default_factory=list)
    best: Fitted | None = None
    note: str = ""

    def take_averages(self) -> dict[str, float]:
        """Returns the mean loss and gradient norm of the recent steps, and the rate of the last.

        Raises:
            UserError: one of them is not finite.
        """
        values = self.require_finite()
        figures = {
            "train_loss": sum(loss for loss, _ in values) / len(values),
            "grad_norm": sum(norm for _, norm in values) / len(values),
            "lr": self.recent[-1].lr,
        }
        self.recent, self.note = [], f"loss {figures['train_loss']:.4f}"
        return figures

    def require_finite(self) -> list[list[float]]:
        """Returns loss and gradient norm of the recent steps, which takes a wait for the device.

        Raises:
            UserError: one of them is not finite; it names the first such step.
        """
        if not self.recent:
            return []
        values = torch.stack([torch.stack((s.loss, s.grad_norm)) for s in self.recent]).tolist()
        for step, (loss, norm) in zip(self.recent, values, strict=True):
            _require_finite("loss", loss, self.stage, step)
            _require_finite("gradient norm", norm, self.stage, step)
        return values

    def snapshot(self, step: int, tensors: dict[str, Tensor]) -> Snapshot:
        """Returns the training as it is after a step, given the tensors of `Training`."""
        recent = [[s.step, float(s.loss), float(s.grad_norm), s.lr] for s in self.recent]
        facts: dict[str, Any] = {"rows": self.history.rows, "recent": recent}
        if self.best is not None:
            tensors |= {f"best/{name}": tensor for name, tensor in self.best.weights.items()}
            facts |= {"kept_step": self.best.kept_step, "metrics": self.best.metrics}
        return Snapshot(step, tensors, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Takes over what `snapshot` gave."""
        facts = snapshot.facts
        self.history.rows = facts["rows"]
        self.recent = [
            Step(step, torch.tensor(loss), torch.tensor(norm), lr)
            for step, loss, norm, lr in facts["recent"]
        ]
        if "kept_step" in facts:
            weights = _part(snapshot.tensors, "best")
            self.best = Fitted(weights, facts["kept_step"], facts["metrics"])


def _as_the_first_has_it(snapshot: Snapshot | None) -> Snapshot | None:
    """Returns the first process's snapshot, which the others have not loaded."""
    found: Snapshot | None = broadcast_object_list([snapshot])[0]
    return found


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _require_finite(name: str, value: float, stage: str, at: Step) -> None:
    """Stops a training whose numbers are lost, before it writes anything."""
    if not math.isfinite(value):
        key = stage.removeprefix("train_")
        raise UserError(
            f"{stage}: {name} is {value} at step {at.step}, learning rate {at.lr:.3g}; "
            f"lower {key}.lr, raise {key}.warmup_steps, or set {key}.precision: fp32"
        )


def _validated(
    model: nn.Module, validate: Callable[[nn.Module], dict[str, float]], accelerator: Any
) -> dict[str, float]:
    with torch.inference_mode(), accelerator.autocast():
        return validate(model.eval())


def _copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
