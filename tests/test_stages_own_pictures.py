"""The stages on pictures of one's own that have no attributes, for real but tiny.

Every caption is another one, so that most captions of test pictures were never trained.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from own_folders import write_csv
from PIL import Image
from workspace import Workspace

from stages.train_judge import turned
from unclip.core.artifacts import load_artifact
from unclip.data.prepared import Prepared

pytestmark = pytest.mark.usefixtures("on_cpu")
COUNT = 240
STAGES = ("prepare", "train_clip", "train_prior", "train_decoder", "train_judge", "sample")


def write_lit_pictures(folder: Path) -> None:
    """Writes pictures that are light at the top and dark at the bottom, each with its own words."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(COUNT):
        draws = np.random.default_rng(number)
        light = np.linspace(220, 30, 16)[:, None, None] + draws.normal(0, 12, (16, 16, 3))
        name = f"{number:03}.png"
        Image.fromarray(light.clip(0, 255).astype(np.uint8)).save(folder / name)
        rows.append({"file_name": name, "text": f"shade{number} of{number}"})
    write_csv(folder, rows)


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Workspace:
    """A workspace in which everything has run."""
    folder = tmp_path_factory.mktemp("own")
    write_lit_pictures(folder / "mine")
    images = {"folder": "mine", "test_fraction": 0.25, "caption": "{}", "allow_flip": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_TRACKING", "off")
        patch.setenv("UNCLIP_DEVICE", "cpu")
        workspace = Workspace.at(
            folder,
            data={"dataset": "image_folder", "image_folder": images},
            judge={"train_steps": 60, "warmup_steps": 5, "val_every": 60, "lr": 0.01},
            sample={"num_judged": 24},
        )
        return workspace.run(*STAGES, "paint_controls", "evaluate")


def metrics(workspace: Workspace, name: str) -> dict[str, float]:
    return json.loads(workspace.layout.metrics(name).read_text(encoding="utf-8"))


def test_pictures_are_turned_by_as_many_quarters_as_is_said():
    images = torch.randint(0, 256, (64, 3, 6, 6), dtype=torch.uint8)
    before = images.clone()
    found, turns = turned(images, torch.Generator().manual_seed(0))
    assert turns.shape == (64, 1)
    assert sorted(set(turns[:, 0].tolist())) == [0, 1, 2, 3]
    for picture, original, turn in zip(found, images, turns[:, 0].tolist(), strict=True):
        expected = np.rot90(original.numpy(), turn, axes=(1, 2))
        assert (picture.numpy() == expected).all()
    assert (images == before).all()


def test_the_judge_learns_which_way_up_they_are(own):
    figures = metrics(own, "train_judge")
    assert figures["val_turn_accuracy"] > 0.9  # by chance 0.25
    assert load_artifact(own.layout.model("judge"), "judge").config["num_values"] == [4]
    assert "val_turn_accuracy" in own.layout.history("train_judge").read_text().splitlines()[0]


def test_no_accuracy_is_told_and_every_distance_is(own):
    told = metrics(own, "evaluate") | metrics(own, "headline") | metrics(own, "train_judge")
    accuracies = {name for name in told if "accuracy" in name} - {"val_turn_accuracy"}
    assert accuracies == {"zero_shot_accuracy"}  # CLIP's own
    for name in ("frechet_distance", "kernel_distance", "precision", "coverage", "memorised"):
        assert np.isfinite(told[name]), name
    assert told["frechet_distance"] > told["frechet_distance_floor"] > 0
    assert told["num_samples"] == 24


def test_what_is_drawn_is_drawn_without_it(own):
    with Image.open(own.layout.plot("accuracy")) as image:
        assert image.size[0] > 50


def test_the_grid_shows_a_real_picture_of_each_prompt(own):
    data = Prepared(own.layout.prepared)
    tested = {data.captions[i] for i in data.split("test").caption_index.tolist()}
    assert len(data.prompts) == 8
    assert set(data.prompts[6:]) <= tested
    assert len(data.real_pictures(data.prompts)) == 8
