"""`python cli.py trace`, with a trained tiny system and repositories that git alone makes."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import cli
from unclip.pictures.png import encode_png, read_png_text, save_png
from unclip.provenance.dvc_history import remembered
from unclip.provenance.tracing import compare_pixels, describe_note

HASHES = {"checkpoint.clip": "a" * 64, "checkpoint.prior": "b" * 64, "checkpoint.decoder": "c" * 64}


@pytest.fixture(scope="module")
def painted(trained, tmp_path_factory) -> Path:
    """A folder of six pictures and their sheet, painted in one call."""
    folder = tmp_path_factory.mktemp("painted")
    command = [sys.executable, "cli.py", "sample", "a large red circle", "a small blue star"]
    command += ["--num", "3", "--seed", "5", "--steps", "3"]
    command += ["--from", str(trained.layout.root), "--out", str(folder)]
    environment = {"PATH": "", "UNCLIP_DEVICE": "cpu", "UNCLIP_THREADS": "1"}
    repository = Path(cli.__file__).parent
    subprocess.run(command, cwd=repository, env=environment, check=True, capture_output=True)
    return folder


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


def fails_in_one_line(result) -> str:
    status, out, err = result
    assert (status, out, err.count("\n")) == (1, "", 1), (status, out, err)
    assert err.startswith("error: ")
    return err


# What is no picture of ours: one line


def test_a_file_that_is_not_there_is_named(run, elsewhere):
    assert "nowhere.png: no such file" in fails_in_one_line(run("trace", "nowhere.png"))


def bomb() -> bytes:
    """A PNG whose note unpacks to more than it seems."""
    info, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("prompt", "a" * 2_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(stream, format="PNG", pnginfo=info)
    return stream.getvalue()


def png(note: dict[str, str]) -> bytes:
    return encode_png(Image.new("RGB", (8, 8)), note)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"just text" * 100, bomb(), png({})),
        png(HASHES | {"checkpoint.prior": "\x1b[31mred"}),
        png(HASHES)[:-30],
    ],
    ids=["empty", "GIF", "header", "text", "bomb", "no note", "no hash", "cut"],
)
def test_what_is_no_picture_of_ours_is_refused(run, elsewhere, content):
    Path("a.png").write_bytes(content)
    line = fails_in_one_line(run("trace", "a.png"))
    assert line.startswith("error: a.png: ")
    assert "\x1b" not in line


def test_a_folder_and_a_picture_that_no_memory_holds_are_refused(run, elsewhere, monkeypatch):
    Path("a.png").mkdir()
    fails_in_one_line(run("trace", "a.png"))
    Path("b.png").write_bytes(png(HASHES))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    fails_in_one_line(run("trace", "b.png"))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--out", "b.png"], "--out b.png: "),
        (["--repaint", "--out", "a.png"], "--out a.png: "),
    ],
    ids=["no --repaint", "over itself"],
)
def test_an_out_that_makes_no_sense_is_refused(run, elsewhere, options, what):
    save_png(Image.new("RGB", (8, 8)), "a.png", HASHES | {"index": "0"})
    assert what in fails_in_one_line(run("trace", "a.png", *options))


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
    (line,) = [line for line in out.splitlines() if line.startswith("MLflow")]
    assert "no records of MLflow here yet" in line
    assert not list(elsewhere.iterdir()), "to look is not to make a store"


def test_without_checkpoints_and_mlflow_the_note_is_still_told(run, elsewhere, painted):
    status, out, _ = run("trace", singles(painted)[0])
    assert status == 0
    assert "MLflow: UNCLIP_TRACKING=off" in out
    assert out.count("not on this machine") == 3
    assert "a large red circle" in out


def test_a_sheet_is_traced_and_not_painted_again(run, elsewhere, painted):
    status, out, _ = run("trace", painted / "grid.png")
    assert status == 0
    assert "a large red circle; a small blue star" in out
    assert "a sheet" in out
    fails_in_one_line(run("trace", painted / "grid.png", "--repaint"))


# Painted again


def test_every_picture_of_a_call_is_painted_again_byte_for_byte(run, elsewhere, painted, trained):
    assert len(singles(painted)) == 6
    for picture in singles(painted):
        again = elsewhere / picture.name
        options = ["--repaint", "--from", trained.layout.root, "--out", again]
        status, out, err = run("trace", picture, *options)
        assert status == 0, err
        assert "byte for byte" in out
        for kind in ("clip", "prior", "decoder"):
            assert read_png_text(picture)[f"checkpoint.{kind}"] in out
            assert str(trained.layout.model(kind)) in out
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


def test_a_folder_that_is_not_there_is_named_and_not_passed_over(run, painted):
    status, out, err = run("trace", singles(painted)[0], "--from", "nowhere")
    assert (status, out) == (1, "")
    assert err.startswith("error: --from nowhere: ")


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


def test_checkpoints_that_are_nowhere_paint_nothing(run, elsewhere, painted):
    status, _, err = run("trace", singles(painted)[0], "--repaint")
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith("error: clip ")


def test_a_damaged_note_is_one_line(run, elsewhere, painted, trained):
    note = read_png_text(singles(painted)[0]) | {"decoder.steps": "many"}
    save_png(Image.new("RGB", (16, 16)), "a.png", note)
    status, _, err = run("trace", "a.png", "--repaint", "--from", trained.layout.root)
    assert (status, err.count("\n")) == (1, 1)
    assert "decoder.steps" in err


def test_an_out_that_can_not_be_written_is_one_line(run, elsewhere, painted, trained):
    Path("file").write_text("")
    options = ["--repaint", "--from", trained.layout.root, "--out", "file/a.png"]
    status, _, err = run("trace", singles(painted)[0], *options)
    assert (status, err.count("\n")) == (1, 1)
    assert "--out file/a.png" in err


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

    found = remembered(Path())
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


def test_without_git_only_the_folder_itself_is_remembered(elsewhere):
    Path("dvc.lock").write_text(lock("prior", "a"))
    assert remembered(Path()) == {}
    Path(".dvc").mkdir()
    assert remembered(Path()) == {"prior": {"a" * 32 + ".dir": ["this folder"]}}
