"""What the judge says of pictures, real or painted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unclip.data.prepared import Prepared
from unclip.models.judge import Judge

BATCH = 125  # pictures; changes speed and memory only


@dataclass(frozen=True)
class Verdict:
    """What the judge says of N pictures, on the CPU.

    Attributes:
        features: (N, F) float32, the input of its last layers.
        logits: for each of A attributes (N, number of its values).
    """

    features: Tensor
    logits: list[Tensor]

    @property
    def predictions(self) -> Tensor:
        """Returns the likeliest value of each attribute, (N, A) int64."""
        return torch.stack([logit.argmax(dim=1) for logit in self.logits], dim=1)


@torch.inference_mode()
def judge_pictures(
    model: Judge, data: Prepared, images: npt.NDArray[np.uint8], device: str
) -> Verdict:
    """Returns the verdict on pictures (N, C, H, W) uint8, an array or a memory map."""
    features, logits = [], []
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.array(images[start : start + BATCH]))
        found = model.features(data.normalisation.normalise(batch.to(device)))
        features.append(found.float().cpu())
        logits.append([logit.float().cpu() for logit in (head(found) for head in model.heads)])
    return Verdict(torch.cat(features), [torch.cat(each) for each in zip(*logits, strict=True)])


def is_right(predictions: Tensor, wanted: Tensor) -> Tensor:
    """Returns which answers are right, (N, A) bool; arguments as in `accuracies`."""
    assert predictions.shape == wanted.shape, (predictions.shape, wanted.shape)
    return (predictions == wanted) | (wanted == -1)


def accuracies(predictions: Tensor, wanted: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Returns the accuracy of each attribute and the joint one.

    Args:
        predictions: (N, A) int64.
        wanted: (N, A), whole numbers; -1 is not stated, so that any answer is right.
        names: A names of attributes.

    Returns:
        `joint_accuracy`, the share of pictures with every stated attribute right, and with several
        attributes `<name>_accuracy`, the share right among the pictures that state it.
    """
    right = is_right(predictions, wanted)
    figures = {"joint_accuracy": float(right.all(dim=1).float().mean())}
    if len(names) > 1:
        for i, name in enumerate(names):
            stated = wanted[:, i] != -1
            if stated.any():
                figures[f"{name}_accuracy"] = float(right[stated, i].float().mean())
    return figures
