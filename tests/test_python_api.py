"""The system for scripts and notebooks: few words, and the same pictures as the parts give."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from dag import REPO
from dvc_repo import Lab
from pages import blocks
from PIL import Image
from revisions import lock_of
from systems import random_unclip
from tiny_params import tiny_params, write_params

from unclip.api import UnCLIP
from unclip.config.errors import UserError
from unclip.core.artifacts import weights_hash
from unclip.diffusion.samplers import SAMPLERS, Step
from unclip.painting.settings import Settings
from unclip.params.loading import changed_sample
from unclip.pictures.png import read_png_text

UNCLIP = random_unclip()
PROMPTS = ["a red circle", "a blue star"]
PICTURE = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
FAST = {"steps": 3, "prior_steps": 2}


def close(one, other) -> bool:
    return np.abs(one.astype(int) - other.astype(int)).max() <= 1


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(PICTURE.transpose(1, 2, 0)).save(path)
    return path


def settings(**options):
    return Settings.of(changed_sample(UNCLIP.defaults, options), "cpu")


def hashes(layout):
    return {kind: weights_hash(layout.model(kind)) for kind in ("clip", "prior", "decoder")}


# sample


def test_pictures_stand_in_a_row_for_each_prompt():
    painted = UNCLIP.sample(PROMPTS, num=3, seed=5, **FAST)
    assert (painted.images.shape, painted.images.dtype) == ((2, 3, 3, 8, 8), np.uint8)
    expected = UNCLIP.system.paint(PROMPTS, (5, 6, 7), settings(**FAST))
    assert np.array_equal(painted.images, expected)


def test_what_is_not_named_comes_from_params():
    images, sample = UNCLIP.sample(PROMPTS[:1]).images, UNCLIP.defaults.sample
    seeds = range(sample.seed, sample.seed + sample.num_per_prompt)
    assert np.array_equal(images, UNCLIP.system.paint(PROMPTS[:1], seeds, settings()))


def test_a_single_string_is_one_prompt():
    one, other = (UNCLIP.sample(p, num=1, **FAST) for p in (PROMPTS[0], PROMPTS[:1]))
    assert np.array_equal(one.images, other.images)


def test_more_pictures_are_painted_than_the_command_line_allows():
    done = []
    painted = UNCLIP.sample("a red circle", num=100, progress=done.append, **FAST)
    assert painted.images.shape[:2] == (1, 100)
    assert len(painted.notes) == sum(done) == 100


def test_options_change_the_picture():
    plain, guided = (UNCLIP.sample(PROMPTS, num=1, guidance=g, **FAST).images for g in (1, 4))
    assert not close(plain, guided)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"guidence": 2}, "options: sample.guidence: unknown key (did you mean sample.guidance?)"),
        ({"guidance": -1}, "options: sample.guidance: -1 is not allowed"),
        ({"sampler": "toy"}, "options: sample.sampler: "),
        ({"seed": 0.5}, "options: sample.seed: 0.5 is not allowed"),
        ({"num": 0}, "num: 0 is not allowed"),
    ],
)
def test_an_option_that_makes_no_sense_is_a_line(options, line):
    with pytest.raises(UserError) as caught:
        UNCLIP.sample(PROMPTS, **options)
    assert str(caught.value).startswith(line)


def sample_toy(predict, x_t, levels, *, eta, draw_noise):
    """Yields what is predicted at the noisiest timestep alone."""
    t = levels[0].t
    yield Step(t, x_t, predict(x_t, t))


@pytest.mark.xfail(
    raises=UserError, strict=False, reason="params have a list of samplers of their own"
)
def test_a_new_sampler_is_a_function_and_an_entry(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "toy", sample_toy)
    toy = UNCLIP.sample("a red circle", num=2, sampler="toy", prior_sampler="toy")
    assert {note["decoder.sampler"] for note in toy.notes} == {"toy"}
    one_step = {"steps": 1, "sampler": "ddim", "prior_steps": 1, "prior_sampler": "ddim"}
    assert np.array_equal(toy.images, UNCLIP.sample("a red circle", num=2, **one_step).images)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_paints(sampler):
    painted = UNCLIP.sample("a red circle", num=1, sampler=sampler, prior_sampler=sampler, **FAST)
    assert painted.images.std() > 0


# vary, interpolate, edit, trajectory


def test_a_picture_is_varied_from_an_array_and_from_a_file(file):
    images = UNCLIP.vary(PICTURE, num=3, seed=2, **FAST).images
    assert images.shape == (3, 3, 8, 8)
    assert len({picture.tobytes() for picture in images}) == 3
    for source in (file, str(file)):
        assert np.array_equal(UNCLIP.vary(source, num=3, seed=2, **FAST).images, images)


def test_inverted_and_without_fresh_noise_a_picture_comes_back():
    painted = UNCLIP.sample("a red circle", num=1, **FAST).images[0, 0].astype(int)
    options = {"num": 1, "invert": True, "steps": 20}
    same, other = (UNCLIP.vary(painted.astype(np.uint8), eta=e, **options).images for e in (0, 1))
    assert np.abs(same[0] - painted).mean() < 8
    assert np.abs(other[0] - painted).mean() > 20


def test_the_way_goes_between_pictures_and_prompts(file):
    frames = UNCLIP.interpolate(file, "a red circle", frames=4, seed=2, **FAST).images
    assert frames.shape == (4, 3, 8, 8)
    assert np.array_equal(frames[0], UNCLIP.vary(file, num=1, seed=2, **FAST).images[0])
    assert close(frames[-1], UNCLIP.sample("a red circle", num=1, seed=2, **FAST).images[0, 0])


def test_an_edit_begins_with_the_picture_and_ends_elsewhere():
    frames = UNCLIP.edit(PICTURE, *PROMPTS, frames=3, seed=2, **FAST).images
    assert frames.shape == (3, 3, 8, 8)
    assert np.array_equal(frames[0], UNCLIP.vary(PICTURE, num=1, seed=2, **FAST).images[0])
    less = UNCLIP.edit(PICTURE, *PROMPTS, frames=3, seed=2, strength=0.4, **FAST).images
    assert np.array_equal(less[0], frames[0])
    assert not np.array_equal(less[-1], frames[-1])


def test_a_trajectory_leads_from_noise_to_what_a_prompt_paints():
    found = UNCLIP.trajectory(PROMPTS, seed=2, steps=4, prior_steps=2)
    assert found.timesteps == [19, 14, 9, 4, 0]
    assert found.moments.shape == (2, 5, 3, 8, 8)
    assert np.array_equal(found.moments[:, -1], found.painted.images)
    expected = UNCLIP.sample(PROMPTS, num=1, seed=2, steps=4, prior_steps=2).images[:, 0]
    assert close(found.painted.images, expected)


@pytest.mark.parametrize(
    "picture", [PICTURE[0], PICTURE.transpose(1, 2, 0), PICTURE / 255, PICTURE[:1]]
)
def test_an_array_of_another_kind_is_a_line(picture):
    with pytest.raises(UserError, match=r"^picture: is .*; expected \(3, 8, 8\) of uint8"):
        UNCLIP.vary(picture)


@pytest.mark.parametrize("source", ["a red circle", "nowhere.png"])
def test_what_names_no_file_can_not_be_varied(source):
    with pytest.raises(UserError, match=f"^{source}: no such file"):
        UNCLIP.vary(source)


# What is painted


def test_pictures_are_saved_with_their_notes_under_names_or_numbers(tmp_path):
    painted = UNCLIP.vary(PICTURE, num=2, **FAST)
    assert painted.save(tmp_path / "new" / "folder") == 0
    assert painted.save(tmp_path / "new" / "folder") == 0  # what is replaced by itself is not lost
    assert painted.save(tmp_path, ["one", "other"]) == 0
    assert UNCLIP.vary(PICTURE, num=2, seed=9, **FAST).save(tmp_path, ["one", "third"]) == 1
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert names == ["new/folder/0000.png", "new/folder/0001.png", *_pngs("one other third")]
    for (picture, note), name in zip(painted, names[:2], strict=True):
        with Image.open(tmp_path / name) as image:
            assert np.array_equal(np.asarray(image).transpose(2, 0, 1), picture)
        assert read_png_text(tmp_path / name) == note


def _pngs(names):
    return [f"{name}.png" for name in names.split()]


@pytest.mark.parametrize(
    ("painted", "command"),
    [
        (UNCLIP.sample(PROMPTS, num=2, **FAST), "sample"),
        (UNCLIP.vary(PICTURE, num=4, **FAST), "vary"),
        (UNCLIP.interpolate(*PROMPTS, 4, **FAST), "interpolate"),
        (UNCLIP.edit(PICTURE, *PROMPTS, 4, **FAST), "edit"),
    ],
    ids=["sample", "vary", "interpolate", "edit"],
)
def test_a_note_says_what_painted_and_the_sheets_is_of_no_single_picture(painted, command):
    assert len(painted.notes) == 4
    for note in (*painted.notes, painted.sheet_note):
        assert note["command"] == command
        assert note["decoder.steps"] == "3"
        assert note["checkpoint.decoder"] == UNCLIP.system.hashes["decoder"]
    assert not {"index", "image_embed"} & painted.sheet_note.keys()


# Where it comes from


def test_what_is_not_named_is_as_in_the_params_beside_the_networks(trained, tmp_path):
    (tmp_path / "models").symlink_to(trained.layout.models.resolve())
    params = trained.params.model_dump()
    own = {"guidance": 4.5, "seed": 2}
    params["sample"] |= own | {"num_per_prompt": 3}
    write_params(tmp_path / "params.yaml", params)
    images = UnCLIP.load(tmp_path).sample("a large red circle").images
    elsewhere = UnCLIP.load(trained.layout.root).sample("a large red circle", num=3, **own)
    assert np.array_equal(images, elsewhere.images)
    (tmp_path / "params.yaml").write_text("sample: {guidance: much}")
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))}/params.yaml: sample\."):
        UnCLIP.load(tmp_path)


def test_it_is_loaded_from_the_networks_or_from_the_folder_around_them(trained):
    for where in (trained.layout.root, str(trained.layout.root), trained.layout.models):
        assert UnCLIP.load(where).system.hashes == hashes(trained.layout)


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
    dvc_files = [yaml.safe_load((lab.root / f"models/{kind}.dvc").read_text()) for kind in names]
    outs = [out | {"path": f"models/{out['path']}"} for file in dvc_files for out in file["outs"]]
    (lab.root / "dvc.lock").write_text(lock_of({out["path"]: out["md5"] for out in outs}))
    lab.run("git", "add", "-A")
    lab.run("git", "commit", "-qm", "trained")
    del params["sample"]["prior_candidates"]
    write_params(lab.root / "params.yaml", params)
    lab.run("git", "commit", "-qam", "of long ago")
    lab.run("git", "rm", "-qr", "models", "dvc.lock")
    lab.run("git", "commit", "-qm", "removed")
    monkeypatch.chdir(lab.root)
    earlier = UnCLIP.from_revision("HEAD~2")
    assert earlier.system.hashes == hashes(trained.layout)
    assert earlier.defaults.sample.guidance == 4.5
    with pytest.raises(UserError) as caught:
        UnCLIP.from_revision("HEAD~1")
    assert str(caught.value).startswith(
        "--rev HEAD~1: its params.yaml does not say how to paint (sample.prior_candidates: missing"
    )
    command = re.search("`(.*)`", str(caught.value))[1].replace("FOLDER", "got")
    lab.run(*command.split())
    fetched = UnCLIP.load("got")
    assert fetched.system.hashes == hashes(trained.layout)
    assert fetched.defaults == UNCLIP.defaults
    with pytest.raises(UserError, match=r"^--rev HEAD: its checkpoints are not on this machine"):
        UnCLIP.from_revision("HEAD")


# Prompts that training never showed


@pytest.mark.parametrize(
    "paint",
    [
        lambda prompt: UNCLIP.sample([PROMPTS[0], prompt], num=1, **FAST),
        lambda prompt: UNCLIP.trajectory(prompt, steps=2, prior_steps=2),
        lambda prompt: UNCLIP.interpolate(PICTURE, prompt, 2, **FAST),
        lambda prompt: UNCLIP.edit(PICTURE, PROMPTS[0], prompt, 2, **FAST),
    ],
    ids=["sample", "trajectory", "interpolate", "edit"],
)
def test_the_caller_is_warned_of_a_prompt_that_training_never_showed(paint):
    with pytest.warns(UserWarning, match=r"'a red hat'.*'a red circle'") as caught:
        paint("a red hat")
    assert [warning.filename for warning in caught] == [__file__]


# What is shown to readers


def test_the_example_paints_three_sheets(tmp_path):
    done = subprocess.run(
        [sys.executable, REPO / "examples" / "paint_and_edit.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("knows captions such as An image of ")
    for name in ("grid", "varied", "edited"):
        with Image.open(tmp_path / "samples" / "example" / f"{name}.png") as sheet:
            assert min(sheet.size) > 150


def test_the_readmes_python_runs_as_it_stands(trained, tmp_path, monkeypatch):
    (code,) = blocks("README.md", "python")
    (tmp_path / "models").symlink_to(trained.layout.models.resolve())
    monkeypatch.chdir(tmp_path)
    threads, names = torch.get_num_threads(), {}
    exec(code, names)
    torch.set_num_threads(threads)
    promised = re.findall(r"^(\w+) = .*# images \((.*?)\)$", code, re.MULTILINE)
    assert len(promised) >= 2
    for name, shape in promised:
        # The networks here are tiny: all but the size of the picture is as promised.
        expected = tuple(16 if word == "32" else int(word) for word in shape.split(", "))
        assert names[name].images.shape == expected
