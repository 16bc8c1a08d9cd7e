"""Real pictures as the yardstick of painted ones: every figure of one set, each with its margin."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unclip.evaluation.bootstrap import FrechetReference, jackknife_margin, margin_of_mean
from unclip.evaluation.distances import frechet_distance, kernel_distance
from unclip.evaluation.manifold import diversity_ratio, diversity_within_captions, overlap, radii


@dataclass(frozen=True)
class Yardstick:
    """Real pictures, and what of them is costly, computed once.

    Attributes:
        features: (M, F) float32, the judge's.
        among: (S, F), those of them that precision, recall, density and coverage look at: as many
            as are painted, for these figures hang on the ratio of the two numbers.
        diversity: of each caption, the mean distance of two real pictures of it.
        radii: (S,) float64, how far the balls around `among` reach.
        frechet: for the margins of Fréchet distances.
        neighbours: k, of precision, recall, density and coverage.
        subsets: of the kernel distance, how many.
        subset_size: of the kernel distance, in pictures, at most.
        seed: of every random choice in a figure.
    """

    features: Tensor
    among: Tensor
    diversity: dict[int, float]
    radii: Tensor
    frechet: FrechetReference
    neighbours: int
    subsets: int
    subset_size: int
    seed: int

    @classmethod
    def of(
        cls,
        features: Tensor,
        captions: Tensor,
        *,
        num_among: int,
        neighbours: int,
        subsets: int,
        subset_size: int,
        seed: int,
    ) -> "Yardstick":
        """Returns the yardstick of real pictures with captions (M,), in no order.

        The first `num_among` of them are `among`; the other arguments are as the attributes.
        """
        among = features[:num_among]
        return cls(
            features,
            among,
            diversity_within_captions(features, captions),
            radii(among, neighbours),
            FrechetReference.of(features),
            neighbours,
            subsets,
            subset_size,
            seed,
        )

    def figures(self, features: Tensor, captions: Tensor) -> dict[str, float]:
        """Returns all figures of a set of pictures, the 95 % margin of each as `<name>_margin`.

        Left out is what can not be said of so few pictures: the diversity within captions where no
        caption has two.

        Args:
            features: (N, F), the judge's, of pictures that are not among the real ones.
            captions: (N,), whole numbers, what each was to show.
        """
        among = overlap(features, self.among, k=self.neighbours, reference_radii=self.radii)

        def diversity(rows: Tensor) -> float:
            within = diversity_within_captions(features[rows], captions[rows])
            return diversity_ratio(within, self.diversity)

        of_a_part: dict[str, Callable[[Tensor], float]] = {
            "frechet_distance": lambda rows: self.frechet.distance(features[rows]),
            "recall": lambda rows: float(among.of(rows).recall.double().mean()),
            "coverage": lambda rows: float(among.of(rows).coverage.double().mean()),
            "diversity": diversity,
        }
        size = min(self.subset_size, len(features), len(self.features))
        figures = {
            "frechet_distance": frechet_distance(features, self.features),
            "kernel_distance": kernel_distance(
                features, self.features, subsets=self.subsets, subset_size=size, seed=self.seed
            ),
            **among.figures(),
            "diversity": diversity(torch.arange(len(features))),
        }
        margins = {
            "precision": margin_of_mean(among.precision, seed=self.seed),
            "density": margin_of_mean(among.density, seed=self.seed),
        } | {
            name: jackknife_margin(statistic, len(features), seed=self.seed)
            for name, statistic in of_a_part.items()
        }
        figures |= {f"{name}_margin": margin for name, margin in margins.items()}
        return {
            name: value
            for name, value in figures.items()
            if not (name.startswith("diversity") and math.isnan(value))
        }
