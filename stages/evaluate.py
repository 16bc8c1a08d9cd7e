"""Judges the painted pictures, always beside what real ones reach. It paints nothing."""

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unclip.artifacts import build, load_artifact, write_metrics
from unclip.charts import bar_accuracies, curves
from unclip.data import Prepared
from unclip.embeddings import Embeddings
from unclip.evaluation import (
    frechet_distance,
    kernel_distance,
    mean_per_caption,
    paired_cosine,
    split_real,
)
from unclip.judging import Verdict, accuracies, judge_pictures
from unclip.layout import MODEL_OF_STAGE, Layout
from unclip.machine import open_machine
from unclip.models.judge import Judge
from unclip.params import EvaluateParams
from unclip.png import save_png
from unclip.stage import main

STAGE = "evaluate"
HEADLINE = (
    *("joint_accuracy", "joint_accuracy_held_out", "judge_real_accuracy"),
    *("frechet_distance", "frechet_distance_floor", "kernel_distance", "kernel_distance_floor"),
    *("prior_cosine", "prior_cosine_text_baseline"),
)


def run(layout: Layout, evaluate: EvaluateParams) -> None:
    """Writes metrics/evaluate.json, metrics/headline.json and the plots."""
    scene = Scene.of(layout)
    figures = accuracy_figures(scene) | distance_figures(scene, evaluate) | prior_figures(scene)
    write_metrics(layout.metrics(STAGE), figures)
    write_metrics(layout.metrics("headline"), headline(layout, figures))
    per_caption, real = figures["accuracy_per_caption"], figures["judge_real_per_caption"]
    save_png(
        bar_accuracies(per_caption, real, "Does the judge see what the caption says?"),
        layout.plot("accuracy"),
    )
    for stage in MODEL_OF_STAGE:
        save_png(curves(layout.history(stage), stage), layout.plot(stage))


@dataclass(frozen=True)
class Scene:
    """All that is judged.

    Attributes:
        data: the prepared data set.
        captions: (N,) int64, of the painted pictures.
        painted: the judge's verdict on them.
        real_captions: (M,) int32, of the real test pictures.
        real_attributes: (M, A) int16.
        real: the judge's verdict on them.
        prior_embeds: (N, D), what the painted pictures were painted from.
        text_embeds: (K, D), CLIP's embedding of every caption.
        real_embeds: (M, D), CLIP's embeddings of the test pictures.
        train_means: (K, D), the mean embedding of each caption's training pictures.
        held_out: (K,) bool, captions that training never showed.
    """

    data: Prepared
    captions: Tensor
    painted: Verdict
    real_captions: Tensor
    real_attributes: Tensor
    real: Verdict
    prior_embeds: Tensor
    text_embeds: Tensor
    real_embeds: Tensor
    train_means: Tensor
    held_out: Tensor

    @classmethod
    def of(cls, layout: Layout) -> "Scene":
        """Returns what a workspace holds."""
        machine = open_machine("fp32")
        data, embeddings = Prepared(layout.prepared), Embeddings(layout.embeddings)
        folder = layout.model("judge")
        judge = build(load_artifact(folder, "judge"), Judge, folder).to(machine.device)
        assert isinstance(judge, Judge)
        test, train = data.split("test"), data.split("train")
        images = np.load(layout.judged / "images.npy", mmap_mode="r")
        held_out = torch.zeros(len(data.captions), dtype=torch.bool)
        held_out[data.held_out_captions] = True
        return cls(
            data,
            torch.from_numpy(np.load(layout.judged / "caption_index.npy")),
            judge_pictures(judge, data, images, machine.device),
            test.caption_index,
            test.attributes,
            judge_pictures(judge, data, test.images, machine.device),
            torch.from_numpy(np.load(layout.judged / "prior_embeds.npy")),
            embeddings.captions,
            torch.from_numpy(np.array(embeddings.images("test"))),
            mean_per_caption(embeddings.images("train"), train.caption_index, len(data.captions)),
            held_out,
        )


def accuracy_figures(scene: Scene) -> dict:
    """Returns how often the judge sees what was asked for, beside how often it is right at all."""
    names, wanted = scene.data.attribute_names, scene.data.caption_attributes[scene.captions]
    seen = ~scene.held_out[scene.captions]
    figures: dict = accuracies(scene.painted.predictions[seen], wanted[seen], names)
    if (~seen).any():
        held_out = accuracies(scene.painted.predictions[~seen], wanted[~seen], names)
        figures |= {f"{name}_held_out": value for name, value in held_out.items()}
    real = accuracies(scene.real.predictions, scene.real_attributes, names)
    figures |= {f"judge_real_{k.removeprefix('joint_')}": v for k, v in real.items()}
    figures["accuracy_per_caption"] = per_caption(
        scene, scene.painted.predictions, wanted, scene.captions
    )
    figures["judge_real_per_caption"] = per_caption(
        scene, scene.real.predictions, scene.real_attributes, scene.real_captions
    )
    return figures


def per_caption(
    scene: Scene, predictions: Tensor, wanted: Tensor, captions: Tensor
) -> dict[str, float]:
    """Returns the joint accuracy of each caption that has pictures."""
    figures = {}
    for caption in captions.unique().tolist():
        rows = captions == caption
        found = accuracies(predictions[rows], wanted[rows], scene.data.attribute_names)
        figures[scene.data.captions[caption]] = found["joint_accuracy"]
    return figures


def distance_figures(scene: Scene, evaluate: EvaluateParams) -> dict:
    """Returns the distances of painted from real pictures, and of real from real at equal count."""
    seen = ~scene.held_out[scene.captions]
    painted = scene.painted.features[seen]
    rows = (~scene.held_out[scene.real_captions]).nonzero()[:, 0]
    real = split_real(rows, len(painted), evaluate.seed)
    reference, floor = scene.real.features[real.reference], scene.real.features[real.floor]
    subset_size = min(evaluate.kid_subset_size, len(floor), len(painted))

    def kernel(features: Tensor) -> float:
        return kernel_distance(
            features,
            reference,
            subsets=evaluate.kid_subsets,
            subset_size=subset_size,
            seed=evaluate.seed,
        )

    return {
        "frechet_distance": frechet_distance(painted, reference),
        "frechet_distance_floor": frechet_distance(floor, reference),
        "kernel_distance": kernel(painted),
        "kernel_distance_floor": kernel(floor),
        "num_samples": len(painted),
        "num_floor": len(floor),
        "num_reference": len(reference),
    }


def prior_figures(scene: Scene) -> dict[str, float]:
    """Returns the prior's mean cosine with real embeddings of its caption, beside two baselines."""
    captions = scene.captions[~scene.held_out[scene.captions]]
    candidates = {
        "prior_cosine": scene.prior_embeds[~scene.held_out[scene.captions]],
        "prior_cosine_text_baseline": scene.text_embeds[captions],
        "prior_cosine_mean_baseline": scene.train_means[captions],
    }
    return {
        name: paired_cosine(embeds, captions, scene.real_embeds, scene.real_captions)
        for name, embeds in candidates.items()
    }


def headline(layout: Layout, figures: dict) -> dict[str, float]:
    """Returns the figures that `dvc exp show` compares: at most ten."""
    clip = json.loads(layout.metrics("train_clip").read_text(encoding="utf-8"))
    chosen = {name: figures[name] for name in HEADLINE if name in figures}
    return chosen | {name: clip[name] for name in ("zero_shot_accuracy",) if name in clip}


if __name__ == "__main__":
    main(STAGE, run)
