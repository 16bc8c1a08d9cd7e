"""Trains the judge, a classifier that knows nothing of CLIP or diffusion and measures pictures.

It learns the attributes of the pictures. Where a data set has none, it learns instead which way up
they are (Gidaris et al. 2018, "Unsupervised representation learning by predicting image rotations",
arXiv:1803.07728): to tell that it must see what they show, and its features are what the Fréchet
distance and its like are measured in. Of accuracy there is then nothing to say.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.config.layout import Layout
from unclip.core.artifacts import Artifact, build, file_hash, save_artifact, write_metrics
from unclip.core.device import Machine, open_machine, to_device
from unclip.core.seeding import derive_seed, generator
from unclip.data.prepared import Prepared, PreparedSplit
from unclip.evaluation.judging import accuracies, judge_pictures
from unclip.models.judge import Judge
from unclip.params.sections import JudgeParams
from unclip.running.stage import main
from unclip.training.augment import augment
from unclip.training.batches import ShuffledBatches
from unclip.training.run import trained

STAGE = "train_judge"
TURNS = 4  # quarters of a circle


def run(layout: Layout, judge: JudgeParams) -> None:
    """Writes models/judge, metrics and history."""
    machine = open_machine(judge.precision)
    task = JudgeTask.of(layout, judge, machine)
    data = task.data
    with trained(STAGE, task, judge, layout, machine) as (fitted, log):
        facts = {"mean": data.mean, "std": data.std}
        inputs = {"data": file_hash(layout.prepared / "dataset.json")}
        artifact = Artifact("judge", task.config, fitted.weights, facts, inputs)
        save_artifact(layout.model("judge"), artifact)
        model = build(artifact, Judge, layout.model("judge")).to(machine.device)
        assert isinstance(model, Judge)
        figures = test_figures(model, data, machine.device)
        write_metrics(layout.metrics(STAGE), fitted.metrics | figures)
        log.log_metrics(judge.train_steps, figures)


def test_figures(model: Judge, data: Prepared, device: str) -> dict[str, float]:
    """Returns the accuracies on the test pictures; none where they have no attributes."""
    if not data.attribute_names:
        return {}
    test = data.split("test")
    verdict = judge_pictures(model, data, test.images, device)
    real = accuracies(verdict.predictions, test.attributes, data.attribute_names)
    return {f"test_{name}": value for name, value in real.items()}


@dataclass(frozen=True)
class JudgeTask:
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
    def of(cls, layout: Layout, judge: JudgeParams, machine: Machine) -> "JudgeTask":
        """Returns the task of a workspace."""
        data = Prepared(layout.prepared)
        config = {
            "channels": judge.channels,
            "image_size": data.image_size,
            "in_channels": data.channels,
            "num_values": [len(values) for values in data.attribute_values] or [TURNS],
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
        draws = generator(self.judge.seed, f"{STAGE} augmentation", step)
        images = augment(
            self.train.gather(index),
            draws,
            flip=self.judge.flip and self.data.allow_flip,
            crop_padding=self.judge.crop_padding,
        )
        attributes = self.train.attributes[index]
        if not self.data.attribute_names:
            images, attributes = turned(images, draws)
        logits = model(self.data.normalisation.normalise(to_device(images, self.device)))
        return attribute_loss(logits, to_device(attributes, self.device))

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns loss and joint accuracy on the validation pictures, or that of their turns."""
        assert isinstance(model, Judge)
        images, attributes, name = self.val.images, self.val.attributes, "joint"
        if not self.data.attribute_names:
            draws = generator(self.judge.seed, f"{STAGE} validation")
            pictures, attributes = turned(torch.from_numpy(np.array(images)), draws)
            images, name = pictures.numpy(), "turn"
        verdict = judge_pictures(model, self.data, images, self.device)
        found = accuracies(verdict.predictions, attributes, self.data.attribute_names)
        loss = attribute_loss(verdict.logits, attributes)
        return {"val_loss": float(loss), f"val_{name}_accuracy": found["joint_accuracy"]}


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


def turned(images: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns square pictures (B, C, H, H), each turned, and by how many quarters, (B, 1) int64.

    Args:
        images: (B, C, H, H), any type.
        draws: on the CPU; the only source of randomness.
    """
    turns = torch.randint(TURNS, (len(images),), generator=draws)
    found = images.clone()
    for turn in range(1, TURNS):
        rows = turns == turn
        found[rows] = images[rows].rot90(turn, dims=(2, 3))
    return found, turns[:, None]


if __name__ == "__main__":
    main(STAGE, run)
