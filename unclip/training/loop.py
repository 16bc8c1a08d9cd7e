"""The training loop: one for CLIP, prior, decoder and judge."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from unclip.errors import UserError
from unclip.seeding import derive_seed

LossFunction = Callable[[nn.Module, int], Tensor]


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        step: 1 is the first.
        loss: of this step's batch, before the update.
        grad_norm: of all gradients together, before clipping.
        lr: the learning rate that was used.
    """

    step: int
    loss: float
    grad_norm: float
    lr: float


def train(
    model: nn.Module,
    loss_function: LossFunction,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    accelerator: Any,
    *,
    train_steps: int,
    seed: int,
    purpose: str,
    grad_clip: float,
    ema: AveragedModel | None = None,
) -> Iterator[Step]:
    """Yields a Step after each optimizer step and the EMA update that follows it.

    Args:
        model: in train mode, prepared by `accelerator` together with `optimizer`.
        loss_function: the loss of the batch of a step (0 is the first), a scalar.
        optimizer: updated once a step.
        scheduler: sets the learning rate of each step.
        accelerator: Hugging Face Accelerate's, for precision and backward.
        train_steps: how many steps.
        seed: of dropout, together with `purpose` and the step.
        purpose: the stage, which also names it in errors.
        grad_clip: the largest norm of all gradients together.
        ema: follows the model after each step.

    Raises:
        UserError: loss or gradient is not finite; it names the step.
    """
    for index in range(train_steps):
        torch.manual_seed(derive_seed(seed, f"{purpose} dropout", index))
        with accelerator.autocast():
            loss = loss_function(model, index)
        accelerator.backward(loss)
        grad_norm = accelerator.clip_grad_norm_(model.parameters(), grad_clip)
        lr = optimizer.param_groups[0]["lr"]
        result = Step(index + 1, float(loss.detach()), float(grad_norm), lr)
        require_finite("loss", result.loss, purpose, result)
        require_finite("gradient norm", result.grad_norm, purpose, result)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        if ema is not None:
            ema.update_parameters(accelerator.unwrap_model(model))
        yield result


def require_finite(name: str, value: float, stage: str, at: Step) -> None:
    """Stops a training whose numbers are lost, before they reach the weights."""
    if not math.isfinite(value):
        key = stage.removeprefix("train_")
        raise UserError(
            f"{stage}: {name} is {value} at step {at.step}, learning rate {at.lr:.3g}; "
            f"lower {key}.lr, raise {key}.warmup_steps, or set {key}.precision: fp32"
        )
