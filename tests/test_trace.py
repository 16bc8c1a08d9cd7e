"""`python cli.py trace`, with a trained tiny system and repositories that git alone makes."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from unclip.pictures.png import read_png_text, save_png
from unclip.provenance.dvc_history import remembered
from unclip.provenance.tracing import compare_pixels, describe_note

HASHES = {"checkpoint.clip": "a" * 64, "checkpoint.prior": "b" * 64, "checkpoint.decoder": "c" * 64}


@pytest.fixture
def elsewhere(monkeypatch, tmp_path) -> Path:
    """An empty folder to be in, which no repository and no store is near."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    return folder


def singles(folder: Path) -> list[Path]:
    return sorted(folder.glob("*_seed*.png"))


# What is no picture of ours: one line


def test_a_file_that_is_not_there_is_named(refuse, elsewhere):
    assert refuse("trace", "nowhere.png").startswith("nowhere.png: no such file")


def with_a_long_note(path):
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a" * 2_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"GIF89a"),
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
        lambda path: path.mkdir(),
        with_a_long_note,
    ],
    ids=["empty", "a GIF", "cut", "a folder", "unpacks to more than it seems"],
)
def test_what_is_no_png_is_refused(refuse, elsewhere, write):
    write(Path("a.png"))
    assert refuse("trace", "a.png").startswith("a.png: not a readable PNG")


def test_a_picture_that_carries_no_note_is_refused(refuse, elsewhere):
    Image.new("RGB", (8, 8)).save("a.png")
    assert "no note" in refuse("trace", "a.png")


def test_a_note_with_something_else_for_a_hash_is_refused(refuse, elsewhere):
    save_png(Image.new("RGB", (8, 8)), "a.png", HASHES | {"checkpoint.prior": "\x1b[31mred"})
    line = refuse("trace", "a.png")
    assert "checkpoint.prior" in line
    assert line.isprintable()


def test_a_cut_picture_is_refused(refuse, elsewhere, painted):
    whole = singles(painted)[0].read_bytes()
    Path("a.png").write_bytes(whole[: len(whole) // 2])
    assert refuse("trace", "a.png").startswith("a.png: ")


@pytest.mark.parametrize(
    "options", [["--out", "b.png"], ["--repaint", "--out", "a.png"]], ids=["alone", "over itself"]
)
def test_an_out_that_makes_no_sense_is_refused(refuse, elsewhere, options):
    save_png(Image.new("RGB", (8, 8)), "a.png", HASHES | {"index": "0"})
    assert refuse("trace", "a.png", *options).startswith(f"--out {options[-1]}: ")


# What it shows


def test_a_note_is_told_in_order_and_what_does_not_print_is_escaped():
    note = HASHES | {
        **{"seed": "3", "prompt": "a\x1b[31mb", "decoder.steps": "20", "decoder.eta": "0.0"},
        **{"x_T": "A" * 4000, "prompts": "one\ntwo", "zz": "word " * 200},
    }
    told = describe_note(note)
    assert list(told) == ["prompt", "seed", "prompts", "decoder", "x_T", "zz"]
    assert told["prompt"] == r"'a\x1b[31mb'"
    assert told["decoder"] == "eta 0.0, steps 20"
    assert told["prompts"] == "one; two"
    assert "4000 characters" in told["x_T"]
    assert len(told["zz"]) < 450
    assert "1000 characters" in told["zz"]


def test_without_a_store_of_mlflow_a_line_says_so(run, elsewhere, painted, monkeypatch):
    monkeypatch.delenv("UNCLIP_TRACKING")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    status, out, _ = run("trace", singles(painted)[0])
    assert status == 0
    assert "no records of MLflow" in out
    assert not list(elsewhere.iterdir()), "to look is not to make a store"


def test_without_checkpoints_and_mlflow_the_note_is_still_told(run, elsewhere, painted):
    status, out, _ = run("trace", singles(painted)[0])
    assert status == 0
    assert "MLflow: UNCLIP_TRACKING=off" in out
    assert out.count("not on this machine") == 3
    assert "a large red circle" in out


def test_a_sheet_is_traced_and_can_not_be_painted_again(run, refuse, elsewhere, painted):
    status, out, _ = run("trace", painted / "grid.png")
    assert status == 0
    assert "a large red circle; a small blue star" in out
    assert "a sheet" in out
    assert "a sheet" in refuse("trace", painted / "grid.png", "--repaint")


# Painted again


def test_every_picture_of_a_call_is_painted_again_byte_for_byte(run, elsewhere, painted, trained):
    assert len(singles(painted)) == 4
    for picture in singles(painted):
        again = elsewhere / picture.name
        options = ["--repaint", "--from", trained.layout.root, "--out", again]
        status, out, err = run("trace", picture, *options)
        assert status == 0, err
        assert "byte for byte" in out
        assert again.read_bytes() == picture.read_bytes()


def test_checkpoints_from_several_folders_are_put_together(run, elsewhere, painted, trained):
    shutil.copytree(trained.layout.model("decoder"), elsewhere / "models" / "decoder")
    shutil.copytree(trained.layout.model("clip"), elsewhere / "pretrained" / "one" / "clip")
    shutil.copytree(trained.layout.model("prior"), elsewhere / "other" / "prior")
    # Another network of the same kind, which is not meant, stands in the way.
    shutil.copytree(trained.layout.model("clip"), elsewhere / "other" / "clip")
    with (elsewhere / "other" / "clip" / "model.safetensors").open("ab") as file:
        file.write(b" ")
    status, out, err = run("trace", singles(painted)[0], "--repaint", "--from", "other")
    assert status == 0, err
    assert "byte for byte" in out


def test_a_folder_that_is_not_there_is_named_and_not_passed_over(refuse, painted):
    line = refuse("trace", singles(painted)[0], "--from", "nowhere")
    assert line.startswith("--from nowhere: is no folder")


def test_a_changed_pixel_is_counted_and_the_status_is_1(run, elsewhere, painted, trained):
    picture = singles(painted)[0]
    with Image.open(picture) as image:
        pixels = np.array(image)
    pixels[3, 4, 1] ^= 7
    save_png(Image.fromarray(pixels), "a.png", read_png_text(picture))
    status, out, _ = run("trace", "a.png", "--repaint", "--from", trained.layout.root)
    assert status == 1
    assert "1 of 768 values differ" in out


def test_a_picture_saved_in_another_way_has_the_same_pixels(run, elsewhere, painted, trained):
    info = PngImagePlugin.PngInfo()
    for key, value in read_png_text(singles(painted)[0]).items():
        info.add_text(key, value)
    with Image.open(singles(painted)[0]) as image:
        image.save("a.png", pnginfo=info, compress_level=0)
    status, out, _ = run("trace", "a.png", "--repaint", "--from", trained.layout.root)
    assert status == 0
    assert "the same pixels" in out
    assert "byte for byte" not in out


@pytest.fixture
def refuse_repaint(run):
    """Runs `trace --repaint`, which must end with status 1 after what it shows; gives the line."""

    def line_of(*arguments):
        status, _, err = run("trace", *arguments, "--repaint")
        assert (status, err.count("\n")) == (1, 1), err
        return err

    return line_of


def test_checkpoints_that_are_nowhere_paint_nothing(refuse_repaint, elsewhere, painted):
    line = refuse_repaint(singles(painted)[0])
    assert line.startswith("error: clip ")
    assert "models/" in line


def test_a_damaged_note_is_one_line(refuse_repaint, elsewhere, painted, trained):
    note = read_png_text(singles(painted)[0]) | {"decoder.steps": "many"}
    save_png(Image.new("RGB", (16, 16)), "a.png", note)
    assert "note" in refuse_repaint("a.png", "--from", trained.layout.root)


def test_an_out_that_can_not_be_written_is_one_line(refuse_repaint, elsewhere, painted, trained):
    Path("file").write_text("")
    options = ["--from", trained.layout.root, "--out", "file/a.png"]
    assert "--out file/a.png: " in refuse_repaint(singles(painted)[0], *options)


def test_pictures_are_compared_value_by_value():
    grey = np.zeros((1, 2, 3), np.uint8)
    other = grey.copy()
    other[0, 1, 2], other[0, 0, 0] = 255, 1
    assert compare_pixels(grey, grey) == ""
    assert compare_pixels(grey, other) == compare_pixels(other, grey)
    assert compare_pixels(grey, other) == "2 of 6 values differ, by at most 255 of 255"
    assert "were 1 × 2 × 3 and are 3 × 2 × 3" in compare_pixels(grey, np.zeros((3, 2, 3), np.uint8))


# What git remembers


LOCK = """schema: '2.0'
stages:
  train_{kind}:
    cmd: python -m stages.train_{kind}
    deps:
    - path: models/{kind}
      hash: md5
      md5: 00000000000000000000000000000000.dir
      size: 1
      nfiles: 2
    params:
      params.yaml:
        {kind}:
          seed: 0
    outs:
    - path: models/{kind}
      hash: md5
      md5: {md5}.dir
      size: 1
      nfiles: 2
"""


def lock(kind: str, letter: str) -> str:
    return LOCK.format(kind=kind, md5=letter * 32)


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=A. Tester", "-c", "user.email=tester@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(text: str) -> str:
    Path("dvc.lock").write_text(text)
    git("add", "--all")
    git("commit", "--quiet", "--message", "Change")
    return git("rev-parse", "HEAD")


def test_every_revision_that_names_a_network_is_remembered(elsewhere):
    git("init", "--quiet", "--initial-branch=main")
    Path(".dvc").mkdir()
    first = commit(lock("clip", "1") + lock("decoder", "a").partition("stages:\n")[2])
    git("tag", "--annotate", "v1", "--message", "One")
    experiment = commit(lock("decoder", "b"))
    ref = f"refs/exps/{first[:2]}/{first[2:]}/big-lr"
    git("update-ref", ref, experiment)
    git("reset", "--quiet", "--hard", first)
    git("switch", "--quiet", "--create", "side")
    side = commit(lock("decoder", "c"))
    git("switch", "--quiet", "main")
    git("merge", "--quiet", "--no-ff", "--strategy=ours", "side")
    forgotten = commit(lock("decoder", "d"))
    git("reset", "--quiet", "--hard", "HEAD^")
    Path("dvc.lock").write_text(lock("decoder", "e"))

    found = remembered(Path(), pytest.fail)
    # The merge kept what was there and threw the side's away.
    merge = git("rev-parse", "HEAD")
    both = [f"v1 ({first[:7]})", f"main ({merge[:7]})"]
    assert found["clip"] == {"1" * 32 + ".dir": both}
    names = {md5[0]: revisions for md5, revisions in found["decoder"].items()}
    assert names.pop("a") == both
    assert names == {
        "b": [f"experiment big-lr ({experiment[:7]})"],
        "c": [f"side ({side[:7]})"],
        "d": [forgotten[:7]],
        "e": ["this folder"],
    }


def test_what_git_can_not_read_is_told_and_the_folder_itself_is_remembered(elsewhere, monkeypatch):
    told: list[str] = []
    Path("dvc.lock").write_text(lock("prior", "a"))
    assert remembered(Path(), told.append) == {}
    assert told == []
    Path(".dvc").mkdir()
    folder_alone = {"prior": {"a" * 32 + ".dir": ["this folder"]}}
    assert remembered(Path(), told.append) == folder_alone
    git("init", "--quiet")
    assert remembered(Path(), pytest.fail) == folder_alone  # no commit yet
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert remembered(Path(), told.append) == folder_alone
    assert ["git init" in told[0], "safe.directory" in told[1]] == [True, True]
    assert all(line.startswith("revisions cannot be read: ") for line in told)
