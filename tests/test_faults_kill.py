"""Training stages killed outright at random moments, which go on and end in the same bytes."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from dag import REPO, STAGES, outs
from dvc_repo import Lab
from tiny_params import tiny_params, write_params

TRAININGS = [stage for stage in STAGES if stage.startswith("train_")]
STEPS = 120
# The stage as DVC runs it, but that it saves its state after every step.
SAVING_ALWAYS = (
    "import runpy, sys, unclip.running.state as state\n"
    "state.SECONDS_BETWEEN_SAVES = 0.0\n"
    "runpy.run_module(f'stages.{sys.argv[1]}', run_name='__main__')\n"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    """A workspace in which every stage has run undisturbed, without keeping a state."""
    lab = Lab.cloned(REPO, tmp_path_factory.mktemp("killed") / "lab")
    params = tiny_params()
    for stage in TRAININGS:
        section = params[stage.removeprefix("train_")]
        section |= {"train_steps": STEPS, "val_every": 25}
    params["decoder"]["paint_every"] = 30
    write_params(lab.root / "params.yaml", params)
    for stage in ("prepare", *TRAININGS):
        lab.run(sys.executable, "-m", f"stages.{stage}", UNCLIP_TRACKING="off")
    shutil.rmtree(lab.root / ".state")
    return lab


def digest(lab: Lab, stage: str) -> dict[str, str]:
    """File → hash, of all that a stage leaves."""
    found = {}
    for out in outs(stage):
        path = lab.root / out
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                name = file.relative_to(lab.root).as_posix()
                found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def remove_outs(lab: Lab, stage: str) -> None:
    """As DVC does before it runs a stage."""
    for out in outs(stage):
        path = lab.root / out
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def start(lab: Lab, stage: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SAVING_ALWAYS, stage],
        cwd=lab.root,
        env=lab.environment() | {"UNCLIP_TRACKING": "off"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_while_training(lab: Lab, stage: str, moment: float) -> bool:
    """Kills the stage `moment` seconds after it first saved anew; False if it had ended by then."""
    states = lab.root / ".state" / stage
    before = {path: path.stat().st_mtime_ns for path in states.glob("*/*.safetensors")}
    remove_outs(lab, stage)
    process = start(lab, stage)
    while process.poll() is None:
        now = {path: path.stat().st_mtime_ns for path in states.glob("*/*.safetensors")}
        if now != before:
            break
        time.sleep(0.002)
    time.sleep(moment)
    process.kill()
    process.communicate()
    return process.returncode != 0


def check(lab: Lab, stage: str, kills: int, seed: int) -> None:
    whole = digest(lab, stage)
    assert whole
    shutil.rmtree(lab.root / ".state", ignore_errors=True)
    moments = random.Random(seed)
    killed = sum(kill_while_training(lab, stage, moments.uniform(0, 0.25)) for _ in range(kills))
    assert killed == kills, "a kill came too late: the training had ended"
    remove_outs(lab, stage)
    process = start(lab, stage)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert f"{stage}: goes on from step" in said
    assert digest(lab, stage) == whole


@pytest.mark.slow
def test_a_stage_killed_twice_ends_in_the_same_bytes(lab):
    check(lab, "train_decoder", kills=2, seed=1)


@pytest.mark.slow
def test_another_value_of_its_params_starts_afresh(lab, tmp_path):
    other = Lab.beside(tmp_path / "lab")
    shutil.copytree(
        lab.root, other.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".state")
    )
    assert kill_while_training(other, "train_prior", 0.05)
    params = yaml.safe_load((other.root / "params.yaml").read_text(encoding="utf-8"))
    params["prior"]["lr"] *= 2
    write_params(other.root / "params.yaml", params)
    process = start(other, "train_prior")
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "goes on from" not in said


@pytest.mark.extra
@pytest.mark.parametrize("stage", TRAININGS)
def test_a_stage_killed_ten_times_ends_in_the_same_bytes(lab, stage):
    check(lab, stage, kills=10, seed=2)


@pytest.mark.extra
def test_an_experiment_in_a_temporary_workspace_goes_on_where_another_was_killed(tmp_path):
    lab = Lab.cloned(REPO, tmp_path / "lab")
    params = tiny_params()
    params["prior"] |= {"train_steps": 4000, "val_every": 4000}
    write_params(lab.root / "params.yaml", params)
    lab.start_git()
    lab.run("dvc", "repro", "train_clip", UNCLIP_TRACKING="off")
    lab.commit("CLIP")
    state = lab.root / "unclip/running/state.py"
    text = state.read_text(encoding="utf-8")
    assert "SECONDS_BETWEEN_SAVES = 45.0" in text
    state.write_text(text.replace("BETWEEN_SAVES = 45.0", "BETWEEN_SAVES = 0.5"), encoding="utf-8")
    lab.commit("Save often")
    command = ("dvc", "exp", "run", "--temp", "-S", "prior.lr=0.002", "train_prior")
    first = subprocess.Popen(
        command,
        cwd=lab.root,
        env=lab.environment() | {"UNCLIP_TRACKING": "off"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list(lab.root.glob(".state/train_prior/*/state.safetensors")):
        assert first.poll() is None, "the training ended before it could be killed"
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    said = lab.run(*command, UNCLIP_TRACKING="off")
    assert "train_prior: goes on from step" in said
