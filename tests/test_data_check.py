"""`python cli.py data check`, and that prepare refuses what it finds wrong."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile_pictures import REFUSED, encoded
from own_folders import make_folder, rows_of, write_jsonl, write_pictures
from PIL import Image

import cli
from stages import prepare
from unclip.config.errors import UserError
from unclip.config.layout import Layout
from unclip.datasets.own_folder import stop_if_any
from unclip.params.loading import load_params

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture
def check(monkeypatch, capsys):
    """Runs `python cli.py data check FOLDER` in this process; gives status, stdout and stderr."""

    def run_cli(folder: Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cli.py", "data", "check", str(folder)])
        status = 0
        try:
            cli.main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run_cli


def said(out: str, label: str) -> list[str]:
    """What stands behind a label, a line each."""
    return [line[12:] for line in out.splitlines() if line.split(" ")[0] == label]


def errors(err: str) -> list[str]:
    return [line[7:] for line in err.splitlines() if line.startswith("error: ")]


def test_a_sound_folder_is_counted_and_described(check, tmp_path):
    folder = make_folder(tmp_path / "own", 220, hue=["red", "green", "blue"], id=range(220))
    Image.new("RGB", (64, 40)).save(folder / "005.png")
    Image.new("RGB", (33, 33)).save(folder / "006.png")
    status, out, err = check(folder)
    assert (status, errors(err)) == (0, [])
    assert said(out, "metadata") == ["metadata.jsonl"]
    assert said(out, "pictures") == ["220, of which 22 are for the test"]
    assert said(out, "captions") == ["3 distinct, the longest of 13 bytes"]
    assert said(out, "sizes") == [
        "10 × 10 to 64 × 40 pixels, brought to 32 × 32: 1 cut to a square, 218 enlarged"
    ]
    assert said(out, "attributes") == ["hue (3 values)"]
    assert said(out, "prompts") == ["a red thing, a green thing, a blue thing"]
    assert said(out, "note") == [
        "column id: an attribute has 2 to 100 different values, and this has 220: left out"
    ]
    assert said(out, "verdict") == ["all is well"]


def test_prompts_that_are_never_trained_are_marked(check, tmp_path):
    folder = make_folder(tmp_path / "own", 220, text=[f"number {i}" for i in range(220)])
    (prompts,) = said(check(folder)[1], "prompts")
    marked = [prompt.endswith("(never trained)") for prompt in prompts.split(", ")]
    assert marked == [False] * 6 + [True] * 2


def test_duplicates_are_named_and_are_no_mistake(check, tmp_path):
    folder = make_folder(tmp_path / "own", 220)
    (folder / "007.png").write_bytes((folder / "003.png").read_bytes())
    with Image.open(folder / "004.png") as image:
        (folder / "008.png").write_bytes(encoded(image, "BMP"))
    status, out, _ = check(folder)
    assert status == 0
    assert said(out, "duplicate") == [
        "007.png has the same pixels as 003.png",
        "008.png has the same pixels as 004.png",
    ]


def test_pictures_that_the_metadata_do_not_name_are_told(check, tmp_path):
    folder = make_folder(tmp_path / "own", 220)
    write_pictures(folder, ["extra.png", "more/b.png"])
    (folder / "notes.txt").write_text("no picture")
    status, out, _ = check(folder)
    assert status == 0
    assert out.count("not named in a sound line of metadata.jsonl: extra.png, more/b.png\n") == 1


def spoilt(folder: Path) -> Path:
    """A folder with one of everything."""
    rows = rows_of(300)
    write_jsonl(folder, rows)
    write_pictures(folder, [str(row["file_name"]) for row in rows])
    for number, kind in enumerate(sorted(REFUSED), start=100):
        (folder / f"{number}.png").unlink()
        REFUSED[kind](folder / f"{number}.png", np.random.default_rng(0))
    rows[7]["text"] = "x" * 99
    rows[8]["file_name"] = "../data.png"
    (folder.parent / "data.png").touch()
    write_jsonl(folder, rows)
    return folder


def test_all_that_is_wrong_is_named_and_the_status_is_not_0(check, tmp_path):
    status, out, err = check(spoilt(tmp_path / "own"))
    lines = errors(err)
    assert status == 1
    assert len(lines) == 2 + len(REFUSED)
    assert "line 8 (007.png): caption" in lines[0]
    assert "line 9 (../data.png): the file lies outside of the folder" in lines[1]
    for number in range(100, 100 + len(REFUSED)):
        assert sum(f"{number}.png" in line for line in lines) == 1
    assert said(out, "verdict") == [f"{len(lines)} problems; mend them, then check again"]
    assert "Traceback" not in err


def prepare_own(tmp_path: Path) -> str:
    """What prepare, refusing the folder `own`, says."""
    raw = load_params(REPO / "params.yaml")
    images = raw.data.image_folder.model_copy(update={"folder": "own"})
    data = raw.data.model_copy(update={"dataset": "image_folder", "image_folder": images})
    with pytest.raises(UserError) as caught:
        prepare.run(Layout(tmp_path), raw.clip, data)
    assert not (tmp_path / "data" / "prepared").exists()
    return str(caught.value)


def test_prepare_refuses_the_same_metadata_and_writes_nothing(check, tmp_path):
    _, _, err = check(spoilt(tmp_path / "own"))
    assert set(prepare_own(tmp_path).splitlines()) <= set(errors(err))


def test_prepare_stops_at_a_picture_that_the_check_names_too(check, tmp_path):
    folder = make_folder(tmp_path / "own", 220)
    (folder / "007.png").write_text("no picture")
    (line,) = errors(check(folder)[2])
    assert prepare_own(tmp_path) == (
        f"{line}; `python cli.py data check {folder}` lists all that is wrong"
    )


def test_a_folder_without_metadata_is_one_line(check, tmp_path):
    status, out, err = check(tmp_path)
    assert (status, out) == (1, "")
    (line,) = errors(err)
    assert line.startswith(f"{tmp_path}: has neither metadata.jsonl nor metadata.csv; expected")


def test_a_fault_of_the_header_is_the_one_line(check, tmp_path):
    """None says besides that too few pictures are left: that is what the fault does."""
    folder = make_folder(tmp_path / "own")
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text("file_name;text\n000.png;a\n")
    status, out, err = check(folder)
    assert (status, len(errors(err))) == (1, 1)
    assert said(out, "verdict") == ["1 problem; mend it, then check again"]


def test_the_command_in_an_error_can_be_given_as_it_stands(tmp_path):
    folder = tmp_path / "it's (1)"
    with pytest.raises(UserError) as caught:
        stop_if_any(["x"] * 99, folder)
    words = re.findall(r"`(.*)`", str(caught.value))[-1]
    assert shlex.split(words) == ["python", "cli.py", "data", "check", str(folder)]


def test_an_empty_list_of_pictures_is_described_too(check, tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text\n")
    status, out, _ = check(tmp_path)
    assert status == 1
    assert said(out, "captions") == ["none"]


def test_the_example_that_ships_is_sound_but_small(check):
    status, out, err = check(REPO / "data" / "example")
    (line,) = errors(err)
    assert status == 1
    assert "1 of 12 pictures are for the test; expected at least 20" in line
    assert said(out, "attributes") == ["thing (4 values), time (3 values)"]
