"""The system for scripts and notebooks: few words, and the same pictures as the parts give."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from dag import REPO
from dvc_repo import Lab
from pages import blocks
from PIL import Image
from systems import random_system
from tiny_params import tiny_params, write_params

from unclip.api import UnCLIP
from unclip.config.errors import UserError
from unclip.painting.system import Settings, System
from unclip.params.loading import load_params

SYSTEM = random_system()
PROMPTS = ["a red circle", "a blue star"]
PICTURE = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
FAST = {"steps": 3, "prior_steps": 2}
SAMPLE = load_params(REPO / "params.yaml").sample


def close(one, other) -> bool:
    return np.abs(one.astype(int) - other.astype(int)).max() <= 1


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(PICTURE.transpose(1, 2, 0)).save(path)
    return path


# sample


def test_pictures_stand_in_a_row_for_each_prompt():
    rows = SYSTEM.sample(PROMPTS, num=3, seed=5, **FAST)
    assert (rows.shape, rows.dtype) == ((2, 3, 3, 8, 8), np.uint8)
    settings = Settings.of(SAMPLE.model_copy(update=FAST))
    for row, prompt in zip(rows, PROMPTS, strict=True):
        for picture, seed in zip(row, (5, 6, 7), strict=True):
            assert close(SYSTEM.paint([prompt], [seed], settings)[0], picture)


def test_what_is_not_named_comes_from_params():
    rows = SYSTEM.sample(PROMPTS[:1])
    assert rows.shape[:2] == (1, SAMPLE.num_per_prompt)
    seeds = range(SAMPLE.seed, SAMPLE.seed + SAMPLE.num_per_prompt)
    expected = SYSTEM.paint(PROMPTS[:1] * len(seeds), seeds, Settings.of(SAMPLE))
    assert np.array_equal(rows[0], expected)


def test_a_single_string_is_one_prompt():
    one = SYSTEM.sample("a red circle", num=1, **FAST)
    assert np.array_equal(one, SYSTEM.sample(["a red circle"], num=1, **FAST))


def test_options_change_the_picture():
    plain, guided = (SYSTEM.sample(PROMPTS, num=1, guidance=g, **FAST) for g in (1, 4))
    assert not close(plain, guided)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"guidence": 2}, "options: sample.guidence: unknown key (did you mean sample.guidance?)"),
        ({"guidance": -1}, "options: sample.guidance: -1 is not allowed"),
        ({"num": 0}, "options: sample.num_per_prompt: 0 is not allowed"),
        ({"seed": 0.5}, "options: sample.seed: 0.5 is not allowed"),
    ],
)
def test_an_option_that_makes_no_sense_is_a_line(options, line):
    with pytest.raises(UserError) as caught:
        SYSTEM.sample(PROMPTS, **options)
    assert str(caught.value).startswith(line)


# vary, interpolate, edit


def test_a_picture_is_varied_from_an_array_and_from_a_file(file):
    pictures = SYSTEM.vary(PICTURE, num=3, seed=2, **FAST)
    assert pictures.shape == (3, 3, 8, 8)
    assert len({picture.tobytes() for picture in pictures}) == 3
    for source in (file, str(file)):
        assert np.array_equal(SYSTEM.vary(source, num=3, seed=2, **FAST), pictures)


def test_inverted_and_without_fresh_noise_a_picture_comes_back():
    (painted,) = SYSTEM.sample("a red circle", num=1, **FAST)[0]
    options = {"num": 1, "invert": True, "steps": 20}
    (same,) = SYSTEM.vary(painted, eta=0, **options)
    (other,) = SYSTEM.vary(painted, eta=1, **options)
    assert np.abs(same.astype(int) - painted).mean() < 8
    assert np.abs(other.astype(int) - painted).mean() > 20


def test_the_way_goes_between_pictures_and_prompts(file):
    frames = SYSTEM.interpolate(file, "a red circle", frames=4, seed=2, **FAST)
    assert frames.shape == (4, 3, 8, 8)
    assert np.array_equal(frames[0], SYSTEM.vary(file, num=1, seed=2, **FAST)[0])
    assert close(frames[-1], SYSTEM.sample("a red circle", num=1, seed=2, **FAST)[0, 0])


def test_an_edit_begins_with_the_picture_and_ends_elsewhere():
    frames = SYSTEM.edit(PICTURE, *PROMPTS, frames=3, seed=2, **FAST)
    assert frames.shape == (3, 3, 8, 8)
    assert np.array_equal(frames[0], SYSTEM.vary(PICTURE, num=1, seed=2, **FAST)[0])
    further = SYSTEM.edit(PICTURE, *PROMPTS, frames=3, seed=2, strength=0.9, **FAST)
    assert np.array_equal(further[0], frames[0])
    assert not np.array_equal(further[-1], frames[-1])


@pytest.mark.parametrize(
    "picture", [PICTURE[0], PICTURE.transpose(1, 2, 0), PICTURE / 255, PICTURE[:1]]
)
def test_an_array_of_another_kind_is_a_line(picture):
    with pytest.raises(UserError, match=r"^picture: is .*; expected \(3, 8, 8\) of uint8"):
        SYSTEM.vary(picture)


@pytest.mark.parametrize("source", ["a red circle", "nowhere.png"])
def test_what_names_no_file_can_not_be_varied(source):
    with pytest.raises(UserError, match=f"^{source}: no such file"):
        SYSTEM.vary(source)


# Where it comes from


def test_what_is_not_named_is_as_in_the_params_beside_the_networks(trained, tmp_path):
    (tmp_path / "models").symlink_to(trained.layout.models.resolve())
    params = trained.params.model_dump()
    params["sample"] |= {"num_per_prompt": 3, "guidance": 4.5, "seed": 2}
    write_params(tmp_path / "params.yaml", params)
    system = UnCLIP.load(tmp_path)
    pictures = system.sample("a large red circle")
    own = {"num": 3, "guidance": 4.5, "seed": 2}
    elsewhere = UnCLIP.load(trained.layout.root).sample("a large red circle", **own)
    assert np.array_equal(pictures, elsewhere)
    (tmp_path / "params.yaml").write_text("sample: {guidance: much}")
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))}/params.yaml: sample\."):
        UnCLIP.load(tmp_path)


def test_it_is_loaded_from_the_networks_or_from_the_folder_around_them(trained):
    systems = [
        UnCLIP.load(where)
        for where in (trained.layout.root, str(trained.layout.root), trained.layout.models)
    ]
    expected = System.load(trained.layout.models).hashes
    assert all(system.hashes == expected for system in systems)


@pytest.mark.slow
def test_it_is_loaded_from_an_earlier_revision(trained, tmp_path, monkeypatch):
    lab = Lab.beside(tmp_path / "repo")
    (lab.root / "readme.txt").write_text("an experiment")
    lab.start_git()
    lab.run("dvc", "init", "-q")
    names = ("clip", "prior", "decoder")
    for kind in names:
        for path in trained.layout.model(kind).iterdir():
            (lab.root / "models" / kind).mkdir(parents=True, exist_ok=True)
            (lab.root / "models" / kind / path.name).write_bytes(path.read_bytes())
    params = tiny_params()
    params["sample"] |= {"guidance": 4.5}
    del params["judge"]  # an older version had none
    write_params(lab.root / "params.yaml", params)
    lab.run("dvc", "add", "-q", *(f"models/{kind}" for kind in names))
    lab.run("git", "add", "-A")
    lab.run("git", "commit", "-qm", "trained")
    del params["sample"]["prior_candidates"]
    write_params(lab.root / "params.yaml", params)
    lab.run("git", "commit", "-qam", "of long ago")
    lab.run("git", "rm", "-qr", "models")
    lab.run("git", "commit", "-qm", "removed")
    monkeypatch.chdir(lab.root)
    system = UnCLIP.from_revision("HEAD~2")
    assert system.hashes == System.load(trained.layout.models).hashes
    assert system.recipe.sample.guidance == 4.5
    with pytest.raises(UserError) as caught:
        UnCLIP.from_revision("HEAD~1")
    assert str(caught.value).startswith(
        "--rev HEAD~1: its params.yaml does not say how to paint (sample.prior_candidates: missing"
    )
    command = re.search("`(.*)`", str(caught.value))[1].replace("FOLDER", "got")
    lab.run(*command.split())
    system = UnCLIP.load("got")
    assert system.hashes == System.load(trained.layout.models).hashes
    assert system.recipe.sample == SAMPLE
    with pytest.raises(UserError, match=r"^--rev HEAD: its checkpoints can not be had"):
        UnCLIP.from_revision("HEAD")


# What is shown to readers


def test_the_example_paints_three_sheets(tmp_path):
    done = subprocess.run(
        [sys.executable, REPO / "examples" / "paint_and_edit.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("knows words such as a, an, ")
    for name in ("grid", "varied", "edited"):
        with Image.open(tmp_path / "samples" / "example" / f"{name}.png") as sheet:
            assert min(sheet.size) > 150


def test_the_readmes_python_runs_as_it_stands(trained, monkeypatch):
    (code,) = blocks("README.md", "python")
    monkeypatch.chdir(trained.layout.root)
    threads, names = torch.get_num_threads(), {}
    exec(code, names)
    torch.set_num_threads(threads)
    shapes = {name: value.shape for name, value in names.items() if isinstance(value, np.ndarray)}
    promised = re.findall(r"^(\w+) = .*# \((.*?)\) uint8$", code, re.MULTILINE)
    assert len(promised) >= 2
    for name, shape in promised:
        # The networks here are tiny: all but the size of the picture is as promised.
        expected = tuple(16 if word == "32" else int(word) for word in shape.split(", "))
        assert shapes[name] == expected
