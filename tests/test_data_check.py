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

    def run_cli(folder: Path, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cli.py", "data", "check", str(folder), *options])
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
    assert said(out, "convention") == ["metadata.jsonl"]
    assert said(out, "pictures") == ["220"]
    parts = [said(out, part) for part in ("trained", "validated", "tested")]
    assert parts == [[f"{count} pictures of 3 captions"] for count in (165, 33, 22)]
    assert said(out, "captions") == ["3 distinct, the longest of 13 bytes"]
    assert said(out, "sizes") == [
        "10 × 10 to 64 × 40 pixels, brought to 32 × 32: 1 cut to a square, 218 enlarged"
    ]
    assert said(out, "attributes") == ["hue (3 values; always the same is right in 34%)"]
    assert said(out, "prompts") == ["a red thing, a green thing, a blue thing"]
    assert said(out, "note") == [
        "column id: an attribute has 2 to 100 different values, and this has 220: left out"
    ]
    assert said(out, "verdict")[0].startswith("all is well; to train, copy it below")


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
    found = [
        re.sub(r" \((trained|validated|tested)\)", "", line) for line in said(out, "duplicate")
    ]
    assert found == [
        "007.png has the same pixels as 003.png",
        "008.png has the same pixels as 004.png",
    ]
    assert out.count("(trained)") + out.count("(validated)") + out.count("(tested)") == 4


def test_pictures_that_the_metadata_do_not_name_are_told(check, tmp_path):
    folder = make_folder(tmp_path / "own", 220)
    write_pictures(folder, ["extra.png", "more/b.png"])
    (folder / "notes.txt").write_text("no picture")
    status, out, _ = check(folder)
    assert status == 0
    assert said(out, "left")[0].endswith(": extra.png, more/b.png")


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
    """Nothing is said besides, of too few pictures or of none: that is what the fault does."""
    folder = make_folder(tmp_path / "own")
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text("file_name;text\n000.png;a\n")
    status, out, err = check(folder)
    assert (status, len(errors(err))) == (1, 1)
    assert [line.split()[0] for line in out.splitlines()] == ["convention", "verdict"]
    assert said(out, "verdict") == ["1 problem; mend it, then check again"]


def test_names_seen_from_the_repository_are_one_line_with_the_remedy(check, tmp_path):
    folder = make_folder(tmp_path / "data" / "own")
    write_jsonl(
        folder, [row | {"file_name": f"data/own/{row['file_name']}"} for row in rows_of(40)]
    )
    status, out, err = check(folder)
    (line,) = errors(err)
    assert status == 1
    assert line.endswith("remove data/own from all of them")
    assert said(out, "left") == []


def test_of_captions_too_long_twenty_are_shown_with_the_value_that_cures_all(check, tmp_path):
    texts = [f"{i:03}{'x' * (60 + i)}" for i in range(250)]
    folder = make_folder(tmp_path / "own", 250, text=texts)
    (folder / "249.png").unlink()  # so the longest caption is not the only fault of its line
    status, _, err = check(folder)
    lines = errors(err)
    assert status == 1
    assert sum("clip.text_length=314" in line for line in lines) == 21
    assert lines[20] == "… and 230 more; all fit with -S clip.text_length=314"
    assert "no such file" in lines[21]
    assert len(lines) == 22
    status, _, err = check(folder, "-S", "clip.text_length=314")
    assert ["no such file" in line for line in errors(err)] == [True]


def test_captions_that_training_never_shows_are_counted(check, tmp_path):
    folder = make_folder(tmp_path / "own", 400, text=[f"picture {i}" for i in range(400)])
    out = check(folder)[1]
    assert said(out, "trained") == ["360 pictures of 360 captions"]
    for part in ("validated", "tested"):
        assert said(out, part) == ["20 pictures of 20 captions, 20 of which are never trained"]


def test_params_are_changed_as_for_an_experiment_and_the_next_command_says_so(check, tmp_path):
    folder = tmp_path / "data" / "own"
    write_pictures(folder, [f"{kind}/{i}.png" for kind in ("dog", "cat") for i in range(150)])
    before = (REPO / "params.yaml").read_bytes()
    caption = "data.image_folder.caption='a photo, of a {}'"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unclip.config.settings.REPOSITORY", tmp_path)
        (tmp_path / "params.yaml").write_bytes(before)
        status, out, _ = check(folder, "-S", caption, "--set-param", "data.image_size=16")
        assert check(folder, "-S", "data.sizes=3")[0] == 1
        assert "-S data.image_size:" in check(folder, "-S", "data.image_size")[2]
    assert status == 0
    assert said(out, "convention") == ["a folder for each class"]
    (prompts,) = said(out, "prompts")
    assert {f"a photo, of a {kind}" in prompts for kind in ("cat", "dog")} == {True}
    assert "brought to 16 × 16" in said(out, "sizes")[0]
    words = shlex.split(said(out, "verdict")[0].partition("train with: ")[2])
    assert words[:3] == ["dvc", "exp", "run"]
    changes = [caption, "data.image_size=16", "data.dataset=image_folder"]
    assert words[4::2] == [*changes, "data.image_folder.folder=data/own"]
    assert (tmp_path / "params.yaml").read_bytes() == before


def test_the_command_in_an_error_can_be_given_as_it_stands(tmp_path):
    folder = tmp_path / "it's (1)"
    with pytest.raises(UserError) as caught:
        stop_if_any(["x"] * 99, folder)
    words = re.findall(r"`(.*)`", str(caught.value))[-1]
    assert shlex.split(words) == ["python", "cli.py", "data", "check", str(folder)]


def test_an_empty_list_of_pictures_is_refused(check, tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text\n")
    status, _, err = check(tmp_path)
    assert (status, len(errors(err))) == (1, 1)


def test_the_example_that_ships_is_sound_but_small(check):
    status, out, err = check(REPO / "data" / "example")
    (line,) = errors(err)
    assert status == 1
    assert "1 of 12 pictures are for the test; expected at least 20" in line
    assert re.findall(r"(\w+) \((\d) values", said(out, "attributes")[0]) == [
        ("thing", "4"),
        ("time", "3"),
    ]
