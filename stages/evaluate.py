"""Judges the painted pictures, always beside what real ones reach. It paints nothing."""

import json
import math
import sys
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unclip.artifacts import build, load_artifact, write_metrics
from unclip.charts import bar_accuracies, curves
from unclip.data import Prepared
from unclip.embeddings import Embeddings, mean_per_caption
from unclip.evaluation.bootstrap import FrechetReference, margin_of_mean
from unclip.evaluation.distances import binding, paired_cosine, split_real
from unclip.evaluation.inception import Inception
from unclip.evaluation.judging import Verdict, accuracies, is_right, judge_pictures
from unclip.evaluation.manifold import nearest_pictures, share_nearer
from unclip.evaluation.yardstick import Yardstick
from unclip.figures import neighbours
from unclip.layout import CONTROLS, MODEL_OF_STAGE, Layout
from unclip.machine import open_machine
from unclip.models.judge import Judge
from unclip.params import EvaluateParams
from unclip.png import save_png
from unclip.stage import main

STAGE = "evaluate"
HEADLINE = (
    *("joint_accuracy", "joint_accuracy_held_out", "judge_real_accuracy"),
    *("frechet_distance", "frechet_distance_floor", "coverage", "coverage_ceiling"),
    *("diversity", "memorised"),
)
DISTANCES = ("frechet_distance", "kernel_distance")  # real pictures are their floor
FEW_CAPTIONS = 60  # of so many each has an accuracy of its own; of more, each word
MOST_BARS = 100  # of the chart of accuracies
NEIGHBOURS_OF = 2000  # real pictures whose nearest training pictures say what near is
SHOWN = 12  # pictures whose nearest training pictures are shown


def run(layout: Layout, evaluate: EvaluateParams) -> None:
    """Writes metrics/evaluate.json, metrics/headline.json and the plots."""
    inception = Inception.open() if evaluate.inception else None
    scene = Scene.of(layout)
    figures = (
        accuracy_figures(scene, evaluate) | sample_figures(scene, evaluate) | prior_figures(scene)
    )
    figures |= copy_figures(scene, layout)
    if inception is not None:
        figures |= inception_figures(scene, evaluate, inception)
    write_metrics(layout.metrics(STAGE), figures)
    write_metrics(layout.metrics("headline"), headline(layout, figures))
    each = "caption" if "accuracy_per_caption" in figures else "word"
    painted, real = (figures.get(f"{kind}_per_{each}", {}) for kind in ("accuracy", "judge_real"))
    shown = dict(islice(painted.items(), MOST_BARS))
    save_png(
        bar_accuracies(shown, real, "Does the judge see what the caption says?"),
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
        images: (N, C, H, W) uint8, the painted pictures, memory-mapped.
        painted: the judge's verdict on them.
        controls: its verdicts on pictures painted without the prior, one for each painted picture
            whose caption training showed.
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
    images: npt.NDArray[np.uint8]
    painted: Verdict
    controls: dict[str, Verdict]
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
        controls = {
            kind: judge_pictures(
                judge, data, np.load(layout.control(kind), mmap_mode="r"), machine.device
            )
            for kind in CONTROLS
        }
        return cls(
            data,
            torch.from_numpy(np.load(layout.judged / "caption_index.npy")),
            images,
            judge_pictures(judge, data, images, machine.device),
            controls,
            test.caption_index,
            test.attributes,
            judge_pictures(judge, data, test.images, machine.device),
            torch.from_numpy(np.load(layout.judged / "prior_embeds.npy")),
            embeddings.captions,
            torch.from_numpy(np.array(embeddings.images("test"))),
            mean_per_caption(embeddings.images("train"), train.caption_index, len(data.captions)),
            held_out,
        )

    @property
    def seen(self) -> Tensor:
        """Returns which painted pictures have a caption that training showed, (N,) bool."""
        return ~self.held_out[self.captions]

    @property
    def real_seen(self) -> Tensor:
        """Returns the rows of the real pictures with such a caption, (M,) int64."""
        return (~self.held_out[self.real_captions]).nonzero()[:, 0]


def accuracy_figures(scene: Scene, evaluate: EvaluateParams) -> dict:
    """Returns how often the judge sees what was asked for, beside how often it is right at all.

    Figures of painted pictures, of each control and of real pictures are of the captions that
    training shows; those of the others end in `_held_out`. What stands for each caption or each
    word is of all pictures. Nothing, where the data set has no attributes that could be asked for.
    """
    if not scene.data.attribute_names:
        print(
            f"{STAGE}: {scene.data.name} has no attributes: accuracy is left out", file=sys.stderr
        )
        return {}
    painted, wanted = scene.painted.predictions, scene.data.caption_attributes[scene.captions]
    figures: dict = _painted_accuracies(scene, painted, wanted, evaluate.seed)
    for kind, control in scene.controls.items():
        right = is_right(control.predictions, wanted[scene.seen]).all(dim=1)
        figures[f"joint_accuracy_{kind}"] = float(right.float().mean())
        figures[f"joint_accuracy_margin_{kind}"] = margin_of_mean(right, seed=evaluate.seed)
    real, stated = scene.real.predictions, scene.real_attributes
    figures |= _real_accuracies(scene, real, stated)
    if len(scene.data.captions) > FEW_CAPTIONS:
        figures["accuracy_per_word"] = per_word(scene, painted, wanted)
        figures["judge_real_per_word"] = per_word(scene, real, stated)
        return figures
    figures["accuracy_per_caption"] = per_caption(scene, painted, wanted, scene.captions)
    figures["judge_real_per_caption"] = per_caption(scene, real, stated, scene.real_captions)
    return figures


def _painted_accuracies(
    scene: Scene, painted: Tensor, wanted: Tensor, seed: int
) -> dict[str, float]:
    """Returns the accuracies of painted pictures; the joint ones with margins."""
    figures = {}
    for suffix, rows in (("", scene.seen), ("_held_out", ~scene.seen)):
        if rows.any():
            found = _counted(scene, painted[rows], wanted[rows])
            figures |= {f"{name}{suffix}": value for name, value in found.items()}
        if rows.sum() > 1:
            right = is_right(painted[rows], wanted[rows]).all(dim=1)
            figures[f"joint_accuracy{suffix}_margin"] = margin_of_mean(right, seed=seed)
    return figures


def _real_accuracies(scene: Scene, real: Tensor, stated: Tensor) -> dict[str, float]:
    """Returns the judge's accuracies on real pictures of the same captions."""
    figures = {}
    is_seen = ~scene.held_out[scene.real_captions]
    for suffix, rows in (("", is_seen), ("_held_out", ~is_seen)):
        if rows.any():
            found = _counted(scene, real[rows], stated[rows])
            figures |= {
                f"judge_real_{name.removeprefix('joint_')}{suffix}": value
                for name, value in found.items()
            }
    return figures


def _counted(scene: Scene, predictions: Tensor, wanted: Tensor) -> dict[str, float]:
    """Returns every accuracy of some pictures."""
    names = scene.data.attribute_names
    found = accuracies(predictions, wanted, names)
    return found | binding(predictions, wanted, names, scene.data.attribute_values)


def per_word(scene: Scene, predictions: Tensor, wanted: Tensor) -> dict[str, float]:
    """Returns how often each value of each attribute is seen where it is wanted."""
    figures = {}
    for column, name in enumerate(scene.data.attribute_names):
        for value, word in enumerate(scene.data.attribute_values[column]):
            rows = wanted[:, column] == value
            if rows.any():
                right = predictions[rows, column] == value
                figures[f"{name} {word}"] = float(right.float().mean())
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


def sample_figures(scene: Scene, evaluate: EvaluateParams) -> dict[str, float]:
    """Returns what the pictures are as samples of the real ones, by the prior and by each control.

    Names of the controls' figures end in the control. Those of real pictures, as many as are
    painted, end in `_floor` where less is better and in `_ceiling` elsewhere. Precision, recall,
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


def copy_figures(scene: Scene, layout: Layout) -> dict[str, float]:
    """Returns how near painted pictures come to training pictures; shows those that come nearest.

    Near is what one of a hundred real test pictures is, so that a share of 0.01 is no memory.
    """
    train = scene.data.split("train").images
    painted = np.asarray(scene.images)[scene.seen.numpy()]
    test = np.asarray(scene.data.split("test").images[scene.real_seen[:NEIGHBOURS_OF].numpy()])
    distances, nearest = nearest_pictures(painted, train)
    real_distances, real_nearest = nearest_pictures(test, train)
    rows, count = [], min(SHOWN, len(painted), len(test))
    for pictures, far, own in ((painted, distances, nearest), (test, real_distances, real_nearest)):
        shown = far.argsort(stable=True)[:count].numpy()
        rows += [pictures[shown], np.asarray(train[own[shown].numpy()])]
    save_png(neighbours(np.stack(rows)), layout.plot("neighbours"))
    return {
        "memorised": share_nearer(distances, real_distances),
        "nearest_training_distance": float(distances.mean()),
        "nearest_training_distance_real": float(real_distances.mean()),
    }


def headline(layout: Layout, figures: dict) -> dict[str, float]:
    """Returns the figures that `dvc exp show` compares: at most ten."""
    clip = json.loads(layout.metrics("train_clip").read_text(encoding="utf-8"))
    chosen = {name: figures[name] for name in HEADLINE if name in figures}
    return chosen | {name: clip[name] for name in ("zero_shot_accuracy",) if name in clip}


if __name__ == "__main__":
    main(STAGE, run)
