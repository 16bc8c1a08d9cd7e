"""docs/own-data.md word for word: its command blocks, in their order, on small params."""

import re
from pathlib import Path

import pytest
import yaml
from dag import REPO, STAGES
from dvc_repo import Lab, stages_run
from pages import blocks
from PIL import Image
from tiny_params import tiny_params, write_params

pytestmark = pytest.mark.extra

PAGE = REPO / "docs" / "own-data.md"


def commands() -> list[str]:
    """The commands of the page."""
    return [line for block in blocks("docs/own-data.md") for line in block.splitlines()]


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> tuple[Lab, dict[str, str]]:
    """A repository in which the page was followed, and what each command said."""
    lab = Lab.cloned(REPO, tmp_path_factory.mktemp("own") / "lab")
    params = tiny_params()
    params["sample"]["num_judged"] = 24
    write_params(lab.root / "params.yaml", params)
    lab.start_git()
    return lab, {command: lab.run("bash", "-c", command) for command in commands()}


def of(said: dict[str, str], words: str) -> str:
    (found,) = [output for command, output in said.items() if words in command]
    return found


def test_the_check_finds_nothing_wrong(followed):
    _, said = followed
    assert "tested      100 pictures" in of(said, "data check")
    assert "all is well" in of(said, "data check")


def test_everything_is_trained_on_those_pictures(followed):
    lab, said = followed
    assert set(stages_run(of(said, "dvc exp run"))) == set(STAGES)
    metrics = yaml.safe_load((lab.root / "metrics" / "headline.json").read_text())
    assert {"joint_accuracy", "frechet_distance", "frechet_distance_floor"} <= set(metrics)
    with Image.open(lab.root / "samples" / "grid.png") as grid:
        assert grid.text["prompts"].splitlines()[0] == "a boat by day"


def test_a_picture_is_painted_of_them(followed):
    lab, said = followed
    assert "never trained" not in of(said, "cli.py sample")
    assert len(list((lab.root / "samples" / "painted").glob("a-windmill-at-night_seed*.png"))) == 4


def test_then_dvc_repro_has_nothing_to_do_until_a_caption_changes(followed):
    lab, _ = followed
    assert stages_run(lab.run("dvc", "repro")) == []
    metadata = lab.root / "data" / "own" / "metadata.csv"
    text = metadata.read_text(encoding="utf-8")
    metadata.write_text(text.replace("a boat by day", "a ship by day"), encoding="utf-8")
    assert stages_run(lab.run("dvc", "repro", "train_clip")) == ["prepare", "train_clip"]


@pytest.mark.parametrize("number", range(2))
def test_the_examples_of_metadata_are_as_the_page_says(tmp_path, number):
    text = PAGE.read_text(encoding="utf-8")
    example = re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)[number]
    path = Path(tmp_path) / ("metadata.csv", "metadata.jsonl")[number]
    path.write_text(example, encoding="utf-8")
    from unclip.datasets.metadata import read_entries

    problems: list[str] = []
    (_, first), *_ = read_entries(path, problems)
    assert problems == []
    assert first.model_dump(exclude_none=True) == {
        **{"file_name": "0000.png", "text": "a boat by day"},
        **{"thing": "boat", "time": "day"},
    }
