"""As a user has it: pictures of many revisions are traced, painted again, and compared."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from dvc_repo import Lab
from mlflow_tables import rows
from PIL import Image
from tiny_params import tiny_params, write_params

pytestmark = pytest.mark.slow

KINDS = ("clip", "prior", "decoder")
PROMPTS = ("a large red circle", "a small blue star", "a large green square")
SAME = "painted again: the same pixels, and the same file byte for byte"
# Each by the command line itself, without the seconds that it takes to import torch anew.
TRACE_ALL = """
import sys
import cli
status = []
for path in sys.argv[1:]:
    sys.argv = ["cli.py", "trace", path, "--repaint"]
    try:
        cli.main()
        status.append(0)
    except SystemExit as end:
        status.append(end.code or 0)
print("statuses", *status)
"""


@dataclass(frozen=True)
class Painted:
    """A repository with a history, and pictures of three of its states.

    Attributes:
        lab: the repository; its files are of the last state.
        first: pictures of the first commit, whose prior is in DVC's cache alone by now.
        aside: of an experiment that ran in a workspace of its own.
        last: of the last commit.
        remote: a folder, DVC's remote.
    """

    lab: Lab
    first: list[Path]
    aside: list[Path]
    last: list[Path]
    remote: Path


@pytest.fixture(scope="module")
def painted(reproduced_once, tmp_path_factory) -> Painted:
    folder = tmp_path_factory.mktemp("way-back")
    lab = reproduced_once.copied(folder / "lab").lab
    lab.run("dvc", "remote", "add", "--default", "store", str(folder / "remote"))
    lab.run("dvc", "push")
    first = paint(lab, folder / "first", "--num", "3", "--seed", "5")
    aside = paint(lab, folder / "aside", "--num", "3", "--rev", "aside")
    params = tiny_params()
    params["prior"]["lr"] = 2e-4
    write_params(lab.root / "params.yaml", params)
    lab.run("dvc", "repro", "sample")
    lab.commit("Another prior")
    last = paint(lab, folder / "last", "--num", "1", "--guidance", "2.5")
    lab.run("dvc", "push")
    return Painted(lab, first, aside, last, folder / "remote")


def paint(lab: Lab, out: Path, *options: str) -> list[Path]:
    lab.run("python", "cli.py", "sample", *PROMPTS, "--out", str(out), *options)
    return sorted(out.glob("*_seed*.png"))


def repaint(lab: Lab, *pictures: Path) -> str:
    """What the command line says of the pictures, each painted again."""
    said = lab.run("python", "-c", TRACE_ALL, *map(str, pictures), COLUMNS="200")
    assert said.splitlines()[-1] == "statuses" + " 0" * len(pictures), said
    return said


def hashes(picture: Path) -> dict[str, str]:
    with Image.open(picture) as image:
        return {kind: image.text[f"checkpoint.{kind}"] for kind in KINDS}


def test_twenty_of_twenty_pictures_of_three_revisions_are_painted_again_to_the_byte(painted):
    pictures = [*painted.first, *painted.aside, *painted.last][:20]
    assert len(pictures) == 20
    assert len({tuple(hashes(picture).values()) for picture in pictures}) == 3
    assert repaint(painted.lab, *pictures).count(SAME) == 20


def test_a_picture_varied_from_its_own_noise_is_painted_again_too(painted, tmp_path):
    options = ["--invert", "--num", "1", "--steps", "4", "--out", str(tmp_path)]
    painted.lab.run("python", "cli.py", "vary", str(painted.last[0]), *options)
    (varied,) = tmp_path.glob("*_seed*_seed*.png")
    assert repaint(painted.lab, varied).count(SAME) == 1


def test_the_way_back_names_revisions_runs_params_and_records(painted):
    lab, picture = painted.lab, painted.aside[0]
    said = lab.run("python", "cli.py", "trace", str(picture), COLUMNS="240")
    made_by = {run.tags["output_hash"]: run for run in rows(lab.root, "unclip-stages")}
    for kind, value in hashes(picture).items():
        run = made_by[value]
        assert value in said
        assert f"run {run.id} in unclip-stages" in said
        assert run.tags["commit"][:12] in said
        assert f"train_steps {run.params[f'{kind}.train_steps']}" in said
    assert re.search(r"revisions +experiment aside \([0-9a-f]{7}\)", said)
    (record,) = [r for r in rows(lab.root, "unclip") if r.tags.get("dvc_exp") == "aside"]
    assert f"{record.id} in unclip" in said
    assert "shapes, seed 0, image_size 16" in said
    others = [r.id for r in rows(lab.root, "unclip") if r.id != record.id]
    assert others
    assert not [run for run in others if run in said]


def test_a_fresh_clone_paints_again_what_its_remote_has(painted, tmp_path):
    clone = Lab.beside(tmp_path / "clone")
    clone.run("git", "clone", "--quiet", str(painted.lab.root), ".")
    clone.run("dvc", "remote", "add", "--default", "--force", "store", str(tmp_path / "gone"))
    fails_in_one_line(clone, painted.last[0], "clip ")
    clone.run("dvc", "remote", "add", "--default", "--force", "store", str(painted.remote))
    clone.run("dvc", "pull")
    said = repaint(clone, painted.last[0], painted.first[0])
    assert said.count(SAME) == 2
    assert said.count("no records of MLflow here yet") == 2
    assert said.count("not on this machine") == 1, "the first prior, from the remote alone"
    fails_in_one_line(clone, painted.aside[0], "decoder ")  # nobody has fetched the experiment


def fails_in_one_line(lab: Lab, picture: Path, line: str) -> None:
    done = lab.call("python", "cli.py", "trace", str(picture), "--repaint")
    assert done.returncode == 1
    errors = [each for each in done.stdout.splitlines() if each.startswith("error")]
    assert errors == done.stdout.splitlines()[-1:]
    assert errors[0].startswith(f"error: {line}")
    assert "Traceback" not in done.stdout


def test_experiments_are_compared_side_by_side_and_pictures_of_the_page_lead_back(
    painted, tmp_path
):
    lab = painted.lab
    revs = ["workspace", "HEAD^", "aside"]
    prompts = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    options = ["--num", "2", "--seed", "3", "--out", str(tmp_path)]
    said = lab.run("python", "cli.py", "compare", *revs, *prompts, *options)
    assert said.splitlines()[-1] == str(tmp_path / "comparison.html")
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    changed = re.findall(r"<th scope=row>(prior\.[\w.]+|decoder\.[\w.]+)</th>", page)
    assert changed == ["prior.lr", "decoder.lr"]
    assert "joint_accuracy" in page
    pictures = []
    for number, source in enumerate(re.findall(r'base64,([^"]+)"', page)):
        pictures.append(tmp_path / f"{number}.png")
        pictures[-1].write_bytes(base64.b64decode(source))
    assert len(pictures) == len(revs) * len(PROMPTS) * 2
    assert repaint(lab, *pictures[::3]).count(SAME) == 6
