"""Figures about painted pictures. torchmetrics computes the distances; every one has its floor."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from unclip.seeding import derive_seed, generator


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

    The mean over all such pairs within a caption, then over captions.

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
    return float(torch.stack(cosines).mean())
