"""Real pictures as the yardstick of painted ones: every figure of one set, each with its margin.

Precision, recall, density and coverage depend on the number of pictures on each side. They compare
N painted pictures with as many real ones, the convention of Naeem et al. 2020 (N = M). Every other
figure is of all pictures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unclip.core.seeding import generator
from unclip.evaluation.bootstrap import jackknife_margin, margin_of_mean
from unclip.evaluation.distances import FrechetReference, kernel_distance
from unclip.evaluation.manifold import diversity_ratio, diversity_within_captions, overlap, radii


@dataclass(frozen=True)
class Yardstick:
    """Real pictures, with what is costly to compute from them.

    Attributes:
        features: (M, F) float32, the judge's.
        neighbour_reference: (S, F), those of them that precision, recall, density and coverage
            compare with as many of the pictures that are measured.
        diversity: of each caption, the mean distance of two real pictures of it.
        neighbour_radii: (S,) float64, of the balls around `neighbour_reference`.
        frechet: for Fréchet distances.
        neighbours: k, of precision, recall, density and coverage.
        subsets: number of subsets for the kernel distance.
        subset_size: pictures in each of them, at most.
        seed: of every random choice in a figure.
    """

    features: Tensor
    neighbour_reference: Tensor
    diversity: dict[int, float]
    neighbour_radii: Tensor
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
        num_neighbour_pictures: int,
        neighbours: int,
        subsets: int,
        subset_size: int,
        seed: int,
    ) -> "Yardstick":
        """Returns the yardstick of real pictures with captions (M,), in random order.

        The first `num_neighbour_pictures` of them become `neighbour_reference`.
        """
        neighbour_reference = features[:num_neighbour_pictures]
        assert len(neighbour_reference) == num_neighbour_pictures, (
            f"{len(features)} real pictures are fewer than {num_neighbour_pictures}"
        )
        return cls(
            features,
            neighbour_reference,
            diversity_within_captions(features, captions),
            radii(neighbour_reference, neighbours),
            FrechetReference.of(features),
            neighbours,
            subsets,
            subset_size,
            seed,
        )

    def figures(self, features: Tensor, captions: Tensor) -> dict[str, float]:
        """Returns all figures of a set of pictures, with 95 % margins as `<name>_margin`.

        Precision, recall, density and coverage are those of S of the pictures, a seeded choice that
        is the same for every set of N. Diversity is left out if no caption has two pictures.

        Args:
            features: (N, F), the judge's, of pictures that are not among the real ones; N >= S.
            captions: (N,), whole numbers, what each was to show.
        """
        size = len(self.neighbour_reference)
        order = torch.randperm(len(features), generator=generator(self.seed, "neighbour figures"))
        chosen = features[order[:size].sort().values]
        assert len(chosen) == size, f"{len(features)} pictures beside {size} real ones"
        lying = overlap(
            chosen,
            self.neighbour_reference,
            k=self.neighbours,
            reference_radii=self.neighbour_radii,
        )

        def diversity(rows: Tensor) -> float:
            within = diversity_within_captions(features[rows], captions[rows])
            return diversity_ratio(within, self.diversity)

        of_a_part: dict[str, tuple[Callable[[Tensor], float], int]] = {
            "frechet_distance": (lambda rows: self.frechet.distance(features[rows]), len(features)),
            "recall": (lambda rows: float(lying.of(rows).recall.double().mean()), len(chosen)),
            "coverage": (lambda rows: float(lying.of(rows).coverage.double().mean()), len(chosen)),
            "diversity": (diversity, len(features)),
        }
        figures = {
            "frechet_distance": self.frechet.distance(features),
            "kernel_distance": kernel_distance(
                features,
                self.features,
                subsets=self.subsets,
                subset_size=min(self.subset_size, len(features), len(self.features)),
                seed=self.seed,
            ),
            **lying.figures(),
            "diversity": diversity(torch.arange(len(features))),
        }
        margins = {
            "precision": margin_of_mean(lying.precision, seed=self.seed),
            "density": margin_of_mean(lying.density, seed=self.seed),
        } | {
            name: jackknife_margin(statistic, count, seed=self.seed)
            for name, (statistic, count) in of_a_part.items()
        }
        figures |= {f"{name}_margin": margin for name, margin in margins.items()}
        return {
            name: value
            for name, value in figures.items()
            if not (name.startswith("diversity") and math.isnan(value))
        }
