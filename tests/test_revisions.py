"""Networks and files of a revision, in repositories of every shape, and what git cannot read."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc_repo import Lab
from revisions import KINDS, commit_networks

from unclip.commands.diagnosis import CHECKS
from unclip.config.errors import UserError
from unclip.provenance.dvc_history import remembered
from unclip.provenance.revisions import fetch_models, read_files
from unclip.provenance.search import find_networks


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch, tmp_path) -> Iterator[None]:
    """No test waits for ever, or sees the configuration of whoever runs it."""
    for name in ("HOME", "DVC_SITE_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits for ever"))
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture
def lab(tmp_path) -> Lab:
    """A laboratory deep in a larger git repository, with networks of two commits and more."""
    larger = tmp_path / "larger"
    larger.mkdir()
    lab = Lab.beside(larger / "my%20lab? 'ü'")
    (lab.root / ".dvc").mkdir()
    (lab.root / ".dvc" / ".gitignore").write_text("/cache\n/tmp\n")
    (larger / "other.txt").write_text("another project")
    lab.run("git", "init", "--quiet", "--initial-branch=main", "..")
    lab.run("git", "config", "user.name", "A. Tester")
    lab.run("git", "config", "user.email", "tester@example.org")
    commit_networks(lab, "one")
    commit_networks(lab, "experiment")
    commit_of(lab, "update-ref", f"refs/exps/12/{'3' * 38}/big-lr", "HEAD")
    commit_of(lab, "update-ref", "refs/remotes/origin/theirs", "HEAD")
    lab.run("git", "reset", "--quiet", "--hard", "HEAD^")
    commit_networks(lab, "second")
    return lab


def commit_of(lab: Lab, *command: str) -> str:
    return lab.run("git", *command).strip()


def fetched(rev: str, folder: Path) -> str:
    """Returns what the commit was called whose networks and params are fetched."""
    fetch_models(rev, folder)
    names = {(folder / f"models/{k}/model.safetensors").read_text().removesuffix(k) for k in KINDS}
    params = yaml.safe_load((folder / "params.yaml").read_text())
    (name,) = names
    assert params["sample"]["seed"] == len(name.strip())
    return name.strip()


@pytest.mark.parametrize("below", [".", "docs/deep"])
def test_a_revision_is_read_from_any_folder_of_a_laboratory_in_a_larger_repository(
    lab, tmp_path, monkeypatch, below
):
    (lab.root / below).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(lab.root / below)
    revs = {"HEAD": "second", "main~1": "one", "big-lr": "experiment", "theirs": "experiment"}
    revs[commit_of(lab, "rev-parse", "--short", "HEAD^")] = "one"
    for number, (rev, name) in enumerate(revs.items()):
        assert fetched(rev, tmp_path / str(number)) == name
        commit, texts = read_files(rev, ["params.yaml", "metrics/none.json"])
        assert yaml.safe_load(texts.pop("params.yaml"))["sample"]["seed"] == len(name)
        assert texts == {}
        wanted = ("log", "--all", "-1", "--format=%h", "--abbrev=7", f"--grep={name}")
        assert commit == commit_of(lab, *wanted)
    assert len(remembered(lab.root, pytest.fail)["clip"]) == 3


@pytest.mark.parametrize("rev", ["big-lr", "nothing", "--all", "HEAD~9", "main:other.txt"])
def test_what_names_no_commit_or_several_is_one_line(lab, tmp_path, monkeypatch, rev):
    commit_of(lab, "update-ref", f"refs/exps/45/{'6' * 38}/big-lr", "HEAD")
    monkeypatch.chdir(lab.root)
    with pytest.raises(UserError, match=f"^--rev {rev}: names no revision.*`dvc exp show`.*$") as e:
        fetch_models(rev, tmp_path / "out")
    assert ("2 have this name" in str(e.value)) == (rev == "big-lr")


def cloned(lab: Lab, clone: Path, *options: str) -> Lab:
    """Clones the larger repository; gives the laboratory of the clone, with DVC's cache."""
    lab.run("git", "config", "uploadpack.allowFilter", "true")
    origin = lab.root.parent
    lab.run("git", "clone", "--quiet", *options, f"file://{origin}", str(clone))
    shutil.copytree(lab.root / ".dvc" / "cache", clone / lab.root.name / ".dvc" / "cache")
    return Lab(clone / lab.root.name, lab.home)


def test_a_partial_clone_works_while_its_origin_answers_and_then_is_one_line(
    lab, tmp_path, monkeypatch
):
    clone = cloned(lab, tmp_path / "clone", "--filter=blob:none")
    monkeypatch.chdir(clone.root)
    away = lab.root.parent.rename(tmp_path / "away")
    with pytest.raises(UserError, match=r"^--rev HEAD~1: git .*--refetch --no-filter"):
        fetch_models("HEAD~1", tmp_path / "out")
    with pytest.raises(UserError, match=r"^HEAD~1: git .*--refetch --no-filter"):
        read_files("HEAD~1", ["params.yaml"])
    with pytest.raises(UserError, match="--refetch --no-filter"):
        CHECKS["git and DVC"]()
    told: list[str] = []
    assert list(remembered(clone.root, told.append)) == list(KINDS)
    assert ["--refetch --no-filter" in line for line in told] == [True]
    away.rename(lab.root.parent)
    assert fetched("HEAD~1", tmp_path / "online") == "one"
    clone.run("git", "fetch", "--quiet", "--refetch", "--no-filter")
    lab.root.parent.rename(away)
    assert len(remembered(clone.root, pytest.fail)["clip"]) == 2


def test_shallow_clones_and_worktrees_have_what_they_have(lab, tmp_path, monkeypatch):
    clone = cloned(lab, tmp_path / "shallow", "--depth=1")
    monkeypatch.chdir(clone.root)
    assert fetched("HEAD", tmp_path / "one") == "second"
    with pytest.raises(UserError, match="names no revision"):
        fetch_models("HEAD~1", tmp_path / "out")
    lab.run("git", "worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"), "HEAD~1")
    tree = tmp_path / "tree" / lab.root.name
    shutil.copytree(lab.root / ".dvc" / "cache", tree / ".dvc" / "cache")
    monkeypatch.chdir(tree)
    assert fetched("big-lr", tmp_path / "two") == "experiment"
    assert fetched("HEAD", tmp_path / "three") == "one"


@pytest.mark.parametrize("home", [True, False])
def test_a_user_without_a_name_is_told_what_to_set(lab, tmp_path, monkeypatch, home):
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", *([] if home else ["HOME"])):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(lab.root)
    with pytest.raises(UserError, match=r"^--rev HEAD: .*export LOGNAME"):
        fetch_models("HEAD", tmp_path / "out")
    with pytest.raises(UserError, match="export LOGNAME"):
        CHECKS["git and DVC"]()
    told: list[str] = []
    (network,) = find_networks({"clip": "a" * 64}, Path(), None, told.append)
    assert network.folder is None
    assert ["export LOGNAME" in line for line in told] == [True]
    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetched("HEAD", tmp_path / "cured") == "second"


def test_another_owners_repository_and_one_without_git_are_one_line(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(lab.root)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match=r"^--rev HEAD: .*--add safe.directory"):
        fetch_models("HEAD", tmp_path / "out")
    with pytest.raises(UserError, match=r"--add safe.directory"):
        CHECKS["git and DVC"]()
    shutil.rmtree(lab.root.parent / ".git")
    with pytest.raises(UserError, match=r"^--rev HEAD: .*not a git repository"):
        fetch_models("HEAD", tmp_path / "out")
