"""One trained system, painting with many settings and everything else the same."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import total_variation

from unclip.config.layout import Layout
from unclip.core.artifacts import build, load_artifact
from unclip.core.device import open_device
from unclip.data.prepared import Prepared
from unclip.diffusion.samplers import SAMPLERS
from unclip.evaluation.distances import frechet_distance, split_real
from unclip.evaluation.judging import accuracies, judge_pictures
from unclip.models.judge import Judge
from unclip.painting.judged import judged_captions
from unclip.painting.loading import load_system
from unclip.painting.settings import Settings
from unclip.painting.system import Pictures, System
from unclip.params.sections import SampleParams
from unclip.pictures.charts import heat_maps, lines
from unclip.pictures.png import save_png
from unclip.pictures.sheets import grid
from unclip.running.progress import track

FIGURES = {
    "frechet_distance": "Fréchet distance",
    "joint_accuracy": "accuracy",
    "roughness": "roughness (real pictures: 1)",
}
VARIATION_OF = 2000  # real pictures, at most, whose roughness is the unit
Row = dict[str, Any]  # a setting, and its figures
Try = tuple[Row, Settings]


@dataclass(frozen=True)
class Sweep:
    """A trained system, what it paints, and what measures that.

    Attributes:
        data: the prepared data set.
        system: paints.
        judge: measures what is painted.
        settings: default settings.
        seed: of the first picture.
        captions: (N,) int64, of the pictures to judge.
        reference: (M, F), the judge's features of real validation pictures, so that settings are
            chosen without the test pictures.
        floor: the Fréchet distance of as many real pictures.
        variation: mean total variation of the real pictures.
        out: folder for tables, plots and grids.
    """

    data: Prepared
    system: System
    judge: Judge
    settings: Settings
    seed: int
    captions: Tensor
    reference: Tensor
    floor: float
    variation: float
    out: Path

    @classmethod
    def of(cls, layout: Layout, sample: SampleParams, num: int, out: Path) -> "Sweep":
        """Returns the sweep of a workspace, with `num` pictures of each setting."""
        device, data = open_device(), Prepared(layout.prepared)
        where = layout.model("judge")
        judge = build(load_artifact(where, "judge"), Judge, where).to(device)
        val = data.split("val")
        features = judge_pictures(judge, data, val.images, device).features
        captions = judged_captions(data, num, sample.seed)[:num]
        real = split_real(torch.arange(len(val)), len(captions), sample.seed)
        reference = features[real.reference]
        return cls(
            data,
            load_system(layout.models, device),
            judge,
            Settings.of(sample, device),
            sample.seed,
            captions,
            reference,
            frechet_distance(features[real.floor], reference),
            mean_variation(np.asarray(val.images[real.reference[:VARIATION_OF].numpy()])),
            out,
        )

    def guidance(self, scales: Sequence[float]) -> None:
        """Writes prior × decoder guidance: heat maps, a table, and a grid."""
        prior, decoder = self.settings.prior, self.settings.decoder
        tries: list[Try] = [
            (
                {"prior_guidance": one, "guidance": other},
                replace(
                    self.settings,
                    prior=replace(prior, guidance=one),
                    decoder=replace(decoder, guidance=other),
                ),
            )
            for one, other in product(scales, scales)
        ]
        headings = [f"decoder {scale:g}" for scale in scales]
        rows = self._try("guidance", tries, [f"prior {scale:g}" for scale in scales], headings)
        panels = {
            name: np.array([row[key] for row in rows]).reshape(len(scales), len(scales))
            for key, name in FIGURES.items()
            if key in rows[0]
        }
        names = ("guidance of the prior", "guidance of the decoder")
        chart = heat_maps(panels, scales, names, f"Guidance, {self._count}")
        save_png(chart, self.out / "guidance.png")

    def steps(self, counts: Sequence[int]) -> None:
        """Writes steps × sampler, with and without guidance: lines, a table, and a grid."""
        decoder = self.settings.decoder
        ways = list(product(SAMPLERS, dict.fromkeys((decoder.guidance, 1.0))))
        tries: list[Try] = [
            (
                {"sampler": sampler, "guidance": guidance, "steps": steps},
                replace(
                    self.settings,
                    decoder=replace(decoder, sampler=sampler, steps=steps, guidance=guidance),
                ),
            )
            for (sampler, guidance), steps in product(ways, counts)
        ]
        labels = [f"{sampler}, guidance {guidance:g}" for sampler, guidance in ways]
        rows = self._try("steps", tries, labels, [f"{steps} steps" for steps in counts])
        panels = {
            name: {
                label: [(row["steps"], row[key]) for row in rows[i : i + len(counts)]]
                for i, label in zip(range(0, len(rows), len(counts)), labels, strict=True)
            }
            for key, name in FIGURES.items()
            if key in rows[0]
        }
        chart = lines(panels, "steps", f"Steps of the decoder, {self._count}")
        save_png(chart, self.out / "steps.png")

    @property
    def _count(self) -> str:
        return f"{len(self.captions)} pictures each (floor of the distance {self.floor:.2f})"

    def _try(
        self, name: str, tries: list[Try], labels: list[str], headings: list[str]
    ) -> list[Row]:
        """Paints with every setting; returns the figures and writes them and a grid.

        The grid shows the first picture of every setting: one caption, one noise.
        """
        rows, firsts = [], []
        for setting, settings in track(tries, name, len(tries)):
            pictures = self._paint(settings)
            firsts.append(pictures[0])
            rows.append(setting | self._figures(pictures))
        images = np.stack(firsts).reshape(len(labels), len(headings), *firsts[0].shape)
        note = {"prompt": self.data.captions[int(self.captions[0])]}
        save_png(grid(images, labels, headings=headings), self.out / f"{name}_grid.png", note)
        with (self.out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(rows[0])
            for row in rows:
                writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in row.values())
        return rows

    def _paint(self, settings: Settings) -> Pictures:
        prompts = [self.data.captions[i] for i in self.captions.tolist()]
        seeds = range(self.seed, self.seed + len(prompts))
        embeds = self.system.sample_prior(prompts, seeds, settings)
        return self.system.decode(embeds, prompts, seeds, settings)

    def _figures(self, pictures: Pictures) -> dict[str, float]:
        """Returns FIGURES of pictures, without accuracy if the data set has no attributes."""
        verdict = judge_pictures(self.judge, self.data, pictures, self.system.device)
        figures = {
            "frechet_distance": frechet_distance(verdict.features, self.reference),
            "frechet_distance_floor": self.floor,
            "roughness": mean_variation(pictures) / self.variation,
        }
        if names := self.data.attribute_names:
            wanted = self.data.caption_attributes[self.captions]
            found = accuracies(verdict.predictions, wanted, names)
            figures["joint_accuracy"] = found["joint_accuracy"]
        return figures


def mean_variation(pictures: Pictures) -> float:
    """Returns the mean total variation of pictures (N, C, H, W), of pixels in [0, 255].

    The sum of absolute differences between neighbouring pixels (Rudin et al. 1992), which noise and
    grain raise and blur lowers.
    """
    return float(total_variation(torch.tensor(pictures).float(), reduction="mean"))
