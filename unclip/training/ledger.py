"""What a training records on the way: its curves, and the weights to keep."""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unclip.config.errors import not_finite
from unclip.core.files import replaced
from unclip.running.state import Snapshot, part_of
from unclip.training.loop import OptimizerStep


class MetricLog(Protocol):
    """Where figures go while a training runs: MLflow, or a test's list."""

    def log_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Records the figures of a step."""


@dataclass(frozen=True)
class Fitted:
    """The result of a training.

    Attributes:
        weights: the state dict to keep.
        kept_step: the step that it comes from.
        metrics: its validation figures.
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
        with (
            replaced(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {k: f"{v:.6g}" if k != "step" else v for k, v in row.items()} for row in self.rows
            )


@dataclass
class Ledger:
    """What a training has recorded so far.

    Attributes:
        stage: names it in errors.
        log: receives the figures as they come, if there is one.
        keeps_last: whether to keep the last weights instead of those of the lowest val_loss.
        history: the rows of the curves.
        recent: the steps since the last row.
        last: the last step.
        kept: the weights to keep so far.
        train_loss: of the last row.
    """

    stage: str
    log: MetricLog | None
    keeps_last: bool
    history: History = field(default_factory=History)
    recent: list[OptimizerStep] = field(default_factory=list)
    last: OptimizerStep | None = None
    kept: Fitted | None = None
    train_loss: float | None = None

    def add_step(self, step: OptimizerStep) -> None:
        """Records a step without reading its figures from the device."""
        self.recent.append(step)
        self.last = step

    def add_averages(self) -> None:
        """Records mean loss and gradient norm of the recent steps, and the last learning rate.

        Raises:
            UserError: one of them is not finite.
        """
        values = self.require_finite()
        step, lr = self.recent[-1].step, self.recent[-1].lr
        self.train_loss = sum(loss for loss, _ in values) / len(values)
        grad_norm = sum(norm for _, norm in values) / len(values)
        self.recent = []
        self._add(step, {"train_loss": self.train_loss, "grad_norm": grad_norm, "lr": lr})

    def add_validation(self, figures: dict[str, float], model: nn.Module) -> None:
        """Records the last step's validation figures, and its weights if they are to be kept.

        Raises:
            UserError: the validation loss is not finite.
        """
        assert self.last is not None, "nothing is trained yet"
        self._require_finite("validation loss", figures["val_loss"], self.last)
        self._add(self.last.step, figures)
        is_best = self.kept is None or figures["val_loss"] < self.kept.metrics["val_loss"]
        if self.keeps_last or is_best:
            weights = {k: tensor.detach().cpu().clone() for k, tensor in model.state_dict().items()}
            self.kept = Fitted(weights, self.last.step, figures)

    def require_finite(self) -> list[list[float]]:
        """Returns loss and gradient norm of the recent steps, for which it waits for the device.

        Raises:
            UserError: one of them is not finite; it names the first such step.
        """
        if not self.recent:
            return []
        device = self.recent[-1].loss.device  # those from a state are on the CPU
        pairs = [torch.stack((s.loss, s.grad_norm)).to(device) for s in self.recent]
        values = torch.stack(pairs).tolist()
        for step, (loss, norm) in zip(self.recent, values, strict=True):
            self._require_finite("loss", loss, step)
            self._require_finite("gradient norm", norm, step)
        return values

    def snapshot(self, step: int, tensors: dict[str, Tensor]) -> Snapshot:
        """Returns the training after a step, given the tensors of `Training`."""
        recent = [[s.step, float(s.loss), float(s.grad_norm), s.lr] for s in self.recent]
        facts: dict[str, Any] = {"rows": self.history.rows, "recent": recent}
        if self.kept is not None:
            tensors |= {f"kept/{name}": tensor for name, tensor in self.kept.weights.items()}
            facts |= {"kept_step": self.kept.kept_step, "metrics": self.kept.metrics}
        return Snapshot(step, tensors, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Restores what `snapshot` returned, and logs its rows anew."""
        facts = snapshot.facts
        self.history.rows = facts["rows"]
        self.recent = [
            OptimizerStep(step, torch.tensor(loss), torch.tensor(norm), lr)
            for step, loss, norm, lr in facts["recent"]
        ]
        if "kept_step" in facts:
            weights = part_of(snapshot.tensors, "kept")
            self.kept = Fitted(weights, facts["kept_step"], facts["metrics"])
        if self.log is not None:  # MLflow's run of these rows ended with its process
            for row in self.history.rows:
                figures = {k: v for k, v in row.items() if k != "step"}
                self.log.log_metrics(int(row["step"]), figures)

    def _add(self, step: int, figures: dict[str, float]) -> None:
        self.history.add(step, figures)
        if self.log is not None:
            self.log.log_metrics(step, figures)

    def _require_finite(self, name: str, value: float, at: OptimizerStep) -> None:
        if not math.isfinite(value):
            raise not_finite(self.stage, name, value, step=at.step, lr=at.lr)
