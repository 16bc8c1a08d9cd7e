"""The training loop: one for CLIP, prior, decoder and judge."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unclip.core.seeding import derive_seed
from unclip.running.state import part_of
from unclip.training.ema import EMA
from unclip.training.optim import lr_at, make_optimizers
from unclip.training.share import Share

LossFunction = Callable[[nn.Module, int], Tensor]


class Hyperparameters(Protocol):
    """The params of every training; see params.yaml. Those with EMA also have `ema_decay`."""

    seed: int
    train_steps: int
    optimizer: str
    lr: float
    lr_min: float
    warmup_steps: int
    weight_decay: float
    grad_clip: float
    val_every: int


@dataclass(frozen=True)
class OptimizerStep:
    """What one optimizer step did.

    Attributes:
        step: 1 is the first.
        loss: of the whole batch before the update; a scalar left on the device, because reading it
            would make the next step wait.
        grad_norm: of all gradients together, before clipping; likewise on the device.
        lr: the learning rate.
    """

    step: int
    loss: Tensor
    grad_norm: Tensor
    lr: float


class Training:
    """A network and what updates it.

    Every draw is a function of (seed, stage, step), so a training can resume at any step, given the
    tensors that it had there.

    Args:
        model: moved to the device and trained in place.
        loss_function: (model, step) -> scalar loss, step 0 first; its mean over all processes
            counts.
        params: optimizers, rates and lengths.
        stage: names the draws of dropout.
        accelerator: Hugging Face Accelerate's, for precision and backward.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_function: LossFunction,
        params: Hyperparameters,
        *,
        stage: str,
        accelerator: Any,
    ) -> None:
        self.model = model.to(accelerator.device).train()
        self.loss_function, self.params = loss_function, params
        self.stage, self.accelerator = stage, accelerator
        self.optimizers = make_optimizers(
            model,
            params.optimizer,
            lr=params.lr,
            weight_decay=params.weight_decay,
            dtype=torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32,
        )
        ema_decay = getattr(params, "ema_decay", None)
        self.ema = None if ema_decay is None else EMA(model, ema_decay)
        self._prepared, *self._prepared_optimizers = accelerator.prepare(model, *self.optimizers)

    @property
    def kept(self) -> nn.Module:
        """Returns the network whose weights are kept: the EMA where there is one."""
        return self.model if self.ema is None else self.ema.module

    def steps(self, first_step: int = 0) -> Iterator[OptimizerStep]:
        """Yields an OptimizerStep after each optimizer step and the EMA update that follows it."""
        params, share = self.params, Share.of(self.accelerator)
        # Each process has its own dropout.
        dropout = f"{self.stage} dropout {share.index or ''}".rstrip()
        for index in range(first_step, params.train_steps):
            torch.manual_seed(derive_seed(params.seed, dropout, index))
            lr = lr_at(
                index,
                train_steps=params.train_steps,
                lr=params.lr,
                lr_min=params.lr_min,
                warmup_steps=params.warmup_steps,
            )
            yield self._step(index, lr)

    def _step(self, index: int, lr: float) -> OptimizerStep:
        model, accelerator = self._prepared, self.accelerator
        with accelerator.autocast():
            loss = self.loss_function(model, index)
        accelerator.backward(loss)
        grad_norm = accelerator.clip_grad_norm_(model.parameters(), self.params.grad_clip)
        for optimizer in self._prepared_optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.model)
        return OptimizerStep(
            index + 1, accelerator.reduce(loss.detach(), "mean"), grad_norm.detach(), lr
        )

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
        """Restores what `tensors` returned."""
        self.model.load_state_dict(part_of(tensors, "model"))
        if self.ema is not None:
            self.ema.load_state_dict(part_of(tensors, "ema"))
        for i, optimizer in enumerate(self.optimizers):
            described = optimizer.state_dict()
            places = [place for group in described["param_groups"] for place in group["params"]]
            moments = {place: part_of(tensors, f"optimizer.{i}.{place}") for place in places}
            optimizer.load_state_dict(described | {"state": moments})
