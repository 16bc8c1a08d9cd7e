"""One trained system painted from in many ways, with everything else the same."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.image import total_variation

from unclip.config.layout import Layout
from unclip.core.artifacts import build, load_artifact
from unclip.core.device import Machine, open_machine
from unclip.data.prepared import Prepared
from unclip.diffusion.reverse import Solver
from unclip.evaluation.distances import frechet_distance, split_real
from unclip.evaluation.judging import accuracies, judge_pictures
from unclip.models.judge import Judge
from unclip.painting.judged import judged_captions
from unclip.painting.system import Settings, System
from unclip.params.sections import SampleParams, SweepParams
from unclip.pictures.charts import heat_maps, lines
from unclip.pictures.png import save_png
from unclip.pictures.sheets import grid
from unclip.running.progress import track

SAMPLERS = ("dpmpp_2m", "ddim", "ddpm")
FIGURES = {
    "frechet_distance": "Fréchet distance",
    "joint_accuracy": "accuracy",
    "roughness": "roughness (real pictures: 1)",
}
VARIATION_OF = 2000  # real pictures whose roughness is that of all
Pictures = npt.NDArray[np.uint8]
Row = dict[str, Any]


@dataclass(frozen=True)
class Studio:
    """A trained system, what it paints, and who judges it.

    Attributes:
        layout: the workspace.
        machine: where it computes.
        data: the prepared data set.
        system: the networks.
        judge: measures what they paint.
        settings: how they paint where nothing else is said.
        sweep: what is tried.
        seed: of the first picture.
        captions: (N,) int64, of the pictures that are judged.
        reference: (M, F), the judge's features of real validation pictures: what is chosen by a
            sweep is chosen without the test pictures.
        floor: the Fréchet distance of as many real pictures.
        variation: mean total variation of the real pictures.
    """

    layout: Layout
    machine: Machine
    data: Prepared
    system: System
    judge: Judge
    settings: Settings
    sweep: SweepParams
    seed: int
    captions: Tensor
    reference: Tensor
    floor: float
    variation: float

    @classmethod
    def of(cls, layout: Layout, sample: SampleParams, sweep: SweepParams) -> "Studio":
        """Returns the studio of a workspace."""
        machine, data = open_machine(sample.precision), Prepared(layout.prepared)
        where = layout.model("judge")
        judge = build(load_artifact(where, "judge"), Judge, where).to(machine.device)
        assert isinstance(judge, Judge)
        captions = judged_captions(data, sweep.num_pictures, sample.seed)[: sweep.num_pictures]
        val = data.split("val")
        features = judge_pictures(judge, data, val.images, machine.device).features
        real = split_real(torch.arange(len(val)), len(captions), sample.seed)
        reference = features[real.reference]
        return cls(
            layout,
            machine,
            data,
            System.load(layout.models, machine.device),
            judge,
            Settings.of(sample),
            sweep,
            sample.seed,
            captions,
            reference,
            frechet_distance(features[real.floor], reference),
            mean_variation(np.asarray(val.images[real.reference[:VARIATION_OF].numpy()])),
        )

    def sweep_guidance(self) -> None:
        """Prior × decoder: heat maps, a table, and a grid of one picture a setting."""
        scales = self.sweep.guidances
        ways = list(product(scales, scales))
        rows, firsts = [], []
        for prior, decoder in track(ways, "guidance", len(ways)):
            settings = replace(
                self.settings,
                prior=replace(self.settings.prior, guidance=prior),
                decoder=replace(self.settings.decoder, guidance=decoder),
            )
            pictures = self._paint(settings)
            firsts.append(pictures[0])
            rows.append({"prior_guidance": prior, "guidance": decoder} | self._figures(pictures))
        square = (len(scales), len(scales))
        panels = {
            name: np.array([row[key] for row in rows]).reshape(square)
            for key, name in FIGURES.items()
            if key in rows[0]
        }
        names = ("guidance of the prior", "guidance of the decoder")
        self._save(heat_maps(panels, scales, names, f"Guidance, {self._count}"), "guidance")
        self._save_grid(
            firsts,
            [f"prior {scale:g}" for scale in scales],
            [f"decoder {scale:g}" for scale in scales],
            "guidance_grid",
        )
        self._write(rows, "guidance")

    def sweep_steps(self) -> None:
        """Steps × sampler, with guidance and without: lines, a table, and a grid."""
        scales = dict.fromkeys((self.settings.decoder.guidance, 1.0))
        ways = list(product(SAMPLERS, scales))
        tries = list(product(ways, self.sweep.steps))
        rows, firsts = [], []
        for (sampler, guidance), steps in track(tries, "steps", len(tries)):
            solver = Solver(sampler, steps, self.settings.decoder.eta, guidance)
            pictures = self._paint(replace(self.settings, decoder=solver))
            firsts.append(pictures[0])
            setting: Row = {"sampler": sampler, "guidance": guidance, "steps": steps}
            rows.append(setting | self._figures(pictures))
        labels = {way: f"{way[0]}, guidance {way[1]:g}" for way in ways}
        panels: dict[str, dict[str, list[tuple[float, float]]]] = {
            name: {label: [] for label in labels.values()}
            for key, name in FIGURES.items()
            if key in rows[0]
        }
        for row in rows:
            for key, name in FIGURES.items():
                if key not in row:
                    continue
                label = labels[row["sampler"], row["guidance"]]
                panels[name][label].append((row["steps"], row[key]))
        title = f"Steps of the decoder, {self._count}"
        self._save(lines(panels, "steps", title), "steps")
        headings = [f"{steps} steps" for steps in self.sweep.steps]
        self._save_grid(firsts, list(labels.values()), headings, "steps_grid")
        self._write(rows, "steps")

    @property
    def _count(self) -> str:
        return f"{len(self.captions)} pictures each (floor of the distance {self.floor:.2f})"

    def _save_grid(
        self, pictures: list[Pictures], labels: list[str], headings: list[str], name: str
    ) -> None:
        """Writes the first picture of every setting: one caption, one noise."""
        shape = (len(labels), len(headings), *pictures[0].shape)
        sheet = grid(np.stack(pictures).reshape(shape), labels, headings=headings)
        self._save(sheet, name, {"prompt": self.data.captions[int(self.captions[0])]})

    def _paint(self, settings: Settings) -> Pictures:
        prompts = [self.data.captions[i] for i in self.captions.tolist()]
        with self.machine.accelerator.autocast():
            return self.system.paint(prompts, range(self.seed, self.seed + len(prompts)), settings)

    def _figures(self, pictures: Pictures) -> dict[str, float]:
        """Returns FIGURES of pictures; no accuracy where a data set has no attributes."""
        verdict = judge_pictures(self.judge, self.data, pictures, self.machine.device)
        wanted = self.data.caption_attributes[self.captions]
        names = self.data.attribute_names
        figures = {
            "frechet_distance": frechet_distance(verdict.features, self.reference),
            "frechet_distance_floor": self.floor,
            "roughness": mean_variation(pictures) / self.variation,
        }
        if names:
            found = accuracies(verdict.predictions, wanted, names)
            figures["joint_accuracy"] = found["joint_accuracy"]
        return figures

    def _save(self, image: Image.Image, name: str, text: dict[str, str] | None = None) -> None:
        save_png(image, self.layout.sweep / f"{name}.png", text)

    def _write(self, rows: Sequence[Row], name: str) -> None:
        """Writes rows as a CSV, floats with six digits."""
        with (self.layout.sweep / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(rows[0])
            for row in rows:
                writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in row.values())


def mean_variation(pictures: Pictures) -> float:
    """Returns the mean total variation of pictures (N, C, H, W), of pixels in [0, 255].

    It is the sum of absolute differences between neighbouring pixels (Rudin et al. 1992): noise and
    grain raise it, blur lowers it.
    """
    return float(total_variation(torch.tensor(pictures).float(), reduction="mean"))
