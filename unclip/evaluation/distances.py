"""Figures about painted pictures. torchmetrics computes the distances; every one has its floor."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from unclip.core.seeding import derive_seed, generator


class _Given(nn.Module):
    """Stands where torchmetrics has Inception: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Returns the Fréchet distance of two sets of features (Heusel et al. 2017, eq. 6).

    Args:
        features: (N, F).
        reference: (M, F).
    """
    metric = FrechetInceptionDistance(feature=_Given(features.shape[1])).set_dtype(torch.float64)
    metric.update(reference.double(), real=True)
    metric.update(features.double(), real=False)
    return float(metric.compute())


def kernel_distance(
    features: Tensor, reference: Tensor, *, subsets: int, subset_size: int, seed: int
) -> float:
    """Returns the kernel distance, KID's mean over subsets (Bińkowski et al. 2018, §4).

    Args:
        features: (N, F).
        reference: (M, F).
        subsets: how many pairs of subsets are compared.
        subset_size: at most N and M.
        seed: of the choice of subsets.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps all features in memory
        metric = KernelInceptionDistance(
            feature=_Given(features.shape[1]), subsets=subsets, subset_size=subset_size
        )
    metric.update(reference.double(), real=True)
    metric.update(features.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "kernel distance"))
        return float(metric.compute()[0])


@dataclass(frozen=True)
class RealSplit:
    """Real pictures, divided so that real can be held against real.

    Attributes:
        reference: indices that everything is compared with.
        floor: indices that are compared with them as if they were painted.
    """

    reference: Tensor
    floor: Tensor


def split_real(rows: Tensor, floor_size: int, seed: int) -> RealSplit:
    """Returns real pictures `rows` (M,), seeded, at most half of them as the floor."""
    order = rows[torch.randperm(len(rows), generator=generator(seed, "real against real"))]
    size = min(floor_size, len(rows) // 2)
    return RealSplit(reference=order[size:], floor=order[:size])


def paired_cosine(
    embeds: Tensor, captions: Tensor, real_embeds: Tensor, real_captions: Tensor
) -> float:
    """Returns the mean cosine of embeddings with those of real pictures of the same caption.

    The mean over all such pairs within a caption, then over captions; NaN where no caption has any.

    Args:
        embeds: (N, D), unit norm.
        captions: (N,) int64.
        real_embeds: (M, D), unit norm.
        real_captions: (M,) int64.
    """
    cosines = [
        embeds[captions == caption].mean(dim=0) @ real_embeds[real_captions == caption].mean(dim=0)
        for caption in captions.unique()
        if (real_captions == caption).any()
    ]
    return float(torch.stack(cosines).mean()) if cosines else math.nan


def binding(
    predictions: Tensor, wanted: Tensor, names: Sequence[str], values: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Returns whether pictures of several objects tie to each the attributes that are its own.

    Attributes called `<what>_1`, `<what>_2` and so on are those of the first object, the second, …

    Args:
        predictions: (N, A) int64.
        wanted: (N, A), whole numbers; -1 is not stated.
        names: A names of attributes.
        values: for each attribute the words for its values.

    Returns:
        `words_accuracy`, the share of pictures with the right values of each kind, the right
        colours and the right shapes, in whatever combination; `objects_accuracy`, the share with
        the right objects, wherever they stand; `binding_accuracy`, of those pictures with the right
        values in which they can be combined wrongly, the share with the right objects, for which
        two objects have a chance of 1/2. A figure of no pictures is left out, and all of them where
        the attributes are not of several objects, each with the same several attributes.
    """
    columns = _columns_of_objects(names, values)
    if columns is None:
        return {}
    is_stated = (wanted[:, columns] != -1).all(dim=2).all(dim=1)
    painted, asked = predictions[is_stated][:, columns], wanted[is_stated][:, columns]  # (n, M, K)
    if not len(asked):
        return {}
    is_spelt = (painted.sort(dim=1).values == asked.sort(dim=1).values).all(dim=2).all(dim=1)
    base = max(len(words) for words in values)
    is_bound = (_as_numbers(painted, base) == _as_numbers(asked, base)).all(dim=1)
    can_go_wrong = (asked != asked[:, :1]).any(dim=1).sum(dim=1) > 1
    figures = {
        "words_accuracy": float(is_spelt.float().mean()),
        "objects_accuracy": float(is_bound.float().mean()),
    }
    if (rows := is_spelt & can_go_wrong).any():
        figures["binding_accuracy"] = float(is_bound[rows].float().mean())
    return figures


def _columns_of_objects(names: Sequence[str], values: Sequence[Sequence[str]]) -> Tensor | None:
    """Returns which attributes are those of each object, (M, K), or None where there are none."""
    columns: dict[str, dict[str, int]] = {}
    for column, name in enumerate(names):
        kind, _, object = name.rpartition("_")
        if kind and object.isdecimal():
            columns.setdefault(object, {})[kind] = column
    if len(columns) < 2:
        return None
    first, *others = columns.values()
    is_alike = all(
        other.keys() == first.keys() and all(values[other[k]] == values[first[k]] for k in first)
        for other in others
    )
    if len(first) < 2 or not is_alike:
        return None
    return torch.tensor([[of_object[kind] for kind in first] for of_object in columns.values()])


def _as_numbers(objects: Tensor, base: int) -> Tensor:
    """Returns a number for each object (N, M, K), those of a picture in rising order, (N, M)."""
    places = base ** torch.arange(objects.shape[2])
    return (objects * places).sum(dim=2).sort(dim=1).values
