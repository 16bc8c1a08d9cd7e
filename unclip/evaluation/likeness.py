"""How much painted pictures resemble real ones as sets, beside the figures of real ones."""

import math

from unclip.evaluation.bootstrap import margin_of_parts
from unclip.evaluation.distances import RealSplit, paired_cosine, split_real
from unclip.evaluation.scene import Scene
from unclip.evaluation.texture import TextureReference
from unclip.evaluation.yardstick import Yardstick
from unclip.params.sections import EvaluateParams

DISTANCES = ("frechet_distance", "kernel_distance")  # less is better


def sample_figures(scene: Scene, evaluate: EvaluateParams) -> dict[str, float]:
    """Returns the figures of the pictures as samples of the real ones, with the prior and controls.

    Figures of a control end in its name. Those of real pictures, as many as are painted (at most
    half of the real ones), end in `_floor` where less is better and in `_ceiling` elsewhere.
    Precision, recall, density and coverage compare equal numbers of every set and of the reference
    (N = M, Naeem et al. 2020): as many as there are real pictures in the floor.
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
    floor_captions = scene.real_captions[real.floor].long()
    for name, value in yardstick.figures(scene.real.features[real.floor], floor_captions).items():
        is_distance = name.removesuffix("_margin") in DISTANCES
        figures[f"{name}_floor" if is_distance else f"{name}_ceiling"] = value
    figures |= _texture_figures(scene, real, evaluate.seed)
    counts = {
        "samples": len(captions),
        "floor": len(real.floor),
        "reference": len(real.reference),
        "neighbour_pictures": len(yardstick.neighbour_reference),
    }
    return figures | {f"num_{name}": count for name, count in counts.items()}


def _texture_figures(scene: Scene, real: RealSplit, seed: int) -> dict[str, float]:
    """Returns the texture distance of every set, each with its margin."""
    reference = TextureReference.of(scene.real_images[real.reference.numpy()], seed=seed)
    sets = {"": scene.images[scene.seen.numpy()], "_floor": scene.real_images[real.floor.numpy()]}
    sets |= {f"_{kind}": images for kind, images in scene.control_images.items()}
    figures: dict[str, float] = {}
    for suffix, images in sets.items():
        distance, without = reference.distances(images)
        figures[f"texture_distance{suffix}"] = distance
        figures[f"texture_distance_margin{suffix}"] = margin_of_parts(without.tolist())
    return figures


def prior_figures(scene: Scene) -> dict[str, float]:
    """Returns the prior's mean cosine with real embeddings of its caption, beside two baselines.

    Empty if no painted caption has a real test picture.
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
