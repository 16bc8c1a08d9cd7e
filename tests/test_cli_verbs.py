"""vary, interpolate, edit and trajectory on the command line, with tiny networks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dag import REPO
from pages import blocks
from PIL import Image
from test_cli import pictures

from unclip.painting.loading import load_system
from unclip.painting.notes import repaint
from unclip.pictures.files import read_picture
from unclip.pictures.png import read_png_text

FAST = ["--steps", "3"]
CAPTIONS = ["a large red circle", "a large blue circle"]


@pytest.fixture
def photo(tmp_path):
    """A photograph of the user's own: neither of the models' size nor square."""
    rows = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(rows.repeat(40, 0).repeat(40, 1)).save(tmp_path / "My photo.jpg")
    return tmp_path / "My photo.jpg"


@pytest.fixture
def other(tmp_path):
    Image.new("RGBA", (16, 16), (200, 30, 40, 128)).save(tmp_path / "other.png")
    return tmp_path / "other.png"


@pytest.fixture
def paint(run, trained, tmp_path):
    """Runs a verb that must succeed; gives the folder of its pictures and what it said."""

    def paint_verb(*arguments):
        out = tmp_path / "out"
        status, said, err = run(*arguments, "--from", trained.layout.root, "--out", out)
        assert status == 0, err
        return out, said

    return paint_verb


def single(folder):
    """The pictures in their own size, by name."""
    paths = [path for path in sorted(folder.glob("*.png")) if Image.open(path).size == (16, 16)]
    return {path.stem: path for path in paths}


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def assert_repainted(folder, trained):
    """Every single picture comes again from its own note, and the files hold nothing private."""
    system = load_system(trained.layout.models)
    found = single(folder)
    assert found
    for path in found.values():
        note = read_png_text(path)
        assert np.array_equal(repaint(system, note).transpose(1, 2, 0), pixels(path)), path.name
        assert not [key for key in note if re.search(r"\b(time|date|host|commit)", key)]


# vary


def test_vary_paints_pictures_like_one(paint, photo, trained):
    out, said = paint("vary", photo, "--num", "3", "--seed", "5", *FAST)
    assert list(single(out)) == [f"vary_my-photo_seed{seed}" for seed in (5, 6, 7)]
    assert f"{out / 'vary_my-photo.png'}  and 3 pictures" in said
    assert len({path.read_bytes() for path in single(out).values()}) == 3
    note = read_png_text(out / "vary_my-photo_seed6.png")
    assert (note["command"], note["seed"], note["decoder.steps"]) == ("vary", "6", "3")
    assert note["description"] == "like My photo.jpg"
    assert "x_T" not in note
    assert_repainted(out, trained)


def test_a_variation_hangs_on_its_own_seed_alone(paint, photo):
    out, _ = paint("vary", photo, "--num", "2", "--seed", "5", *FAST)
    before = (out / "vary_my-photo_seed6.png").read_bytes()
    paint("vary", photo, "--num", "1", "--seed", "6", *FAST)
    assert (out / "vary_my-photo_seed6.png").read_bytes() == before


def test_an_inverted_variation_without_fresh_noise_is_the_picture(paint, other, trained):
    out, _ = paint("vary", other, "--invert", "--eta", "0", "--num", "2")
    picture = read_picture(other, 16, 3).transpose(1, 2, 0)
    for path in single(out).values():
        assert np.abs(pixels(path) - picture).mean() < 0.05 * 255
    note = read_png_text(out / "vary_other_seed0.png")
    assert (note["decoder.sampler"], note["decoder.steps"]) == ("ddim", "25")
    assert (note["precision"], len(note["x_T"])) == ("fp32", 4096)  # 3 × 16 × 16 × 4 × 4 / 3
    assert_repainted(out, trained)


def test_fresh_noise_leads_away_from_the_picture(paint, other):
    out, _ = paint("vary", other, "--invert", "--eta", "1", "--num", "1", "--steps", "10")
    far = pixels(out / "vary_other_seed0.png")
    paint("vary", other, "--invert", "--eta", "0", "--num", "1", "--steps", "10")
    assert np.abs(far - pixels(out / "vary_other_seed0.png")).mean() > 5


def test_eta_is_heeded_without_inversion_too(paint, photo):
    out, _ = paint("vary", photo, "--num", "1", "--eta", "0.5", *FAST)
    note = read_png_text(out / "vary_my-photo_seed0.png")
    assert (note["decoder.sampler"], note["decoder.eta"]) == ("ddim", "0.5")


# interpolate


def test_interpolate_goes_from_a_picture_to_a_prompt(paint, photo, trained):
    out, said = paint("interpolate", photo, CAPTIONS[0], "--frames", "4", *FAST)
    name = "interpolate_my-photo_a-large-red-circle"
    assert list(single(out)) == [f"{name}_{i:02}" for i in range(4)]
    assert f"{out / name}.png  and 4 pictures" in said
    with Image.open(out / f"{name}.gif") as film:
        assert film.n_frames == 6  # there and back, without the ends a second time
        assert film.info["loop"] == 0
    note = read_png_text(out / f"{name}_01.png")
    assert note["description"] == f"My photo.jpg → {CAPTIONS[0]}, 0.33 of the way"
    assert "x_T" not in note
    assert_repainted(out, trained)


def test_inverted_the_ends_are_the_pictures(paint, photo, other, trained):
    out, _ = paint("interpolate", photo, other, "--invert", "--frames", "3")
    found = list(single(out).values())
    for path, source in ((found[0], photo), (found[-1], other)):
        given = read_picture(source, 16, 3).transpose(1, 2, 0)
        assert np.abs(pixels(path) - given).mean() < 0.05 * 255
    assert_repainted(out, trained)


def test_noise_that_goes_along_is_another_at_the_end_and_the_same_at_the_start(paint):
    arguments = ["interpolate", *CAPTIONS, "--frames", "2", *FAST]
    out, _ = paint(*arguments)
    fixed = [path.read_bytes() for path in single(out).values()]
    first, last = [pixels(path) for path in single(out).values()]
    paint(*arguments, "--noise", "slerp")
    assert [path.read_bytes() for path in single(out).values()] != fixed
    assert np.array_equal(pixels(next(iter(single(out).values()))), first)
    assert not np.array_equal(pixels(list(single(out).values())[1]), last)


# edit


def test_edit_leads_a_picture_to_another_caption(paint, photo, trained):
    out, _ = paint("edit", photo, *CAPTIONS, "--frames", "3", "--strength", "2", *FAST)
    name = "edit_my-photo_a-large-blue-circle"
    edits = list(single(out).values())
    assert list(single(out)) == [f"{name}_{i:02}" for i in range(3)]
    assert (out / f"{name}.gif").exists()
    said = read_png_text(edits[2])["description"]
    assert said == f"{CAPTIONS[0]} → {CAPTIONS[1]}, 2.00 of the way"
    assert_repainted(out, trained)
    paint("vary", photo, "--num", "1", *FAST)
    unedited = pixels(out / "vary_my-photo_seed0.png")
    assert np.array_equal(pixels(single(out)[f"{name}_00"]), unedited)
    embeds = {read_png_text(path)["image_embed"] for path in edits}  # tiny networks hardly move it
    assert len(embeds) == 3


# trajectory


def test_trajectory_shows_how_prompts_come_out_of_noise(paint, trained):
    out, _ = paint("trajectory", *CAPTIONS, "--seed", "3", "--steps", "6")
    names = ["trajectory_a-large-blue-circle_seed3", "trajectory_a-large-red-circle_seed3"]
    assert list(single(out)) == names
    with Image.open(out / "trajectory.gif") as film:
        assert film.n_frames == 7
    note = read_png_text(out / "trajectory.png")
    assert note["prompts"].split("\n") == CAPTIONS
    assert read_png_text(out / f"{names[0]}.png")["prompt"] == CAPTIONS[1]
    assert_repainted(out, trained)


def test_trajectory_without_a_prompt_takes_the_data_sets_own(paint):
    out, _ = paint("trajectory", "--steps", "2")
    assert len(single(out)) == 8
    assert len(pictures(out)) == 10


def test_sample_can_be_painted_again_too(paint, trained):
    out, _ = paint("sample", "a red\ncircle", "x\\", "x\\", "--num", "3", *FAST)
    assert len(single(out)) == 9
    assert_repainted(out, trained)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["vary", "PHOTO", "--num", "2"], 2),
        (["interpolate", *CAPTIONS, "--frames", "3"], 3),
        (["edit", "PHOTO", *CAPTIONS, "--frames", "3"], 3),
        (["trajectory", *CAPTIONS], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_pictures_that_replace_others_are_counted(paint, photo, arguments, count):
    words = [str(photo) if word == "PHOTO" else word for word in arguments]
    assert "replaced" not in paint(*words, "--steps", "2")[1]
    said = paint(*words, "--steps", "3")[1]
    assert f"replaced: {count}" in said


# Mistakes


@pytest.mark.parametrize("verb", ["vary", "edit", "interpolate"])
@pytest.mark.parametrize("what", ["missing", "text", "damaged"])
def test_a_file_that_is_no_picture_is_one_line(refuse, trained, tmp_path, verb, what):
    path, out = tmp_path / "a.png", tmp_path / "out"
    if what == "text":
        path.write_text("not a picture")
    if what == "damaged":
        Image.new("RGB", (64, 64)).save(path)
        path.write_bytes(path.read_bytes()[:60])
    captions = {"vary": [], "edit": CAPTIONS, "interpolate": CAPTIONS[:1]}[verb]
    line = refuse(verb, path, *captions, "--from", trained.layout.root, "--out", out)
    assert line.startswith(f"{path}: ")
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["interpolate", *CAPTIONS, "--invert"], "invert: "),
        (
            ["interpolate", "PHOTO", "a large red circle", "--invert", "--noise", "fixed"],
            "invert: ",
        ),
        (["interpolate", "PHOTO", " "], "caption ' ': "),
        (["edit", "PHOTO", "a large red circle", "A\u00a0 large red circle"], r"'A\xa0 large"),
        (["edit", "PHOTO", "x" * 63, "a"], "caption 'xxx"),
        (["trajectory", "a\x02"], "caption 'a"),
        (["vary", "PHOTO", "--steps", "1000000"], "options: sample.steps: 1000000"),
        (["vary", "PHOTO", "--rev", "main"], "--rev and --from: "),
    ],
    ids=lambda value: " ".join(value[:3])[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(refuse, trained, tmp_path, photo, arguments, line):
    words, out = [str(photo) if word == "PHOTO" else word for word in arguments], tmp_path / "out"
    assert refuse(*words, "--from", trained.layout.root, "--out", out).startswith(line)
    assert not list(out.glob("*"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["vary", "a.png", "--eta", "1.5"], "--eta"),
        (["vary", "a.png", "--num", "0"], "--num"),
        (["vary"], "picture"),
        (["interpolate", "a.png"], "end"),
        (["interpolate", "a", "b", "--frames", "1"], "--frames"),
        (["interpolate", "a", "b", "--noise", "loud"], "--noise"),
        (["edit", "a.png", "a", "b", "--strength", "3"], "--strength"),
        (["trajectory", "--steps", "0"], "--steps"),
    ],
    ids=" ".join,
)
def test_an_option_that_makes_no_sense_is_named(run, arguments, named):
    status, printed, err = run(*arguments)
    assert (status, printed) == (2, "")
    assert named in err


def test_words_that_were_never_trained_are_named(run, trained, tmp_path, photo):
    arguments = ["edit", photo, "a large red circle", "a large red hat", "--frames", "2", *FAST]
    status, _, err = run(*arguments, "--from", trained.layout.root, "--out", tmp_path / "out")
    assert status == 0
    assert "warning: never trained: 'a large red hat'" in err


@pytest.mark.extra
def test_the_page_of_the_verbs_makes_its_pictures_by_its_commands(tmp_path):
    page = (REPO / "docs" / "verbs.md").read_text(encoding="utf-8")
    for name in ("cli.py", "pretrained"):
        (tmp_path / name).symlink_to(REPO / name)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    made = {}
    for block, shown in zip(
        blocks("docs/verbs.md"), [None, *re.findall(r"\]\(images/(.*?)\)", page)], strict=True
    ):
        done = subprocess.run(
            block, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
        if shown:
            sheet = tmp_path / done.stdout.split("  and ")[0]
            made[shown] = Image.open(sheet.with_suffix(Path(shown).suffix)).size
    assert made == {name: Image.open(REPO / "docs" / "images" / name).size for name in made}
    assert len(made) == 6
