"""What a training stage learns, and from what: the part that all of them share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from unclip.config.layout import MODEL_OF_STAGE, Layout
from unclip.core.artifacts import Artifact, file_hash, save_artifact, weights_hash
from unclip.core.device import Machine, to_device
from unclip.core.seeding import derive_seed
from unclip.data.prepared import Prepared, PreparedSplit
from unclip.training.batches import ShuffledBatches
from unclip.training.share import Share

Section = TypeVar("Section", bound=Any)


@dataclass(frozen=True)
class Task(ABC, Generic[Section]):
    """What a training stage learns, and from what.

    Attributes:
        stage: its name in dvc.yaml.
        network: the class of its network.
        data: the prepared data set.
        params: its section of params.yaml.
        machine: device and precision.
        config: the arguments of `network`.
        train: pictures to learn from.
        val: pictures that measure the loss.
    """

    stage: ClassVar[str]
    network: ClassVar[type[nn.Module]]

    data: Prepared
    params: Section
    machine: Machine
    config: dict[str, Any]
    train: PreparedSplit
    val: PreparedSplit

    @cached_property
    def batches(self) -> ShuffledBatches:
        """Returns which pictures each step learns from."""
        size, seed = self.params.batch_size, self.params.seed
        return ShuffledBatches(len(self.train), size, seed, self.stage)

    @cached_property
    def share(self) -> Share:
        """Returns which rows of a batch this process computes."""
        return Share.of(self.machine.accelerator)

    def new_model(self) -> nn.Module:
        """Returns the network with its first, seeded weights."""
        torch.manual_seed(derive_seed(self.params.seed, f"{self.stage} weights"))
        return self.network(**self.config)

    @abstractmethod
    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step, a scalar."""

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the figures of the validation split, "val_loss" among them."""

    def on_device(self, tensor: Tensor) -> Tensor:
        """Returns a tensor of the CPU on the device that trains."""
        return to_device(tensor, self.machine.device)

    def save(self, layout: Layout, weights: dict[str, Tensor], facts: dict[str, Any]) -> Artifact:
        """Writes the trained network with the hashes of its inputs, and returns it."""
        kind = MODEL_OF_STAGE[self.stage]
        inputs = {"data": file_hash(layout.prepared / "dataset.json")}
        if kind in ("prior", "decoder"):
            inputs["clip"] = weights_hash(layout.model("clip"))
        artifact = Artifact(kind, self.config, weights, facts, inputs)
        save_artifact(layout.model(kind), artifact)
        return artifact
