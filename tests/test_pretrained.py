"""What is given away: the folder that comes with the code, and the tool that makes such folders."""

import json
import runpy
import shutil
import sys

import numpy as np
import pytest
import torch
from dag import REPO
from safetensors.torch import load_file

from unclip.config.layout import KINDS, Layout
from unclip.painting.loading import load_system
from unclip.painting.settings import Settings
from unclip.params.loading import load_params

PRETRAINED = REPO / "pretrained" / "fashion_mnist"
TOOL = REPO / "tools" / "make_pretrained.py"
MOST_BYTES = 10_000_000


def test_the_folder_is_small_and_holds_nothing_but_text_pictures_and_weights():
    files = [path for path in PRETRAINED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    assert {path.suffix for path in files} == {".json", ".md", ".png", ".safetensors", ".yaml"}


def test_it_paints_a_picture_of_each_of_its_captions():
    system = load_system(PRETRAINED)
    settings = Settings.of(load_params(PRETRAINED / "params.yaml").sample, "cpu")
    pictures = system.paint(system.prompts, [0], settings)[:, 0]
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
    """Runs the tool in a workspace; gives what it ends with, None where all went well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        patch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        try:
            runpy.run_path(str(TOOL), run_name="__main__")
        except SystemExit as exit_:
            return str(exit_.code)
        return None


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    """A tiny trained workspace with some figures."""
    root = tmp_path_factory.mktemp("judged") / "workspace"
    shutil.copytree(trained.layout.root, root)
    layout = Layout(root)
    layout.metrics("evaluate").write_text('{"num_samples": 7, "frechet_distance": 1.5}')
    return layout


@pytest.fixture(scope="module")
def given(workspace, tmp_path_factory):
    """The folder that the tool makes of it."""
    folder = tmp_path_factory.mktemp("given") / "tiny"
    assert make(workspace.root, folder) is None
    return folder


def test_the_tool_halves_the_weights_and_changes_pictures_by_little(given, workspace, trained):
    for kind in KINDS:
        weights = load_file(given / kind / "model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    settings = Settings.of(trained.params.sample, "cpu")
    whole, halved = (
        load_system(folder).paint(["a large red circle"], range(4), settings).astype(int)
        for folder in (workspace.models, given)
    )
    assert np.abs(whole - halved).mean() < 3


def test_the_tool_keeps_params_and_figures(given, workspace):
    for name, source in (
        ("params.yaml", workspace.params),
        ("evaluate.json", workspace.metrics("evaluate")),
        ("grid.png", workspace.grid),
    ):
        assert (given / name).read_bytes() == source.read_bytes()


def test_the_tool_makes_its_own_folder_anew_and_leaves_nothing_beside_it(given, workspace):
    before = contents(given)
    (given / "README.md").write_text("an old card")
    assert make(workspace.root, given) is None
    assert contents(given) == before
    assert list(given.parent.iterdir()) == [given]


def test_where_nothing_is_trained_the_tool_leaves_the_folder_as_it_was(given, tmp_path):
    before = contents(given)
    assert make(tmp_path, given).startswith("error: models/clip/model.json: is missing; ")
    assert contents(given) == before
    assert list(given.parent.iterdir()) == [given]


@pytest.mark.parametrize("name", [".", "models", "models/clip", "params.yaml", "own"])
def test_the_tool_refuses_a_folder_that_it_did_not_make(workspace, name):
    (workspace.root / "own").mkdir(exist_ok=True)
    (workspace.root / "own" / "notes.txt").write_text("mine")
    before = contents(workspace.root)
    assert make(workspace.root, name).startswith(f"error: {name}: holds something else; ")
    assert contents(workspace.root) == before


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]], ids=" ".join)
def test_the_tool_asks_for_one_folder(tmp_path, arguments):
    assert "expected one folder" in make(tmp_path, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_folder_can_be_is_one_line(workspace):
    assert "params.yaml" in make(workspace.root, "params.yaml/tiny")
