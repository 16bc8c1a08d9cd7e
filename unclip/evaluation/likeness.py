"""How like real pictures the painted ones are, as sets: always beside what real ones reach."""

import math

import numpy as np

from unclip.evaluation.distances import FrechetReference, paired_cosine, split_real
from unclip.evaluation.inception import Inception
from unclip.evaluation.scene import Scene
from unclip.evaluation.yardstick import Yardstick
from unclip.params.sections import EvaluateParams

DISTANCES = ("frechet_distance", "kernel_distance")  # real pictures are their floor


def sample_figures(scene: Scene, evaluate: EvaluateParams) -> dict[str, float]:
    """Returns what the pictures are as samples of the real ones, by the prior and by each control.

    Names of the controls' figures end in the control. Those of real pictures, as many as are
    painted or half of them where they are fewer than twice as many, end in `_floor` where less is
    better and in `_ceiling` elsewhere. Precision, recall,
    density and coverage look at `num_neighbour_pictures` of every set and at as many of the
    reference (N = M, Naeem et al. 2020): at all that are painted, or at half of the real ones where
    these are too few for that.
    """
    seen, captions = scene.seen, scene.captions[scene.seen]
    real = split_real(scene.real_seen, len(captions), evaluate.seed)
    yardstick = Yardstick.of(
        scene.real.features[real.reference],
        scene.real_captions[real.reference],
        num_neighbour_pictures=len(real.floor),
        neighbours=evaluate.neighbours,
        subsets=evaluate.kid_subsets,
        subset_size=min(evaluate.kid_subset_size, len(real.floor)),
        seed=evaluate.seed,
    )
    figures: dict[str, float] = {}
    sets = {"": scene.painted.features[seen]}
    sets |= {f"_{kind}": verdict.features for kind, verdict in scene.controls.items()}
    for suffix, features in sets.items():
        found = yardstick.figures(features, captions)
        figures |= {f"{name}{suffix}": value for name, value in found.items()}
    found = yardstick.figures(
        scene.real.features[real.floor], scene.real_captions[real.floor].long()
    )
    for name, value in found.items():
        is_distance = name.removesuffix("_margin") in DISTANCES
        figures[f"{name}_floor" if is_distance else f"{name}_ceiling"] = value
    counts = {
        "samples": len(captions),
        "floor": len(real.floor),
        "reference": len(real.reference),
        "neighbour_pictures": len(yardstick.neighbour_reference),
    }
    return figures | {f"num_{name}": count for name, count in counts.items()}


def inception_figures(
    scene: Scene, evaluate: EvaluateParams, inception: Inception
) -> dict[str, float]:
    """Returns the Fréchet distance in Inception's features, of the pictures of `sample_figures`."""
    painted = np.asarray(scene.images)[scene.seen.numpy()]
    real = split_real(scene.real_seen, len(painted), evaluate.seed)
    test = scene.data.split("test").images
    reference = FrechetReference.of(inception.features(test[real.reference.numpy()], "reference"))
    return {
        "inception_frechet_distance": reference.distance(inception.features(painted, "painted")),
        "inception_frechet_distance_floor": reference.distance(
            inception.features(test[real.floor.numpy()], "floor")
        ),
    }


def prior_figures(scene: Scene) -> dict[str, float]:
    """Returns the prior's mean cosine with real embeddings of its caption, beside two baselines.

    Empty where no painted caption has a real test picture.
    """
    captions = scene.captions[scene.seen]
    candidates = {
        "prior_cosine": scene.prior_embeds[scene.seen],
        "prior_cosine_text_baseline": scene.text_embeds[captions],
        "prior_cosine_mean_baseline": scene.train_means[captions],
    }
    figures = {
        name: paired_cosine(embeds, captions, scene.real_embeds, scene.real_captions)
        for name, embeds in candidates.items()
    }
    return {name: value for name, value in figures.items() if not math.isnan(value)}
