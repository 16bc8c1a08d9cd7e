"""The training loop: one for CLIP, prior, decoder and judge."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unclip.core.seeding import derive_seed
from unclip.training.ema import EMA
from unclip.training.share import Share

LossFunction = Callable[[nn.Module, int], Tensor]


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        step: 1 is the first.
        loss: of this step's whole batch, before the update; a scalar left on the device, because
            reading it would make the next step wait.
        grad_norm: of all gradients together, before clipping; likewise.
        lr: the learning rate that was used.
    """

    step: int
    loss: Tensor
    grad_norm: Tensor
    lr: float


def train(
    model: nn.Module,
    loss_function: LossFunction,
    optimizers: Sequence[Optimizer],
    learning_rate: Callable[[int], float],
    accelerator: Any,
    *,
    first_step: int = 0,
    train_steps: int,
    seed: int,
    purpose: str,
    grad_clip: float,
    ema: EMA | None = None,
) -> Iterator[Step]:
    """Yields a Step after each optimizer step and the EMA update that follows it.

    Every draw is a function of (seed, purpose, step), so a training goes on from any step, given
    the weights, EMA and optimizer that it had there.

    Args:
        model: in train mode, prepared by `accelerator` together with `optimizers`.
        loss_function: the loss of the batch of a step (0 is the first), a scalar; where several
            processes share it, their mean is.
        optimizers: of its parameters, each of which moves once a step.
        learning_rate: the rate of a step.
        accelerator: Hugging Face Accelerate's, for precision and backward.
        first_step: how many steps lie behind.
        train_steps: how many there are in all.
        seed: of dropout, together with `purpose` and the step.
        purpose: the stage.
        grad_clip: the largest norm of all gradients together.
        ema: follows the model after each step.
    """
    share = Share.of(accelerator)
    dropout = f"{purpose} dropout {share.index or ''}".rstrip()  # each process drops out for itself
    for index in range(first_step, train_steps):
        torch.manual_seed(derive_seed(seed, dropout, index))
        lr = learning_rate(index)
        for group in (group for each in optimizers for group in each.param_groups):
            group["lr"] = lr
        with accelerator.autocast():
            loss = loss_function(model, index)
        accelerator.backward(loss)
        grad_norm = accelerator.clip_grad_norm_(model.parameters(), grad_clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if ema is not None:
            ema.update(accelerator.unwrap_model(model))
        mean_loss = accelerator.reduce(loss.detach(), "mean")
        yield Step(index + 1, mean_loss, grad_norm.detach(), lr)
