"""Margins: how far a figure would be off, had other pictures been drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unclip.core.seeding import generator

RESAMPLES = 200  # the margin itself is then known to 5 %: 1 / sqrt(2 · 200)
GROUPS = 50  # and then to 10 %
NORMAL_95 = 1.96  # standard deviations on each side that hold 95 % of a normal distribution


def margin(
    statistic: Callable[[Tensor], float], num_items: int, *, seed: int, resamples: int = RESAMPLES
) -> float:
    """Returns the 95 % margin of a statistic of N items: 1.96 standard errors, by the bootstrap.

    The standard deviation of the statistic over resamples (Efron & Tibshirani 1993, algorithm 6.1).
    It knows only what the items vary in: where all are alike, as with a share of exactly 0 or 1,
    the margin is 0. Good for means; for figures of a whole set see `jackknife_margin`.

    Args:
        statistic: from indices (N,) int64 of a resample, drawn with replacement, to a figure.
        num_items: N, at least 2.
        seed: of the draws; resample i is the same for every statistic of N items.
        resamples: at least 2.
    """
    assert num_items > 1, f"{num_items} items have no margin"
    assert resamples > 1, f"{resamples} resamples have no standard deviation"
    figures = [
        statistic(torch.randint(num_items, (num_items,), generator=generator(seed, "bootstrap", i)))
        for i in range(resamples)
    ]
    return NORMAL_95 * float(torch.tensor(figures, dtype=torch.float64).std())


def margin_of_mean(values: Tensor, *, seed: int, resamples: int = RESAMPLES) -> float:
    """Returns the 95 % margin of the mean of values (N,), numbers or truth values."""
    numbers = values.double()
    return margin(
        lambda rows: float(numbers[rows].mean()), len(numbers), seed=seed, resamples=resamples
    )


def jackknife_margin(
    statistic: Callable[[Tensor], float], num_items: int, *, seed: int, groups: int = GROUPS
) -> float:
    """Returns the 95 % margin of a statistic of N items: 1.96 standard errors, by the jackknife.

    From what the statistic is without each of some groups of items (Efron & Tibshirani 1993,
    chapter 11, there with groups of one). It errs on the safe side (Efron & Stein 1981), here by up
    to 1.6 times. For recall, coverage and Fréchet distances as functions of the painted pictures:
    no item is ever there twice, which near its floor doubles a Fréchet distance.

    Args:
        statistic: from indices (fewer than N,) int64, all different, to a figure.
        num_items: N.
        seed: of the division into groups, which is the same for every statistic of N items.
        groups: of equal size, or one more; at least 2, and of one item each where N is less.
    """
    groups = min(groups, num_items)
    assert groups > 1, f"{groups} groups have no standard deviation"
    order = torch.randperm(num_items, generator=generator(seed, "jackknife"))
    group = torch.arange(num_items) % groups
    figures = torch.tensor(
        [statistic(order[group != left_out]) for left_out in range(groups)], dtype=torch.float64
    )
    return NORMAL_95 * (groups - 1) / groups**0.5 * float(figures.std())


@dataclass(frozen=True)
class FrechetReference:
    """Real features, ready for the Fréchet distance of many sets (Heusel et al. 2017, eq. 6).

    The trace of the root of a product needs the eigenvalues of S1 · S2, which are those of the
    symmetric S1^½ · S2 · S1^½; S1^½ is computed once. The figure is that of
    `evaluation.frechet_distance`, several times faster.

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
        """Returns that of real features (M, F), M > 1."""
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
