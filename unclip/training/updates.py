"""A network with what updates it: its steps, and the tensors that these depend on."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unclip.running.state import part_of
from unclip.training.ema import EMA
from unclip.training.loop import LossFunction, Step, train
from unclip.training.optim import lr_at, make_optimizers


class TrainingRecipe(Protocol):
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
    ema: EMA | None
    steps: Callable[[int], Iterator[Step]]

    @classmethod
    def start(
        cls,
        model: nn.Module,
        loss_function: LossFunction,
        recipe: TrainingRecipe,
        *,
        stage: str,
        accelerator: Any,
        ema_decay: float | None,
    ) -> "Training":
        """Returns a training that has not begun; arguments as of `fit`."""
        model.to(accelerator.device).train()
        optimizers = make_optimizers(
            model,
            recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            dtype=torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32,
        )
        ema = None if ema_decay is None else EMA(model, ema_decay)
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
        self.model.load_state_dict(part_of(tensors, "model"))
        if self.ema is not None:
            self.ema.load_state_dict(part_of(tensors, "ema"))
        for i, optimizer in enumerate(self.optimizers):
            described = optimizer.state_dict()
            places = [place for group in described["param_groups"] for place in group["params"]]
            moments = {place: part_of(tensors, f"optimizer.{i}.{place}") for place in places}
            optimizer.load_state_dict(described | {"state": moments})
