"""Trains the judge, a classifier that knows nothing of CLIP or diffusion and measures pictures."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.artifacts import Artifact, build, file_hash, save_artifact, write_metrics
from unclip.augment import augment
from unclip.data import Prepared, PreparedSplit
from unclip.judging import accuracies, judge_pictures
from unclip.layout import Layout
from unclip.machine import Machine, open_machine
from unclip.models.judge import Judge
from unclip.params import JudgeParams
from unclip.seeding import derive_seed, generator
from unclip.stage import main
from unclip.training.batches import ShuffledBatches
from unclip.training.run import trained

STAGE = "train_judge"


def run(layout: Layout, judge: JudgeParams) -> None:
    """Writes models/judge, metrics and history."""
    machine = open_machine(judge.precision)
    task = Task.of(layout, judge, machine)
    data = task.data
    with trained(STAGE, task, judge, layout, machine) as (fitted, log):
        facts = {"mean": data.mean, "std": data.std}
        inputs = {"data": file_hash(layout.prepared / "dataset.json")}
        artifact = Artifact("judge", task.config, fitted.weights, facts, inputs)
        save_artifact(layout.model("judge"), artifact)
        model = build(artifact, Judge, layout.model("judge")).to(machine.device)
        assert isinstance(model, Judge)
        test = data.split("test")
        verdict = judge_pictures(model, data, test.images, machine.device)
        real = accuracies(verdict.predictions, test.attributes, data.attribute_names)
        figures = {f"test_{name}": value for name, value in real.items()}
        write_metrics(layout.metrics(STAGE), fitted.metrics | figures)
        log.log_metrics(judge.train_steps, figures)


@dataclass(frozen=True)
class Task:
    """What the judge learns from: pictures and their attributes, never captions.

    Attributes:
        data: the prepared data set.
        judge: the params.
        device: where it computes.
        config: what the judge is built from.
        train: pictures to learn, on the built-in set drawn apart and with all pairs.
        val: pictures that choose the weights.
        batches: which pictures make a step.
    """

    data: Prepared
    judge: JudgeParams
    device: str
    config: dict[str, Any]
    train: PreparedSplit
    val: PreparedSplit
    batches: ShuffledBatches

    @classmethod
    def of(cls, layout: Layout, judge: JudgeParams, machine: Machine) -> "Task":
        """Returns the task of a workspace."""
        data = Prepared(layout.prepared)
        config = {
            "channels": judge.channels,
            "image_size": data.image_size,
            "in_channels": data.channels,
            "num_values": [len(values) for values in data.attribute_values],
        }
        train, val = data.split("judge"), data.split("val", judge.val_pictures)
        batches = ShuffledBatches(len(train), judge.batch_size, judge.seed, STAGE)
        return cls(data, judge, machine.device, config, train, val, batches)

    def new_model(self) -> Judge:
        """Returns the judge with its first, seeded weights."""
        torch.manual_seed(derive_seed(self.judge.seed, f"{STAGE} weights"))
        return Judge(**self.config)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step, on augmented pictures."""
        index = self.batches(step)
        images = augment(
            self.train.gather(index),
            generator(self.judge.seed, f"{STAGE} augmentation", step),
            flip=self.judge.flip and self.data.allow_flip,
            crop_padding=self.judge.crop_padding,
        )
        logits = model(self.data.normalise(images.to(self.device)))
        return attribute_loss(logits, self.train.attributes[index].to(self.device))

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns loss and joint accuracy on the validation pictures."""
        assert isinstance(model, Judge)
        verdict = judge_pictures(model, self.data, self.val.images, self.device)
        joint = accuracies(verdict.predictions, self.val.attributes, self.data.attribute_names)
        loss = attribute_loss(verdict.logits, self.val.attributes)
        return {"val_loss": float(loss), "val_joint_accuracy": joint["joint_accuracy"]}


def attribute_loss(logits: list[Tensor], attributes: Tensor) -> Tensor:
    """Returns the cross-entropy summed over attributes, a scalar.

    Args:
        logits: for each of A attributes (B, number of its values).
        attributes: (B, A), whole numbers; -1 is unknown and left out.
    """
    losses = []
    for logit, target in zip(logits, attributes.long().T, strict=True):
        total = F.cross_entropy(logit.float(), target, ignore_index=-1, reduction="sum")
        # Of an attribute that no picture of the batch has, the mean would be 0 / 0.
        losses.append(total / (target != -1).sum().clamp(min=1))
    return torch.stack(losses).sum()


if __name__ == "__main__":
    main(STAGE, run)
