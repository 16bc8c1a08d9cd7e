"""Trainings that two processes share, for real: gloo on the CPU, tiny networks."""

import csv
import functools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from dag import REPO
from dvc_repo import Lab, stages_run
from mlflow_tables import rows
from pages import blocks
from test_faults_kill import digest, remove_outs
from tiny_params import tiny_params, write_params

pytestmark = pytest.mark.slow

SHARED = ("train_clip", "train_prior", "train_decoder")
TWO = {"UNCLIP_PROCESSES": "2", "UNCLIP_THREADS": "2", "UNCLIP_TRACKING": "off"}
ONE = {"UNCLIP_TRACKING": "off"}
STEPS = 40


@dataclass(frozen=True)
class Shared:
    """A repository in which two processes have shared a training, and what they said."""

    lab: Lab
    said: str


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Lab:
    """A repository in which each training has run in one process."""
    lab = Lab.cloned(REPO, tmp_path_factory.mktemp("several") / "alone")
    write_params(lab.root / "params.yaml", changed_params(train_steps=STEPS, val_every=STEPS // 2))
    for stage in ("prepare", *SHARED, "train_judge"):
        lab.run(sys.executable, "-m", f"stages.{stage}", **ONE)
    return lab


def changed_params(**values: object) -> dict:
    """Tiny params with other values in every section of a training."""
    params = tiny_params()
    for kind in ("clip", "prior", "decoder", "judge"):
        params[kind] |= {"precision": "fp32", **values}
    params["clip"]["val_pictures"] = params["prior"]["val_pictures"] = 100
    params["decoder"]["val_pictures"] = 100
    return params


def copied(lab: Lab, folder: Path, params: dict | None = None) -> Lab:
    """A copy of a repository, to train in again, without any state."""
    shutil.copytree(lab.root, folder, ignore=shutil.ignore_patterns(".state"))
    if params is not None:
        write_params(folder / "params.yaml", params)
    return Lab.beside(folder)


def train(lab: Lab, stage: str, **variables: str) -> str:
    """Runs a training afresh, as DVC does; returns what it says."""
    remove_outs(lab, stage)
    return lab.run(sys.executable, "-m", f"stages.{stage}", **variables)


def start(lab: Lab, stage: str, **variables: str) -> subprocess.Popen[str]:
    remove_outs(lab, stage)
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=lab.root,
        env=lab.environment() | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def in_two(alone, tmp_path_factory) -> Callable[[str], Shared]:
    """Gives a training as two processes have done it; each is done once."""

    @functools.cache
    def trained(stage: str) -> Shared:
        lab = copied(alone, tmp_path_factory.mktemp("in-two") / stage)
        return Shared(lab, train(lab, stage, **TWO))

    return trained


def curve(lab: Lab, stage: str) -> list[dict[str, float]]:
    """The rows of a training's history."""
    with (lab.root / "history" / f"{stage}.csv").open(newline="") as stream:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]


# The same training, whatever the number of processes


@pytest.mark.parametrize("stage", SHARED)
def test_two_processes_train_as_one_does_at_the_same_batch(alone, in_two, stage):
    shared, said = in_two(stage).lab, in_two(stage).said
    assert said.count(f"{stage}: {STEPS}/{STEPS}") == 1, said  # one of them shows progress
    ours, theirs = curve(shared, stage), curve(alone, stage)
    assert len(ours) == len(theirs) == STEPS
    for mine, other in zip(ours[:5], theirs[:5], strict=True):  # before rounding has grown
        assert mine == pytest.approx(other, rel=1e-3)
    losses = [
        json.loads((lab.root / "metrics" / f"{stage}.json").read_text())["val_loss"]
        for lab in (shared, alone)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert digest(shared, stage).keys() == digest(alone, stage).keys()
    assert digest(shared, stage) != digest(alone, stage)  # sums are rounded in another order


@pytest.mark.extra
def test_two_processes_give_the_same_bytes_every_time(alone, in_two, tmp_path):
    again = copied(alone, tmp_path / "again")
    train(again, "train_clip", **TWO)
    assert digest(again, "train_clip") == digest(in_two("train_clip").lab, "train_clip")


def test_dvc_and_mlflow_know_a_shared_training_as_any_other(alone, tmp_path):
    lab = copied(alone, tmp_path / "lab")
    lab.start_git()
    (lab.root / "local.yaml").write_text("processes: 2\nthreads: 2\n", encoding="utf-8")
    environment = {"UNCLIP_THREADS": "", "UNCLIP_PROCESSES": ""}  # local.yaml is to be heeded
    lab.run("dvc", "repro", "train_prior", **environment)
    tags = {row.tags["stage"]: row.tags["processes"] for row in rows(lab.root, "unclip-stages")}
    assert tags == {"train_clip": "2", "train_prior": "2"}
    (lab.root / "local.yaml").unlink()
    assert stages_run(lab.run("dvc", "repro", "train_prior")) == []  # it is no param
    # One process goes on from what two have made.
    ran = stages_run(lab.run("dvc", "repro", "sample"))
    assert ran == ["train_decoder", "sample"]


def launches() -> list[str]:
    """The commands of docs/scale.md that train the prior in two processes, each its own way."""
    (block,) = blocks("docs/scale.md")
    return block.splitlines()


@pytest.mark.parametrize("command", launches())
@pytest.mark.extra
def test_every_launcher_of_the_page_gives_the_same_bytes(alone, in_two, tmp_path, command):
    theirs = copied(alone, tmp_path / "theirs")
    remove_outs(theirs, "train_prior")
    theirs.run("bash", "-euc", command, UNCLIP_THREADS="2", UNCLIP_TRACKING="off")
    assert digest(theirs, "train_prior") == digest(in_two("train_prior").lab, "train_prior")


@pytest.mark.extra
def test_the_judge_learns_in_one_process(alone, tmp_path):
    lab = copied(alone, tmp_path / "lab")
    train(lab, "train_judge", **TWO | {"UNCLIP_THREADS": "1"})
    assert digest(lab, "train_judge") == digest(alone, "train_judge")
    done = lab.call(
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "stages.train_judge"),
        **TWO,
    )
    assert done.returncode != 0
    message = "error: train_judge: was started in 2 processes, and its work is for one; start it"
    assert done.stdout.count(message) == 1


# What ends it


def test_a_users_mistake_is_one_line_of_one_process(alone, tmp_path):
    done = copied(alone, tmp_path / "lab").call(
        *(sys.executable, "-m", "stages.train_prior"), **TWO | {"UNCLIP_PROCESSES": "3"}
    )
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("error: prior.batch_size: 16 is not a multiple of 3, the number of")


@pytest.fixture
def endless(alone, tmp_path) -> Lab:
    """A repository whose prior trains for minutes and saves its state twice a second."""
    params = changed_params(train_steps=20_000, val_every=20_000)
    return saving_often(copied(alone, tmp_path / "endless", params))


def saving_often(lab: Lab) -> Lab:
    state = lab.root / "unclip/running/state.py"
    text = state.read_text(encoding="utf-8")
    assert "SECONDS_BETWEEN_SAVES = 45.0" in text
    state.write_text(text.replace("BETWEEN_SAVES = 45.0", "BETWEEN_SAVES = 0.5"), encoding="utf-8")
    return lab


def in_the_middle(lab: Lab, stage: str, **variables: str) -> tuple[subprocess.Popen, list]:
    """A launcher, and its processes in their order, that have saved a state of a training."""
    launcher = start(lab, stage, **variables)
    while not list(lab.root.glob(f".state/{stage}/*/state.safetensors")):
        assert launcher.poll() is None, launcher.communicate()[1]
        time.sleep(0.05)
    processes = psutil.Process(launcher.pid).children()
    return launcher, sorted(processes, key=lambda process: int(process.environ()["RANK"]))


def have_ended(processes: list[psutil.Process], seconds: float) -> bool:
    return psutil.wait_procs(processes, timeout=seconds)[1] == []


def one_line_says_that_one_is_lost(launcher, processes) -> None:
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert have_ended(processes, 5)
    *_, last = said.splitlines()
    assert last.startswith("error: train_prior: one of its processes was killed"), said
    assert "Traceback" not in said
    assert said.count("error: ") == 1


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.extra
def test_when_one_process_is_killed_all_end_and_one_line_says_so(endless, rank):
    launcher, processes = in_the_middle(endless, "train_prior", **TWO)
    assert len(processes) == 2
    processes[rank].kill()
    one_line_says_that_one_is_lost(launcher, processes)


@pytest.mark.extra
def test_so_does_one_that_the_launcher_ends_before_it_has_noticed(endless):
    launcher, (slow, killed) = in_the_middle(endless, "train_prior", **TWO)
    slow.suspend()
    killed.kill()
    assert have_ended([killed], 30)  # the launcher has noticed
    time.sleep(1)
    slow.resume()
    one_line_says_that_one_is_lost(launcher, [slow, killed])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.extra
def test_who_ends_the_launcher_ends_all_and_reads_one_line(endless, number):
    launcher, processes = in_the_middle(endless, "train_prior", **TWO)
    launcher.send_signal(number)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert have_ended(processes, 5)
    assert said.splitlines()[-1] == (
        "error: train_prior was interrupted; `dvc repro` goes on with it"
    )
    assert said.count("error: ") == 1, said


@pytest.mark.extra
def test_no_process_outlives_a_launcher_that_is_killed_outright(endless):
    launcher, processes = in_the_middle(endless, "train_prior", **TWO)
    launcher.kill()
    assert have_ended(processes, 30)
    launcher.communicate()


@pytest.mark.extra
def test_a_loss_that_is_not_finite_is_one_line(alone, tmp_path):
    lab = copied(alone, tmp_path / "lab")
    embeds = np.load(lab.root / "data/embeddings/train.npy")
    np.save(lab.root / "data/embeddings/train.npy", embeds * np.nan)
    launcher = start(lab, "train_prior", **TWO)
    _, said = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    (line,) = said.splitlines()
    assert line.startswith("error: train_prior: loss is nan at step 1, ")


# Going on


@pytest.fixture
def longer(alone, tmp_path) -> Lab:
    """A repository whose decoder trains for a while and saves its state twice a second."""
    params = changed_params(train_steps=160, val_every=40)
    params["decoder"]["paint_every"] = 40
    return saving_often(copied(alone, tmp_path / "longer", params))


@pytest.mark.extra
def test_two_processes_go_on_where_two_were_killed_and_end_in_the_same_bytes(longer, tmp_path):
    whole = copied(longer, tmp_path / "whole")
    train(whole, "train_decoder", **TWO)
    launcher, processes = in_the_middle(longer, "train_decoder", **TWO)
    for process in (launcher, *processes):
        process.kill()
    launcher.communicate()
    said = train(longer, "train_decoder", **TWO)
    assert said.count("train_decoder: goes on from step") == 1, said
    assert digest(longer, "train_decoder") == digest(whole, "train_decoder")


@pytest.mark.extra
def test_another_number_of_processes_starts_afresh(longer):
    launcher, processes = in_the_middle(longer, "train_decoder", **TWO)
    for process in (launcher, *processes):
        process.kill()
    launcher.communicate()
    # As many threads in a process: nothing else differs.
    assert "goes on from" not in train(longer, "train_decoder", **ONE)
