"""The real dvc.yaml under the real DVC, each command replaced by one that takes no time."""

import re
import shutil
import subprocess
from pathlib import Path

import networkx as nx
import pytest
import yaml
from dag import REPO, STAGES, downstream
from dvc_repo import Lab, cpu_seconds, stages_run
from tiny_params import leaves, write_params

pytestmark = pytest.mark.slow

PAINTED = {"sample", "paint_controls", "evaluate", "report"}
OTHERS = {"test_fraction": 0.1, "caption": "{}", "allow_flip": False}  # values of data.image_folder


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory) -> Lab:
    """A repository in which every stage was run once, and all of it is committed."""
    lab = Lab.beside(tmp_path_factory.mktemp("reruns") / "lab")
    for name in ("params.yaml", ".gitignore", ".dvcignore", "tests/stand_in.py"):
        shutil.copy(REPO / name, lab.root)
    for folder in ("data/example", "data/none", "stages", "unclip"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPO / folder, lab.root / folder, ignore=ignored)
    real = (REPO / "dvc.yaml").read_text(encoding="utf-8")
    text, count = re.subn(r"cmd: python -m stages\.", "cmd: python stand_in.py ", real)
    assert count == len(STAGES)
    (lab.root / "dvc.yaml").write_text(text, encoding="utf-8")
    (lab.root / ".dvc").mkdir()
    shutil.copy(REPO / ".dvc" / "config", lab.root / ".dvc")
    lab.start_git()
    assert set(stages_run(lab.run("dvc", "repro"))) == set(STAGES)
    lab.commit("Reproduce")
    return lab


@pytest.fixture
def lab(reproduced, tmp_path) -> Lab:
    """A copy of that repository to spoil."""
    shutil.copytree(reproduced.root, tmp_path / "lab", symlinks=True)
    return Lab.beside(tmp_path / "lab")


def rerun(lab: Lab, *command: str) -> set[str]:
    """The stages that a command really ran, by their own notes."""
    said = stages_run(lab.run(*command))
    log = lab.home / "ran.txt"
    ran = log.read_text(encoding="utf-8").split() if log.exists() else []
    log.unlink(missing_ok=True)
    assert ran == said
    assert len(set(ran)) == len(ran), "no stage runs twice"
    return set(ran)


def change_value(lab: Lab, section: str, key: str, value: object) -> None:
    params = yaml.safe_load((lab.root / "params.yaml").read_text(encoding="utf-8"))
    assert params[section][key] != value
    params[section][key] = value
    write_params(lab.root / "params.yaml", params)


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def other(value: object) -> object:
    """A value of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 2 + 1
        case str():
            return value + "x"
        case list():
            return [*value, 1]
    raise AssertionError(f"{value!r}: params.yaml has no such values")


@pytest.fixture
def repo(lab, monkeypatch):
    """DVC's own view of that copy, held open: to ask it takes a fraction of a command."""
    from dvc.repo import Repo

    for name, value in lab.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(lab.root)
    with Repo(str(lab.root)) as repo, repo.lock:
        assert would_rerun(repo) == set()
        yield repo


def test_a_value_reruns_the_stages_that_declare_it_and_what_comes_after(repo):
    path = Path("params.yaml")
    shipped = yaml.safe_load(path.read_text(encoding="utf-8"))
    named = {key for about in STAGES.values() for key in about["params"] if "." in key}
    firsts = {key.split(".")[0]: key for key in reversed(leaves(shipped))}
    found, expected = {}, {}
    for key in {*named, *firsts.values()}:
        value = leaves(shipped)[key]
        write_params(path, changed(shipped, key, other(value)))
        found[key] = would_rerun(repo)
        names = {key, key.split(".")[0]}
        declaring = {stage for stage in STAGES if names & set(STAGES[stage]["params"])}
        expected[key] = downstream(declaring)
    assert {key.split(".")[0] for key in found} == set(shipped)
    assert found == expected


REWORDED = {
    "a message": ("unclip/config/errors.py", "cannot hold", "cannot keep"),
    "a progress line": ("unclip/running/progress.py", "s left", "seconds left"),
    "what MLflow is told": ("unclip/tracking/store.py", "Training stages as they run", "Trainings"),
    "a validation": ("unclip/params/sections.py", "ge=8, le=512", "ge=8, le=1024"),
    "a setting of the machine": (
        "unclip/config/settings.py",
        "SETTINGS = {\n",
        'SETTINGS = {\n    "colour": "UNCLIP_COLOUR",\n',
    ),
}


@pytest.mark.parametrize("kind", REWORDED)
def test_what_can_change_no_byte_reruns_nothing(repo, kind):
    path, before, after = REWORDED[kind]
    text = Path(path).read_text(encoding="utf-8")
    assert before in text
    Path(path).write_text(text.replace(before, after), encoding="utf-8")
    assert would_rerun(repo) == set()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("unclip/models/prior.py", {"train_prior"} | PAINTED),
        ("unclip/diffusion/samplers.py", {"train_decoder"} | PAINTED),
        ("unclip/painting/notes.py", PAINTED),
        ("unclip/evaluation/manifold.py", {"evaluate", "report"}),
    ],
)
def test_a_change_of_code_reruns_what_uses_it(repo, path, expected):
    append(Path(path), "# changed\n")
    assert would_rerun(repo) == expected


LEFT_BEHIND = """
__pycache__/fit.cpython-311.pyc .DS_Store ._fit.py .directory .nfs0001 .fuse_hidden01
.ipynb_checkpoints/fit-checkpoint.py .fit.py.swp .fit.py.swo fit.py~ #fit.py# fit.py.orig fit.py.rej
fit.py.bak .idea/lab.xml .vscode/settings.json Thumbs.db thumbs.db desktop.ini __MACOSX/._0000.png
.Trash-1000/files/fit.py .mypy_cache/fit.json .venv/lib/fit.py .gitkeep
"""


def test_what_compilers_desktops_and_editors_leave_behind_reruns_nothing(repo):
    folders = {path for about in STAGES.values() for path in about["deps"] if Path(path).is_dir()}
    assert {"models/clip", "unclip/training"} <= folders
    for folder in (*folders, "data/example", "unclip/training"):
        for name in LEFT_BEHIND.split():
            Path(folder, name).parent.mkdir(exist_ok=True, parents=True)
            Path(folder, name).write_text("left behind", encoding="utf-8")
        Path(folder, ".#fit.py").unlink(missing_ok=True)
        Path(folder, ".#fit.py").symlink_to("someone@host.123")  # Emacs; it leads nowhere
    assert would_rerun(repo) == set()
    for path in ("unclip/training/left.py", "data/example/left.png"):  # what someone means stays
        Path(path).write_text("new", encoding="utf-8")
        assert not repo.dvcignore.is_ignored_file(str(Path(path).resolve()))
    status = subprocess.check_output(["git", "status", "--porcelain", "-uall"], text=True)
    unknown = {line[3:] for line in status.splitlines()}
    shown = {name for name in unknown if not re.search(r"/\.(Trash|gitkeep)", name)}
    assert shown == {"unclip/training/left.py", "data/example/left.png"}


def test_a_value_written_in_another_way_reruns_nothing(repo):
    text = Path("params.yaml").read_text(encoding="utf-8")
    rewritten, count = re.subn(r"\b([0-9])\.0e-3\b", r"0.00\1", text)
    assert count > 0
    Path("params.yaml").write_text(f"# A new comment\n{rewritten}", encoding="utf-8")
    assert would_rerun(repo) == set()


def changed(params: dict, key: str, value: object) -> dict:
    """A copy of params with another value at a dotted key."""
    first, _, rest = key.partition(".")
    return params | {first: changed(params[first], rest, value) if rest else value}


def would_rerun(repo) -> set[str]:
    """The stages that DVC finds changed, and those behind them in DVC's own graph."""
    graph = repo.index.graph  # from a stage to those it depends on
    named = {stage.name: stage for stage in graph}
    direct = {stage.name for stage in graph if stage.status(check_updates=True)}
    return direct | {s.name for name in direct for s in nx.ancestors(graph, named[name])}


def test_an_experiment_reruns_no_more_than_the_value_it_sets(lab):
    command = ("dvc", "exp", "run", "-S", "decoder.lr=3e-4")
    assert rerun(lab, *command) == {"train_decoder"} | PAINTED


def test_another_picture_of_ones_own_reruns_all_and_none_elsewhere_does(lab):
    shutil.copytree(lab.root / "data" / "example", lab.root / "data" / "own")
    append(lab.root / "data" / "example" / "metadata.csv", "0001.jpg,another,tree,day\n")
    assert rerun(lab, "dvc", "repro") == set()
    change_value(lab, "data", "image_folder", {"folder": "data/own"} | OTHERS)
    assert rerun(lab, "dvc", "repro") == set(STAGES)
    assert rerun(lab, "dvc", "repro") == set()
    append(lab.root / "data" / "own" / "metadata.csv", "0002.png,another,tree,day\n")
    assert rerun(lab, "dvc", "repro") == set(STAGES)
    append(lab.root / "data" / "example" / "metadata.csv", "0002.png,another,tree,day\n")
    assert rerun(lab, "dvc", "repro") == set()


def test_experiments_in_temporary_folders_have_the_pictures_that_dvc_keeps(lab):
    shutil.copytree(lab.root / "data" / "example", lab.root / "data" / "own")
    lab.run("dvc", "add", "data/own")
    change_value(lab, "data", "image_folder", {"folder": "data/own"} | OTHERS)
    lab.commit("Pictures of my own")
    assert rerun(lab, "dvc", "exp", "run", "--temp", "prepare") == {"prepare"}


def test_nothing_to_do_costs_little_more_than_with_as_many_empty_stages(lab, tmp_path):
    empty = Lab.beside(tmp_path / "empty")
    (empty.root / ".dvc").mkdir()
    shutil.copy(REPO / ".dvc" / "config", empty.root / ".dvc")
    chain = {
        f"s{i}": {"cmd": f"touch out{i}", "deps": [f"out{i - 1}"], "outs": [f"out{i}"]}
        for i in range(1, len(STAGES) + 1)
    }
    (empty.root / "out0").touch()
    (empty.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": chain}), encoding="utf-8")
    empty.start_git()
    empty.run("dvc", "repro")
    # In turns, and the best of some, so that a busy machine is busy for both.
    seconds = [(nothing_to_do(lab), nothing_to_do(empty)) for _ in range(4)]
    ours, least = map(min, zip(*seconds, strict=True))
    assert ours <= 2.5 * least


def nothing_to_do(lab: Lab) -> float:
    """Processor seconds of a repro that finds everything up to date."""
    before = cpu_seconds()
    assert stages_run(lab.run("dvc", "repro")) == []
    return cpu_seconds() - before
