import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent

# Tiny tensors gain nothing from a second thread, and lose much where a neighbour wants the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("UNCLIP_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slow tests first, so that at the end no worker waits for another's long module."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tiny Workspace in which everything but evaluate has run. Not to be written to."""
    from workspace import Workspace  # torch takes seconds to import, and many tests need none

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_TRACKING", "off")
        patch.setenv("UNCLIP_DEVICE", "cpu")
        stages = ("prepare", "train_clip", "train_prior", "train_decoder", "train_judge", "sample")
        return Workspace.at(tmp_path_factory.mktemp("trained")).run(*stages)


@pytest.fixture(scope="session")
def painted(trained, tmp_path_factory):
    """A folder of four pictures and their grid, of another process. Not to be written to."""
    folder = tmp_path_factory.mktemp("painted")
    command = [sys.executable, "cli.py", "sample", "a large red circle", "a small blue star"]
    command += ["--num", "2", "--seed", "7", "--steps", "3"]
    command += ["--from", str(trained.layout.root), "--out", str(folder)]
    environment = {"PATH": "", "UNCLIP_DEVICE": "cpu", "UNCLIP_THREADS": "1"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def reproduced_once(tmp_path_factory):
    """A small repository in which `dvc repro` and an experiment have run. To be copied only."""
    from reproduced import reproduced_once

    return reproduced_once(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module", autouse=True)
def _any_precision() -> None:
    """Lets a module's tests use another precision than those before them have used."""
    if "accelerate.state" in sys.modules:
        from workspace import forget_accelerator

        forget_accelerator()


@pytest.fixture
def on_cpu(monkeypatch) -> None:
    """Stages run on the CPU and tell MLflow nothing."""
    monkeypatch.setenv("UNCLIP_TRACKING", "off")
    monkeypatch.setenv("UNCLIP_DEVICE", "cpu")


@pytest.fixture
def run(monkeypatch, capsys, on_cpu):
    """Runs `python cli.py …` in this process; gives its status, stdout and stderr."""

    def run_cli(*arguments):
        from workspace import forget_accelerator

        import cli

        forget_accelerator()
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as exit_:
            status = exit_.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run_cli


@pytest.fixture
def refuse(run):
    """Runs a command that must end with status 1 and one line; gives the line."""

    def line_of(*arguments):
        status, out, err = run(*arguments)
        assert (status, out, err.count("\n")) == (1, "", 1), (status, out, err)
        assert err.startswith("error: ")
        return err.removeprefix("error: ").rstrip("\n")

    return line_of
