"""Trains the judge, a classifier that knows nothing of CLIP or diffusion and measures pictures.

It learns the attributes of the pictures. If a data set has none, it learns instead which way up
they are (Gidaris et al. 2018, "Unsupervised representation learning by predicting image rotations",
arXiv:1803.07728): for that it must see what they show, and the Fréchet distance and its like are
measured in its features. There is then no accuracy to report.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.config.layout import Layout
from unclip.core.artifacts import build, write_metrics
from unclip.core.device import Machine, open_machine
from unclip.core.seeding import generator
from unclip.data.prepared import Prepared
from unclip.evaluation.judging import accuracies, judge_pictures
from unclip.models.judge import Judge
from unclip.params.sections import JudgeParams
from unclip.running.stage import main
from unclip.training.augment import augment
from unclip.training.run import trained
from unclip.training.task import Task

STAGE = "train_judge"
TURNS = 4  # quarters of a circle


def run(layout: Layout, judge: JudgeParams) -> None:
    """Writes models/judge, metrics and history."""
    task = JudgeTask.of(layout, judge, open_machine(judge.precision))
    data, device = task.data, task.machine.device
    with trained(task, layout) as (fitted, log):
        artifact = task.save(layout, fitted.weights, {"mean": data.mean, "std": data.std})
        model = build(artifact, Judge, layout.model("judge")).to(device)
        figures = test_figures(model, data, device)
        write_metrics(layout.metrics(STAGE), fitted.metrics | figures)
        log.log_metrics(judge.train_steps, figures)


def test_figures(model: Judge, data: Prepared, device: str) -> dict[str, float]:
    """Returns the accuracies on the test pictures; none if they have no attributes."""
    if not data.attribute_names:
        return {}
    test = data.split("test")
    verdict = judge_pictures(model, data, test.images, device)
    real = accuracies(verdict.predictions, test.attributes, data.attribute_names)
    return {f"test_{name}": value for name, value in real.items()}


@dataclass(frozen=True)
class JudgeTask(Task[JudgeParams]):
    """What the judge learns from: pictures and their attributes, never captions.

    The built-in set has pictures for it alone, drawn separately and with all pairs.
    """

    stage = STAGE
    network = Judge

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
        return cls(data, judge, machine, config, train, val)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step, on augmented pictures."""
        params, index = self.params, self.batches(step)
        draws = generator(params.seed, f"{STAGE} augmentation", step)
        flip = params.flip and self.data.allow_flip
        images = self.train.gather(index)
        images = augment(images, draws, flip=flip, crop_padding=params.crop_padding)
        attributes = self.train.attributes[index]
        if not self.data.attribute_names:
            images, attributes = turned(images, draws)
        logits = model(self.data.normalisation.normalise(self.on_device(images)))
        return attribute_loss(logits, self.on_device(attributes))

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns loss and accuracy on validation pictures, of their attributes or their turns."""
        assert isinstance(model, Judge)
        images, attributes, name = self.val.images, self.val.attributes, "joint"
        if not self.data.attribute_names:
            draws = generator(self.params.seed, f"{STAGE} validation")
            pictures, attributes = turned(torch.from_numpy(np.array(images)), draws)
            images, name = pictures.numpy(), "turn"
        verdict = judge_pictures(model, self.data, images, self.machine.device)
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
        # If no picture of the batch has the attribute, the mean would be 0 / 0.
        losses.append(total / (target != -1).sum().clamp(min=1))
    return torch.stack(losses).sum()


def turned(images: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns square pictures (B, C, H, H), each turned at random, and quarters (B, 1) int64."""
    turns = torch.randint(TURNS, (len(images),), generator=draws)
    found = images.clone()
    for turn in range(1, TURNS):
        rows = turns == turn
        found[rows] = images[rows].rot90(turn, dims=(2, 3))
    return found, turns[:, None]


if __name__ == "__main__":
    main(STAGE, run)
