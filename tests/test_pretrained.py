"""What is given away: the folder that comes with the code, and the tool that makes such folders."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from dag import REPO
from safetensors.torch import load_file
from test_stages_painting import judged  # noqa: F401

from unclip.config.layout import KINDS
from unclip.painting.system import Settings, System
from unclip.params.loading import load_params

PRETRAINED = REPO / "pretrained" / "fashion_mnist"
MOST_BYTES = 10_000_000


def test_the_folder_is_small_and_holds_nothing_but_text_pictures_and_weights():
    files = [path for path in PRETRAINED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    assert {path.suffix for path in files} == {".json", ".md", ".png", ".safetensors", ".yaml"}


def test_it_paints_a_picture_of_each_of_its_captions():
    system = System.load(PRETRAINED)
    settings = Settings.of(load_params(PRETRAINED / "params.yaml").sample)
    pictures = system.paint(system.prompts, range(len(system.prompts)), settings)
    assert pictures.shape == (10, 1, 32, 32)
    assert pictures[:, :, :2].max() < 60, "garments have a black border"
    assert pictures.max(axis=(1, 2, 3)).min() > 100, "every picture shows something"


def test_its_card_states_the_figures_that_lie_beside_it():
    card = (PRETRAINED / "README.md").read_text(encoding="utf-8")
    figures = json.loads((PRETRAINED / "evaluate.json").read_text(encoding="utf-8"))
    for name, digits in (("joint_accuracy", 3), ("frechet_distance", 2), ("diversity", 3)):
        assert f"{figures[name]:.{digits}f} ± {figures[f'{name}_margin']:.{digits}f}" in card
    assert f"{figures['frechet_distance_floor']:.2f}" in card


def make(workspace, *arguments):
    """Runs the tool in a workspace; gives its status and what it says in stderr."""
    command = (sys.executable, REPO / "tools" / "make_pretrained.py", *arguments)
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True)
    return done.returncode, done.stderr


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def given(judged, tmp_path_factory):  # noqa: F811
    """The folder that the tool makes of a tiny trained workspace."""
    folder = tmp_path_factory.mktemp("given") / "tiny"
    assert make(judged.layout.root, folder) == (0, "")
    return folder


def test_the_tool_halves_the_weights_and_changes_pictures_by_little(given, judged):  # noqa: F811
    for kind in KINDS:
        weights = load_file(given / kind / "model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    settings = Settings.of(judged.params.sample)
    whole, halved = (
        System.load(folder).paint(["a large red circle"] * 4, range(4), settings).astype(int)
        for folder in (judged.layout.models, given)
    )
    assert np.abs(whole - halved).mean() < 3


def test_the_tool_keeps_recipe_and_figures(given, judged):  # noqa: F811
    for name, source in (
        ("params.yaml", judged.layout.params),
        ("evaluate.json", judged.layout.metrics("evaluate")),
        ("grid.png", judged.layout.grid),
    ):
        assert (given / name).read_bytes() == source.read_bytes()


def test_the_tool_makes_its_own_folder_anew_and_leaves_nothing_beside_it(given, judged):  # noqa: F811
    before = contents(given)
    (given / "README.md").write_text("an old card")
    assert make(judged.layout.root, given) == (0, "")
    assert contents(given) == before
    assert list(given.parent.iterdir()) == [given]


def test_where_nothing_is_trained_the_tool_leaves_the_folder_as_it_was(given, tmp_path):
    before = contents(given)
    status, said = make(tmp_path, given)
    assert status == 1
    assert said.startswith("error: models/clip: not there yet; ")
    assert said.count("\n") == 1
    assert contents(given) == before
    assert list(given.parent.iterdir()) == [given]


@pytest.mark.parametrize("name", [".", "models", "models/clip", "params.yaml", "own"])
def test_the_tool_refuses_a_folder_that_it_did_not_make(judged, name):  # noqa: F811
    root = judged.layout.root
    (root / "own").mkdir(exist_ok=True)
    (root / "own" / "notes.txt").write_text("mine")
    before = contents(root)
    status, said = make(root, name)
    assert status == 1
    assert said.startswith(f"error: {name}: holds something else; ")
    assert said.count("\n") == 1
    assert contents(root) == before


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]], ids=" ".join)
def test_the_tool_asks_for_one_folder(tmp_path, arguments):
    status, said = make(tmp_path, *arguments)
    assert status == 1
    assert said == "error: expected one folder: python tools/make_pretrained.py FOLDER\n"
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_folder_can_be_is_one_line(judged):  # noqa: F811
    status, said = make(judged.layout.root, "params.yaml/tiny")
    assert status == 1
    assert said.startswith("error: [Errno ")
    assert said.count("\n") == 1
