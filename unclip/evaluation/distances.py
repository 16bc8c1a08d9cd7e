"""Distances of painted pictures from real ones, in the judge's features or CLIP's embeddings."""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from unclip.core.seeding import derive_seed, generator


@dataclass(frozen=True)
class FrechetReference:
    """Real features, prepared for the Fréchet distance of many sets (Heusel et al. 2017, eq. 6).

    The trace of (S1 · S2)^½ needs the eigenvalues of S1 · S2, which are those of the symmetric
    S1^½ · S2 · S1^½; S1^½ is computed once.

    Attributes:
        mean: (F,) float64.
        root: (F, F) float64, the root of the covariance.
        trace: of the covariance.
    """

    mean: Tensor
    root: Tensor
    trace: float

    @classmethod
    def of(cls, reference: Tensor) -> "FrechetReference":
        """Returns the reference of real features (M, F), M > 1."""
        mean, covariance = _moments(reference)
        values, vectors = torch.linalg.eigh(covariance)
        root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return cls(mean, root, float(covariance.trace()))

    def distance(self, features: Tensor) -> float:
        """Returns the Fréchet distance of features (N, F), N > 1, from the reference."""
        mean, covariance = _moments(features)
        values = torch.linalg.eigvalsh(self.root @ covariance @ self.root)
        trace = self.trace + covariance.trace() - 2 * values.clamp(min=0).sqrt().sum()
        return float((mean - self.mean).square().sum() + trace)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean (F,) and unbiased covariance (F, F) of features (N, F), float64."""
    assert len(features) > 1, f"{len(features)} features have no covariance"
    rows = features.double()
    mean = rows.mean(dim=0)
    centred = rows - mean
    return mean, centred.T @ centred / (len(rows) - 1)


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Returns the Fréchet distance of features (N, F) from one set of real features (M, F)."""
    return FrechetReference.of(reference).distance(features)


class _Given(nn.Module):
    """Takes the place of torchmetrics' Inception network: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def kernel_distance(
    features: Tensor, reference: Tensor, *, subsets: int, subset_size: int, seed: int
) -> float:
    """Returns the kernel distance of (N, F) from (M, F), KID's mean (Bińkowski et al. 2018, §4).

    It compares pairs of random subsets, of a size of at most N and M.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it keeps all features in memory
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
    """Real pictures, divided to compare real with real.

    Attributes:
        reference: indices of those that everything is compared with.
        floor: indices of those that are compared as if they were painted.
    """

    reference: Tensor
    floor: Tensor


def split_real(rows: Tensor, floor_size: int, seed: int) -> RealSplit:
    """Returns real pictures `rows` (M,) divided at random, at most half of them as the floor."""
    order = rows[torch.randperm(len(rows), generator=generator(seed, "real against real"))]
    size = min(floor_size, len(rows) // 2)
    return RealSplit(reference=order[size:], floor=order[:size])


def paired_cosine(
    embeds: Tensor, captions: Tensor, real_embeds: Tensor, real_captions: Tensor
) -> float:
    """Returns the mean cosine of embeddings with those of real pictures of the same caption.

    The mean over all pairs within a caption, then over captions; NaN if there are no pairs.

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
