"""A whole training: its steps, and what is due after each."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from unclip.running.progress import progress
from unclip.running.state import Snapshot, TrainingState
from unclip.training.ledger import Fitted, Ledger, MetricLog
from unclip.training.loop import LossFunction, Step
from unclip.training.share import Share
from unclip.training.updates import Training, TrainingRecipe

ROWS_OF_HISTORY = 200  # about as many points as a plot can show


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


def fit(
    model: nn.Module,
    loss_function: LossFunction,
    validate: Callable[[nn.Module], dict[str, float]],
    recipe: TrainingRecipe,
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
    ledger = Ledger(stage, log, keeps_last=ema_decay is not None)
    leads = Share.of(accelerator).leads
    first_step = 0
    if snapshot := _as_the_first_has_it(state.load()):
        first_step = snapshot.step
        if leads:
            goes_on = f"{stage}: goes on from step {first_step} of {recipe.train_steps}"
            print(goes_on, file=sys.stderr)
        training.restore(snapshot.tensors)
        ledger.restore(snapshot)
        for hook in hooks:
            hook.go_on()
    between = _Between(training, ledger, state, hooks, recipe, validate, accelerator)
    with progress(stage, recipe.train_steps, done=first_step, shown=leads) as bar:
        for step in training.steps(first_step):
            ledger.recent.append(step)
            bar.advance(note=ledger.note)
            between.act_after(step)
    state.finish()
    if history_path is not None:
        ledger.history.write(history_path)
    assert ledger.kept is not None, "train_steps is at least 1"
    return ledger.kept


@dataclass(frozen=True)
class _Between:
    """What is done between two steps of a training, when it is due; arguments as of `fit`."""

    training: Training
    ledger: Ledger
    state: TrainingState
    hooks: tuple[Hook, ...]
    recipe: TrainingRecipe
    validate: Callable[[nn.Module], dict[str, float]]
    accelerator: Any

    def act_after(self, step: Step) -> None:
        """Does what is due after a step: a row of averages, a validation, hooks, a state."""
        training, ledger = self.training, self.ledger
        if self._is_due(max(1, self.recipe.train_steps // ROWS_OF_HISTORY), step):
            ledger.add_averages()
        if self._is_due(self.recipe.val_every, step):
            with torch.inference_mode(), self.accelerator.autocast():
                figures = self.validate(training.kept.eval())
            ledger.add_validation(step, figures, training.kept)
            training.model.train()
        for hook in self.hooks:
            if self._is_due(hook.interval, step):
                hook.act(step.step, training.kept.eval())
                training.model.train()
        if self.state.is_due() or step.step == self.recipe.train_steps:
            ledger.require_finite()
            self.state.save(ledger.snapshot(step.step, training.tensors()))

    def _is_due(self, interval: int, step: Step) -> bool:
        return step.step % interval == 0 or step.step == self.recipe.train_steps


def _as_the_first_has_it(snapshot: Snapshot | None) -> Snapshot | None:
    """Returns the first process's snapshot, which the others have not loaded."""
    found: Snapshot | None = broadcast_object_list([snapshot])[0]
    return found
