"""What vary, interpolate and edit reach: the pretrained system on real test pictures, judged.

A judge is trained for it, so this takes minutes. The pictures of Fashion-MNIST must be there, in
the folder that UNCLIP_DATA_DIR names.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from dag import REPO
from workspace import Workspace

from unclip.config.layout import Layout
from unclip.core.artifacts import build, load_artifact
from unclip.core.device import autocast
from unclip.data.prepared import Prepared
from unclip.diffusion.reverse import final
from unclip.evaluation.judging import judge_pictures
from unclip.models.judge import Judge
from unclip.painting.latents import edited, interpolated, latent_of
from unclip.painting.loading import load_system
from unclip.painting.options import EDIT_STRENGTH, VARY_ETA, ddim_options, painting_params_of
from unclip.painting.settings import Settings
from unclip.params.loading import changed_sample, load_params

PRETRAINED = REPO / "pretrained" / "fashion_mnist"
RAW = Path(os.environ.get("UNCLIP_DATA_DIR", "data/raw")) / "FashionMNIST" / "raw"
COUNT = 200  # pictures, as many of each garment; the bounds leave room for their chance
INVERTED = 40  # of them, whose noise is found, which takes longer
BATCH = 40

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(not RAW.is_dir(), reason="Fashion-MNIST is not here"),
]


def settings_of(*, invert: bool = False, **options: float) -> Settings:
    changes = ddim_options(options, invert=invert)
    return Settings.of(changed_sample(painting_params_of(PRETRAINED), changes), "cpu")


SETTINGS, INVERTING = settings_of(), settings_of(invert=True)


class Measured:
    """The system, real test pictures, and what the judge calls them."""

    def __init__(self, folder: Path) -> None:
        params = load_params(PRETRAINED / "params.yaml")
        folder.mkdir()
        workspace = Workspace(Layout(folder), params).run("prepare", "train_judge")
        self.data = Prepared(workspace.layout.prepared)
        where = workspace.layout.model("judge")
        self.judge = build(load_artifact(where, "judge"), Judge, where)
        self.system = load_system(PRETRAINED)
        captions = self.data.split("test").caption_index.numpy()
        rows = [np.flatnonzero(captions == i)[: COUNT // 10] for i in range(10)]
        chosen = np.stack(rows, axis=1).flatten()  # garments take turns
        self.captions = captions[chosen]
        self.pictures = self.data.split("test").gather(chosen).numpy()

    def seen(self, pictures):
        """The class that the judge sees in each picture."""
        return judge_pictures(self.judge, self.data, pictures, "cpu").predictions[:, 0].numpy()

    def wanted(self, captions):
        return self.data.caption_attributes.numpy()[captions, 0]

    def paint(self, latents, settings):
        """Many at once, which is faster and rounds otherwise in the last bit."""
        parts = []
        for start in range(0, len(latents), BATCH):
            some = latents[start : start + BATCH]
            embeds = torch.stack([latent.image_embed for latent in some])
            x_T = None if some[0].x_T is None else torch.stack([latent.x_T for latent in some])
            seeds = range(start, start + len(some))
            with autocast("cpu", settings.precision):
                steps = self.system.denoise(embeds, None, seeds, settings, x_T)
                parts.append(self.system.to_uint8(final(steps)))
        return np.concatenate(parts)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_TRACKING", "off")
        patch.setenv("UNCLIP_DEVICE", "cpu")
        return Measured(tmp_path_factory.mktemp("measured") / "fashion_mnist")


def error(one, other):
    """The mean absolute error of each picture, of pixels in [0, 1]."""
    return np.abs(one.astype(float) - other).mean(axis=(1, 2, 3)) / 255


def tell(what, values):
    """Prints a figure of docs/verbs.md with its 95 % margin; returns it."""
    values = np.asarray(values, float)
    margin = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    print(f"{what}: {values.mean():.3f} ± {margin:.3f} of {len(values)}, worst {values.max():.3f}")
    return values.mean()


@pytest.fixture(scope="module")
def inverted(measured):
    return [latent_of(measured.system, p, 0, INVERTING) for p in measured.pictures[:INVERTED]]


def targets_of(measured):
    """For each picture a garment that it is not; every pair comes up about as often."""
    return (measured.captions + 1 + np.arange(COUNT) // 10 % 9) % 10


def edits(measured, latents):
    """The latents, each moved from its own caption to the one that is wanted."""
    moved = []
    for latent, caption, target in zip(
        latents, measured.captions, targets_of(measured), strict=False
    ):
        names = measured.data.captions[caption], measured.data.captions[target]
        moved.append(edited(measured.system, latent, *names, EDIT_STRENGTH, 2, SETTINGS)[-1])
    return moved


def test_inverted_pictures_come_back_and_led_away_they_stay_what_they_are(measured, inverted):
    pictures = measured.pictures[:INVERTED]
    back = measured.paint(inverted, settings_of(invert=True, eta=0.0))
    tell("vary --invert --eta 0, error", error(back, pictures))
    assert error(back, pictures).max() < 0.05
    away = measured.paint(inverted, settings_of(invert=True, eta=VARY_ETA))
    assert tell("vary --invert, same", measured.seen(away) == measured.seen(pictures)) >= 0.85
    tell("vary --invert, difference", error(away, pictures))
    assert error(away, pictures).min() > 0.005


def test_variations_from_other_noise_are_mostly_what_they_were_and_none_is_the_same(measured):
    latents = [latent_of(measured.system, picture, 0) for picture in measured.pictures]
    painted, seen = measured.paint(latents, SETTINGS), measured.seen(measured.pictures)
    tell("the judge is right about real pictures", seen == measured.wanted(measured.captions))
    assert tell("vary, same", measured.seen(painted) == seen) >= 0.8
    tell("vary, difference", error(painted, measured.pictures))
    assert error(painted, measured.pictures).min() > 0.005


def test_the_ends_of_an_inverted_way_are_the_pictures(measured, inverted):
    way = interpolated(measured.system, *inverted[:2], 3, slerp_noise=True)
    painted, ends = measured.paint(way, INVERTING), measured.pictures[:2]
    assert error(painted[[0, -1]], ends).max() < 0.05
    assert error(painted[[1, 1]], ends).min() > 0.02


def test_edits_reach_the_class_of_the_caption_that_is_wanted(measured):
    pictures = enumerate(measured.pictures)
    latents = [latent_of(measured.system, picture, i) for i, picture in pictures]
    painted = measured.paint(edits(measured, latents), SETTINGS)
    wanted = measured.wanted(targets_of(measured))
    assert tell("edit, reached", measured.seen(painted) == wanted) >= 0.75


def test_edits_from_the_pictures_own_noise_reach_it_in_the_greater_part(measured, inverted):
    painted = measured.paint(edits(measured, inverted), INVERTING)
    wanted = measured.wanted(targets_of(measured))[:INVERTED]
    assert tell("edit --invert, reached", measured.seen(painted) == wanted) > 0.6
