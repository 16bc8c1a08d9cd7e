"""A disk that fills up: while a stage works, when it ends, and when DVC stores what it made."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dag import REPO, STAGES
from dvc_repo import Lab
from test_faults_kill import TRAININGS, digest, remove_outs
from tiny_params import tiny_params, write_params

pytestmark = pytest.mark.extra

STEPS = 40
SPARE = 60_000_000  # bytes of the small disk beside what the stages leave there
# The stage as DVC runs it, but that it does not look for room before it works.
RECKLESS = (
    "import runpy, sys, unclip.running.preflight as preflight\n"
    "preflight.MARGIN = 0\n"
    "runpy.run_module(f'stages.{sys.argv[1]}', run_name='__main__')\n"
)
# The stage as DVC runs it, but that it saves after every step and that the disk is full from a
# moment on: "training" is its tenth step, "end" is when its first result is about to be written.
FILLING = """
import runpy, sys, unclip.running.state as state, unclip.training.ledger as ledger
stage, moment, filler = sys.argv[1:]
state.SECONDS_BETWEEN_SAVES = 0.0

def fill():
    with open(filler, "ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"0" * size) == size:
                    pass
            except OSError:
                pass

if moment == "training":
    save = state.TrainingState.save
    def save_when_full(self, snapshot):
        if snapshot.step == 10:
            fill()
        save(self, snapshot)
    state.TrainingState.save = save_when_full
else:
    write = ledger.History.write
    def write_when_full(self, path):
        fill()
        write(self, path)
    ledger.History.write = write_when_full
runpy.run_module(f"stages.{stage}", run_name="__main__")
"""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory) -> Iterator[Path]:
    """A folder on a disk of its own."""
    folder = tmp_path_factory.mktemp("disk")
    command = ("mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", str(folder))
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a disk")
    yield folder
    subprocess.run(("umount", "--lazy", str(folder)), check=True)


@pytest.fixture(scope="module")
def lab(small_disk) -> Lab:
    """A workspace on the small disk, in which every stage has run undisturbed."""
    lab = Lab.cloned(REPO, small_disk / "lab")
    params = tiny_params()
    for stage in TRAININGS:
        section = params[stage.removeprefix("train_")]
        section |= {"train_steps": STEPS, "val_every": 20}
    write_params(lab.root / "params.yaml", params)
    for stage in STAGES:
        run(lab, stage)
    size = shutil.disk_usage(small_disk).used + SPARE
    subprocess.run(("mount", "-o", f"remount,size={size}", str(small_disk)), check=True)
    return lab


@pytest.fixture
def whole(lab, stage) -> Iterator[dict[str, str]]:
    """The hashes of what the stage made undisturbed, which is there again afterwards."""
    found = digest(lab, stage)
    assert found
    shutil.rmtree(lab.root / ".state", ignore_errors=True)
    remove_outs(lab, stage)
    yield found
    if digest(lab, stage) != found:
        run(lab, stage)


def run(lab: Lab, stage: str) -> str:
    return lab.run(sys.executable, "-c", RECKLESS, stage, UNCLIP_TRACKING="off")


def run_filling(lab: Lab, stage: str, moment: str) -> subprocess.CompletedProcess[str]:
    filler = lab.root / "filler"
    command = (sys.executable, "-c", FILLING, stage, moment, str(filler))
    done = lab.call(*command, UNCLIP_TRACKING="off")
    filler.unlink()
    return done


def only_error(said: str) -> str:
    assert "Traceback" not in said, said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("stage", TRAININGS)
def test_a_training_goes_on_where_its_state_was_saved_before_the_disk_filled_up(lab, stage, whole):
    done = run_filling(lab, stage, "training")
    assert done.returncode == 1, done.stdout  # at the latest when its results are to be written
    assert os.strerror(errno.ENOSPC) in only_error(done.stdout)
    assert re.search(r"goes on from step \d+ of", run(lab, stage))
    assert digest(lab, stage) == whole


@pytest.mark.parametrize("stage", TRAININGS)
def test_a_disk_that_is_full_when_a_training_ends_costs_no_step_of_it(lab, stage, whole):
    done = run_filling(lab, stage, "end")
    assert done.returncode == 1, done.stdout
    assert os.strerror(errno.ENOSPC) in only_error(done.stdout)
    assert f"goes on from step {STEPS} of {STEPS}" in run(lab, stage)
    assert digest(lab, stage) == whole


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in TRAININGS])
def test_a_disk_that_is_full_when_a_stage_writes_is_one_line(lab, stage, whole):
    filler = lab.root / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(lab.root).free))
    done = lab.call(sys.executable, "-c", RECKLESS, stage, UNCLIP_TRACKING="off")
    filler.unlink()
    assert done.returncode == 1, done.stdout
    assert only_error(done.stdout).startswith(f"error: {stage}: ")
    run(lab, stage)
    if stage != "report":  # which names its run
        assert digest(lab, stage) == whole


def test_a_store_of_dvc_that_is_full_costs_no_training(lab, small_disk, tmp_path_factory):
    other = Lab.cloned(REPO, tmp_path_factory.mktemp("cache") / "lab")
    params = tiny_params()
    params["decoder"] |= {"train_steps": STEPS, "val_every": 20}
    write_params(other.root / "params.yaml", params)
    other.start_git()
    cache = small_disk / "cache"
    cache.mkdir()
    other.run("dvc", "cache", "dir", "--local", str(cache))
    other.run("dvc", "repro", "train_clip", UNCLIP_TRACKING="off")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    full = other.call("dvc", "repro", "--single-item", "train_decoder", UNCLIP_TRACKING="off")
    filler.unlink()
    assert os.strerror(errno.ENOSPC) in full.stdout
    weights = other.root / "models/decoder/model.safetensors"
    kept = weights.read_bytes()
    again = other.run("dvc", "repro", "--single-item", "train_decoder", UNCLIP_TRACKING="off")
    assert "didn't change" in again or f"goes on from step {STEPS} of {STEPS}" in again
    other.run("dvc", "commit", "--force", "train_decoder")
    weights.unlink()
    other.run("dvc", "checkout", "train_decoder")
    assert weights.read_bytes() == kept
