"""How painted pictures lie among real ones: fidelity, diversity, and copies of training pictures.

Distances of features are computed pair by pair in float64, never from products, so that equal pairs
have equal distances to the last bit: a copy lies exactly on the edge of its ball.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CHUNK = 250  # rows of a table of distances in memory at a time; changes memory and speed only
CHUNK_PICTURES = 1000  # training pictures in memory at a time; likewise
NEAREST = 0.01  # share of real pictures that count as near to training pictures
BLOCK = 1024  # pixels: 1024 · 128² = 2**24, up to which float32 holds every whole number


@dataclass(frozen=True)
class Overlap:
    """Which painted and which real pictures lie among each other.

    Two tables of truth values, N · M bytes each, from which every figure is read: the figures of a
    part of the painted pictures need no distance again.

    Attributes:
        in_real_balls: (N, M) bool, whether a painted picture is in the ball of a real one.
        in_painted_balls: (N, M) bool, whether the real picture is in the ball of the painted one.
        k: neighbours that a ball reaches to.
    """

    in_real_balls: Tensor
    in_painted_balls: Tensor
    k: int

    @property
    def precision(self) -> Tensor:
        """Returns which painted pictures lie among the real ones, (N,) bool."""
        return self.in_real_balls.any(dim=1)

    @property
    def recall(self) -> Tensor:
        """Returns which real pictures lie among the painted ones, (M,) bool."""
        return self.in_painted_balls.any(dim=0)

    @property
    def density(self) -> Tensor:
        """Returns in how many balls of real pictures each painted one is, over k, (N,) float64."""
        return self.in_real_balls.sum(dim=1).double() / self.k

    @property
    def coverage(self) -> Tensor:
        """Returns which real pictures have a painted one in their ball, (M,) bool."""
        return self.in_real_balls.any(dim=0)

    def of(self, rows: Tensor) -> "Overlap":
        """Returns the overlap of some painted pictures, with the balls of all of them."""
        return Overlap(self.in_real_balls[rows], self.in_painted_balls[rows], self.k)

    def figures(self) -> dict[str, float]:
        """Returns the four means; all but the density are in [0, 1]."""
        names = ("precision", "recall", "density", "coverage")
        return {name: float(getattr(self, name).double().mean()) for name in names}


def overlap(
    features: Tensor, reference: Tensor, *, k: int, reference_radii: Tensor | None = None
) -> Overlap:
    """Returns the overlap of painted with real pictures, from balls around each of them.

    The ball of a picture reaches to the k-th nearest other one of its own set, edge included, as in
    Kynkäänniemi et al. 2019, eq. 1. Precision and recall are their eq. 2, density and coverage
    those of Naeem et al. 2020, §3.1 and §3.2 (their code excludes the edge, which matters to copies
    alone). The fewer painted pictures, the wider their balls and the fewer real pictures they can
    cover: compare figures of equal N, M and k only.

    Args:
        features: (N, F), of painted pictures, N > k.
        reference: (M, F), of real pictures, M > k.
        k: neighbours, not counting the picture itself, but counting equal pictures.
        reference_radii: (M,), `radii(reference, k)` if it is already known; it takes most of the
            time.
    """
    assert features.shape[1:] == reference.shape[1:], (features.shape, reference.shape)
    painted, real = features.double(), reference.double()
    painted_radii = radii(painted, k)
    real_radii = radii(real, k) if reference_radii is None else reference_radii
    assert real_radii.shape == (len(real),), (real_radii.shape, len(real))
    in_real_balls = torch.zeros(len(painted), len(real), dtype=torch.bool)
    in_painted_balls = torch.zeros_like(in_real_balls)
    for rows, distances in _distances(painted, real):
        in_real_balls[rows] = distances <= real_radii
        in_painted_balls[rows] = distances <= painted_radii[rows, None]
    return Overlap(in_real_balls, in_painted_balls, k)


def radii(features: Tensor, k: int) -> Tensor:
    """Returns the distance of each row of (N, F) from its k-th nearest other row, (N,) float64."""
    assert 1 <= k < len(features), f"{k} neighbours of {len(features)} pictures"
    points = features.double()
    # Written in place: small results kept between large tables would fragment the heap.
    found = torch.empty(len(points), dtype=torch.float64)
    for rows, distances in _distances(points, points):
        # The row itself, at distance 0, is one of the k + 1 nearest to it.
        found[rows] = distances.topk(k + 1, dim=1, largest=False).values.amax(dim=1)
    return found


def _distances(one: Tensor, other: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yields Euclidean distances of CHUNK rows from all of the other set, and which rows these are.

    They are exactly 0 for equal rows, and exactly symmetric.
    """
    for start in range(0, len(one), CHUNK):
        rows = slice(start, start + CHUNK)
        yield rows, torch.cdist(one[rows], other, compute_mode="donot_use_mm_for_euclid_dist")


# Diversity


def diversity_within_captions(features: Tensor, captions: Tensor) -> dict[int, float]:
    """Returns the mean distance of features (N, F) of each of captions (N,) with at least two."""
    found = {}
    for caption in captions.unique().tolist():
        rows = features[captions == caption].double()
        if (count := len(rows)) > 1:
            total = sum(float(distances.sum()) for _, distances in _distances(rows, rows))
            found[caption] = total / (count * (count - 1))
    return found


def diversity_ratio(painted: Mapping[int, float], real: Mapping[int, float]) -> float:
    """Returns how diverse painted pictures of one caption are; 1 is as diverse as real ones.

    The sum of the mean distances within captions, painted over real, over the captions that have
    both. It is a ratio of means, not a mean of ratios: the ratio of a caption with a handful of
    real pictures is noise over noise, too large on average and unbounded. In return, varied
    captions weigh more; a single caption that collapses shows in `diversity_within_captions`.
    """
    shared = sorted(painted.keys() & real.keys())
    total = sum(real[caption] for caption in shared)
    return sum(painted[caption] for caption in shared) / total if total > 0 else math.nan


# Copies


def nearest_pictures(
    pictures: npt.NDArray[np.uint8], training: npt.NDArray[np.uint8]
) -> tuple[Tensor, Tensor]:
    """Returns the training picture nearest to each picture, pixel by pixel.

    All sums are of whole numbers that float32 holds exactly, so neither the order of summation nor
    the chunk size changes anything, and the distance of a copy is 0.

    Args:
        pictures: (N, C, H, W).
        training: (M, C, H, W), an array or a memory map, read in chunks.

    Returns:
        distances: (N,) float32, root mean square difference of pixels in [0, 1].
        indices: (N,) int64, into `training`; the first of several equally near ones.
    """
    assert pictures.shape[1:] == training.shape[1:], (pictures.shape, training.shape)
    assert len(training) > 0, "no training pictures"
    wanted = _centred(pictures)
    best = torch.full((len(wanted),), torch.inf, dtype=torch.float64)
    indices = torch.zeros(len(wanted), dtype=torch.int64)
    for start in range(0, len(training), CHUNK_PICTURES):
        chunk = _centred(training[start : start + CHUNK_PICTURES])
        squared, rows = _squared(wanted, chunk).min(dim=1)
        nearer = squared < best
        best[nearer], indices[nearer] = squared[nearer], rows[nearer] + start
    return (best / wanted.shape[1]).sqrt().div(255).float(), indices


def _centred(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """Returns the pixels less 128, (N, C·H·W) float32."""
    return torch.from_numpy(np.array(pictures)).flatten(1).float() - 128


def _squared(one: Tensor, other: Tensor) -> Tensor:
    """Returns squared distances of rows of whole numbers in -128..127, (A, B) float64, exact."""
    squared = one.double().square().sum(dim=1)[:, None] + other.double().square().sum(dim=1)
    for mine, others in zip(one.split(BLOCK, dim=1), other.split(BLOCK, dim=1), strict=True):
        squared.sub_(mine @ others.T, alpha=2)
    return squared


def share_nearer(distances: Tensor, yardstick: Tensor) -> float:
    """Returns the memorised share: pictures nearer to training pictures than real ones usually are.

    Near means at most the NEAREST quantile of the yardstick, so honest pictures have a share of
    about NEAREST, or more if many real pictures are equally near.

    Args:
        distances: (N,), from `nearest_pictures`, of painted pictures.
        yardstick: (M,), likewise, of real test pictures.
    """
    bound = torch.quantile(yardstick.double(), NEAREST)
    return float((distances.double() <= bound).double().mean())
