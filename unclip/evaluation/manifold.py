"""How painted pictures lie among real ones: fidelity, diversity, and copies of training pictures.

Distances of features are computed pair by pair in float64 and never from products, so that those
of equal pairs are equal to the last bit: a copy lies exactly on the edge of the ball it belongs to.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CHUNK = 250  # rows of a table of distances in memory at a time; changes memory and speed only
CHUNK_PICTURES = 1000  # training pictures in memory at a time; likewise
NEAREST = 0.01  # share of real pictures that are called near to training pictures
BLOCK = 1024  # pixels: 1024 · 128² = 2**24, up to which float32 holds every whole number


@dataclass(frozen=True)
class Overlap:
    """Which painted and which real pictures lie among each other.

    Two tables of truth values, N · M bytes each, from which every figure is read; so that of a part
    of the painted pictures costs no second look at their distances.

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
        """Returns the overlap of some painted pictures, their balls as they were, for a margin."""
        return Overlap(self.in_real_balls[rows], self.in_painted_balls[rows], self.k)

    def figures(self) -> dict[str, float]:
        """Returns the four means; all but the density are in [0, 1]."""
        return {
            "precision": float(self.precision.double().mean()),
            "recall": float(self.recall.double().mean()),
            "density": float(self.density.mean()),
            "coverage": float(self.coverage.double().mean()),
        }


def overlap(
    features: Tensor,
    reference: Tensor,
    *,
    k: int,
    reference_radii: Tensor | None = None,
) -> Overlap:
    """Returns the overlap of painted with real pictures, from balls around each of them.

    The ball of a picture reaches as far as the k-th nearest other one of its own set, and what lies
    on its edge is inside, as in Kynkäänniemi et al. 2019, eq. 1. Precision and recall are their
    eq. 2, density and coverage those of Naeem et al. 2020, §3.1 and §3.2 (their code leaves the
    edge out; it matters to copies alone). The fewer painted pictures there are, the wider are their
    balls and the fewer real pictures can they cover: compare figures of equal N, M and k only.

    Args:
        features: (N, F), of painted pictures, N > k.
        reference: (M, F), of real pictures, M > k.
        k: neighbours, of which the picture itself is none; equal pictures are.
        reference_radii: (M,), `radii(reference, k)` where it is known already; most of the time
            goes into it.
    """
    assert features.shape[1:] == reference.shape[1:], (features.shape, reference.shape)
    painted, real = features.double(), reference.double()
    painted_radii = radii(painted, k)
    real_radii = radii(real, k) if reference_radii is None else reference_radii
    assert real_radii.shape == (len(real),), (real_radii.shape, len(real))
    in_real_balls = torch.zeros(len(painted), len(real), dtype=torch.bool)
    in_painted_balls = torch.zeros_like(in_real_balls)
    for start in range(0, len(painted), CHUNK):
        rows = slice(start, start + CHUNK)
        distances = _distances(painted[rows], real)
        in_real_balls[rows] = distances <= real_radii
        in_painted_balls[rows] = distances <= painted_radii[rows, None]
    return Overlap(in_real_balls, in_painted_balls, k)


def radii(features: Tensor, k: int) -> Tensor:
    """Returns each row's distance from its k-th nearest other row, (N,) float64.

    Args:
        features: (N, F), N > k.
        k: at least 1.
    """
    assert 1 <= k < len(features), f"{k} neighbours of {len(features)} pictures"
    points = features.double()
    # Written in place: small results kept between large tables would tear the heap to pieces.
    found = torch.empty(len(points), dtype=torch.float64)
    for start in range(0, len(points), CHUNK):
        rows = slice(start, start + CHUNK)
        # The row itself, at distance 0, is one of the k + 1 that are nearest to it.
        nearest = _distances(points[rows], points).topk(k + 1, dim=1, largest=False).values
        found[rows] = nearest.amax(dim=1)
    return found


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Returns all Euclidean distances, (A, B): exactly 0 for equal rows, exactly symmetric."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


# Diversity


def diversity_within_captions(features: Tensor, captions: Tensor) -> dict[int, float]:
    """Returns the mean distance of two pictures of a caption, for each with at least two.

    Args:
        features: (N, F).
        captions: (N,), whole numbers.
    """
    found = {}
    for caption in captions.unique().tolist():
        rows = features[captions == caption].double()
        if (count := len(rows)) > 1:
            total = sum(float(_distances(part, rows).sum()) for part in rows.split(CHUNK))
            found[caption] = total / (count * (count - 1))
    return found


def diversity_ratio(painted: Mapping[int, float], real: Mapping[int, float]) -> float:
    """Returns how diverse painted pictures of one caption are; 1 is as diverse as real ones.

    The sum of the mean distances within captions, painted over real, over the captions that have
    both. A ratio of means and not a mean of ratios: where a caption has a handful of real pictures
    its own ratio is noise over noise, too large on average and unbounded as the real ones come near
    each other. Its price is that varied captions weigh more; a caption that alone collapses shows
    in `diversity_within_captions`.

    Args:
        painted: of `diversity_within_captions`.
        real: likewise, of real pictures.
    """
    shared = sorted(painted.keys() & real.keys())
    total = sum(real[caption] for caption in shared)
    return sum(painted[caption] for caption in shared) / total if total > 0 else math.nan


# Copies


def nearest_pictures(
    pictures: npt.NDArray[np.uint8], training: npt.NDArray[np.uint8]
) -> tuple[Tensor, Tensor]:
    """Returns the training picture that is nearest to each picture, pixel by pixel.

    All sums are of whole numbers that their type holds exactly, in float32 too, so neither the
    order of summation nor the chunk changes anything, and the distance of a copy is 0.

    Args:
        pictures: (N, C, H, W).
        training: (M, C, H, W), an array or a memory map, of which a chunk is read at a time.

    Returns:
        distances: (N,) float32, root mean square difference of pixels in [0, 1].
        indices: (N,) int64, into `training`; the first of several that are equally near.
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
    """Returns the memorised share: pictures that are nearer to training than real ones ever are.

    Near is at most the NEAREST quantile of the yardstick, so that honest pictures have a share of
    about as much, or more where many real pictures are equally near.

    Args:
        distances: (N,), of painted pictures from `nearest_pictures`.
        yardstick: (M,), the same of test pictures and the same training pictures.
    """
    bound = torch.quantile(yardstick.double(), NEAREST)
    return float((distances.double() <= bound).double().mean())
