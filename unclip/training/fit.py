"""A whole training: its steps, and what is due after each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from unclip.running.progress import progress
from unclip.running.state import TrainingState
from unclip.training.ledger import Fitted, Ledger, MetricLog
from unclip.training.loop import Hyperparameters, LossFunction, Training
from unclip.training.share import Share

ROWS_OF_HISTORY = 200  # about as many points as a plot can show


@dataclass(frozen=True)
class Hook:
    """Something to do after every `interval` steps and after the last one.

    Attributes:
        interval: in steps.
        act: called with the step and the network that would be kept (EMA where there is one).
        go_on: called when a training is resumed.
    """

    interval: int
    act: Callable[[int, nn.Module], None]
    go_on: Callable[[], None] = lambda: None


def fit(
    model: nn.Module,
    loss_function: LossFunction,
    validate: Callable[[nn.Module], dict[str, float]],
    params: Hyperparameters,
    *,
    stage: str,
    accelerator: Any,
    log: MetricLog | None,
    history_path: Path | None,
    hooks: tuple[Hook, ...] = (),
    state: TrainingState | None = None,
) -> Fitted:
    """Returns the trained weights: with EMA its last ones, else those of the lowest val_loss.

    An interrupted training resumes from its state and ends in the same bytes. Processes that
    share it end with the same weights, and only the first is given anything to write to.

    Args:
        model: moved to the device and trained in place.
        loss_function: (model, step) -> scalar loss; draws its batch and noise from the step alone.
        validate: model -> figures, "val_loss" among them; always on the same data and noise.
        params: optimizers, rates and lengths.
        stage: names the training in progress, errors and draws.
        accelerator: Hugging Face Accelerate's.
        log: receives the figures as they come.
        history_path: where the curves are written.
        hooks: further work at intervals.
        state: where the training is kept while it lasts.

    Raises:
        UserError: loss, gradient or validation loss is not finite.
    """
    state = state or TrainingState(None)
    training = Training(model, loss_function, params, stage=stage, accelerator=accelerator)
    ledger = Ledger(stage, log, keeps_last=training.ema is not None)
    first_step = _restore(state, training, ledger, hooks)

    hooks = (*_figure_hooks(ledger, validate, params, accelerator), *hooks)
    is_shown = Share.of(accelerator).leads
    with progress(stage, params.train_steps, done=first_step, shown=is_shown) as bar:
        for step in training.steps(first_step):
            ledger.add_step(step)
            bar.advance(loss=ledger.train_loss)
            is_last = step.step == params.train_steps
            for hook in hooks:
                if is_last or step.step % hook.interval == 0:
                    hook.act(step.step, training.kept.eval())
                    training.model.train()
            if is_last or state.is_due():
                ledger.require_finite()
                state.save(ledger.snapshot(step.step, training.tensors()))
    state.finish()
    if history_path is not None:
        ledger.history.write(history_path)
    assert ledger.kept is not None, "train_steps is at least 1"
    return ledger.kept


def _figure_hooks(
    ledger: Ledger,
    validate: Callable[[nn.Module], dict[str, float]],
    params: Hyperparameters,
    accelerator: Any,
) -> tuple[Hook, Hook]:
    """Returns what records the training's averages and its validation figures."""

    def validate_kept(_: int, kept: nn.Module) -> None:
        with torch.inference_mode(), accelerator.autocast():
            figures = validate(kept)
        ledger.add_validation(figures, kept)

    every_row = max(1, params.train_steps // ROWS_OF_HISTORY)
    averages = Hook(every_row, lambda *_: ledger.add_averages())
    return averages, Hook(params.val_every, validate_kept)


def _restore(
    state: TrainingState, training: Training, ledger: Ledger, hooks: tuple[Hook, ...]
) -> int:
    """Brings training and ledger to where the state stopped; returns the number of steps done."""
    # The first process's snapshot: the others have not loaded it.
    (snapshot,) = broadcast_object_list([state.load()])
    if snapshot is None:
        return 0
    training.restore(snapshot.tensors)
    ledger.restore(snapshot)
    for hook in hooks:
        hook.go_on()
    return int(snapshot.step)
