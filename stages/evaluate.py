"""Judges the painted pictures, always beside the figures of real ones. It paints nothing."""

import json
import sys
from itertools import islice

from PIL import Image

from unclip.config.layout import MODEL_OF_STAGE, Layout
from unclip.core.artifacts import write_metrics
from unclip.evaluation.accuracy import accuracy_figures
from unclip.evaluation.copies import copy_figures
from unclip.evaluation.likeness import prior_figures, sample_figures
from unclip.evaluation.scene import Scene
from unclip.params.sections import EvaluateParams
from unclip.pictures.charts import bar_accuracies, curves
from unclip.pictures.history import read_history
from unclip.pictures.png import save_png
from unclip.pictures.sheets import neighbours
from unclip.running.stage import main

STAGE = "evaluate"
HEADLINE = (  # the figures that `dvc exp show` compares, beside CLIP's zero-shot accuracy
    *("joint_accuracy", "joint_accuracy_held_out", "judge_real_accuracy"),
    *("frechet_distance", "frechet_distance_floor", "texture_distance", "texture_distance_floor"),
    *("coverage", "diversity"),
)
MOST_BARS = 100  # of the chart of accuracies


def run(layout: Layout, evaluate: EvaluateParams) -> None:
    """Writes metrics/evaluate.json, metrics/headline.json and the plots."""
    scene = Scene.of(layout)
    clip = json.loads(layout.metrics("train_clip").read_text(encoding="utf-8"))
    if not scene.data.attribute_names:
        why = f"{scene.data.name} has no attributes, so accuracy is left out"
        print(f"{STAGE}: {why}", file=sys.stderr)

    figures = accuracy_figures(scene, seed=evaluate.seed) | sample_figures(scene, evaluate)
    copies, nearest = copy_figures(scene)
    figures |= prior_figures(scene) | copies
    headline = {name: figures[name] for name in HEADLINE if name in figures}
    headline |= {name: clip[name] for name in clip if name == "zero_shot_accuracy"}

    write_metrics(layout.metrics(STAGE), figures)
    write_metrics(layout.metrics("headline"), headline)
    save_png(_accuracy_chart(figures), layout.plot("accuracy"))
    save_png(neighbours(nearest), layout.plot("neighbours"))
    for stage in MODEL_OF_STAGE:
        save_png(curves(read_history(layout.history(stage)), stage), layout.plot(stage))


def _accuracy_chart(figures: dict) -> Image.Image:
    """Returns the chart of the accuracy of each caption, or of each word if captions are many."""
    each = "caption" if "accuracy_per_caption" in figures else "word"
    painted, real = (figures.get(f"{kind}_per_{each}", {}) for kind in ("accuracy", "judge_real"))
    shown = dict(islice(painted.items(), MOST_BARS))
    return bar_accuracies(shown, real, "Does the judge see what the caption says?")


if __name__ == "__main__":
    main(STAGE, run)
