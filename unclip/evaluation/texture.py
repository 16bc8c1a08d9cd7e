"""Texture: whether painted pictures have the grain, edges and shading of real ones, at every scale.

Source: the sliced Wasserstein distance of Laplacian-pyramid patches, Karras et al. 2018,
"Progressive Growing of GANs", §5. It needs no trained network, so it sees what a classifier learns
to overlook. Unlike there, contrasts are compared nearly as logarithms, so that weak grain on plain
ground counts as much as an edge too strong; and the coarsest level, the rest of the pyramid, is
left to the Fréchet distance.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.core.seeding import generator
from unclip.evaluation.bootstrap import jackknife_groups

PATCH = 3  # pixels: small, so that some lie on plain ground alone
PATCHES = 64  # of each picture at each scale
DIRECTIONS = 64  # that patches are projected on
SCALES = 3  # each half as fine as the one before
WEAK = 1.0  # grey level: below, contrasts are compared as they are; above, as logarithms
BINS = 2048  # of a histogram of projections
REACH = 8.0  # logarithm of the largest contrast in a histogram: 1,500 grey levels
BLUR = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16  # Burt & Adelson 1983
BATCH = 500  # pictures; changes speed and memory only
Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TextureReference:
    """Real pictures, prepared for the texture distance of many sets.

    Attributes:
        shares: (SCALES, DIRECTIONS, BINS) float64, cumulative histograms of projected patches.
        seed: of patches and directions.
    """

    shares: Tensor
    seed: int

    @classmethod
    def of(cls, reference: Pictures, *, seed: int) -> "TextureReference":
        """Returns the reference of real pictures (M, C, H, W)."""
        return cls(_cumulative(_counts(reference, seed).sum(dim=0)), seed)

    def distances(self, images: Pictures) -> tuple[float, Tensor]:
        """Returns the distance of pictures (N, C, H, W), and those without one of G groups, (G,).

        The distance is the mean over scales and directions of the Wasserstein distance of the
        projections. The groups are those of `jackknife_groups`.
        """
        counts = _counts(images, self.seed)  # (G, SCALES, DIRECTIONS, BINS)
        total = counts.sum(dim=0)
        without = torch.stack([self._distance(total - group) for group in counts])
        return float(self._distance(total)), without

    def _distance(self, counts: Tensor) -> Tensor:
        apart = (_cumulative(counts) - self.shares).abs().sum(dim=-1) * (2 * REACH / BINS)
        return apart.mean()


def pyramid(images: Tensor) -> list[Tensor]:
    """Returns the differences of the Laplacian pyramid of pictures (B, C, H, W), in grey levels.

    Level i is (B, C, H / 2^i, W / 2^i).
    """
    levels, fine = [], images.float()
    kernel = (BLUR[:, None] * BLUR).expand(fine.shape[1], 1, -1, -1)
    for _ in range(SCALES):
        padded = F.pad(fine, (2, 2, 2, 2), mode="reflect")
        coarse = F.conv2d(padded, kernel, groups=fine.shape[1])[:, :, ::2, ::2]
        again = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)
        levels.append(fine - again)
        fine = coarse
    return levels


def _batches(images: Pictures) -> Iterator[Tensor]:
    for start in range(0, len(images), BATCH):
        yield torch.from_numpy(np.array(images[start : start + BATCH]))


def _cumulative(counts: Tensor) -> Tensor:
    """Returns the share of patches up to each bin, from counts (..., BINS)."""
    return counts.cumsum(dim=-1) / counts.sum(dim=-1, keepdim=True)


def _counts(images: Pictures, seed: int) -> Tensor:
    """Returns histograms of each group's projections, (G, SCALES, DIRECTIONS, BINS) float64."""
    order, group_in_order = jackknife_groups(len(images), seed=seed)
    groups, group_of = int(group_in_order.max()) + 1, group_in_order[order.argsort()]
    counts = torch.zeros(groups, SCALES, DIRECTIONS * BINS, dtype=torch.float64)
    directions_start = torch.arange(DIRECTIONS) * BINS
    for batch, pictures in enumerate(_batches(images)):
        group = group_of[batch * BATCH :][: len(pictures)]
        for scale, level in enumerate(pyramid(pictures)):
            contrasts = _contrasts(level, generator(seed, "texture", scale))
            index = ((contrasts + REACH) * (BINS / (2 * REACH))).long().clamp(0, BINS - 1)
            index += directions_start
            for each in range(groups):
                rows = index[group == each].flatten()
                counts[each, scale] += torch.bincount(rows, minlength=DIRECTIONS * BINS)
    return counts.view(groups, SCALES, DIRECTIONS, BINS)


def _contrasts(level: Tensor, draws: torch.Generator) -> Tensor:
    """Returns the projections of random patches of each picture, (B, PATCHES, DIRECTIONS)."""
    side = min(PATCH, level.shape[2])
    num_places = (level.shape[2] - side + 1) * (level.shape[3] - side + 1)
    places = torch.randint(num_places, (PATCHES,), generator=draws)
    patches = F.unfold(level, side)[:, :, places].transpose(1, 2)  # (B, PATCHES, C·side²)
    directions = torch.randn(patches.shape[-1], DIRECTIONS, generator=draws)
    return torch.asinh(patches @ F.normalize(directions, dim=0) / WEAK)
