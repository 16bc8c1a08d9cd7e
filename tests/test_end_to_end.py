"""As a user has it: a fresh clone, real training on tiny params, real DVC, real MLflow."""

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from dag import REPO, STAGES, outs
from dvc_repo import Lab, stages_run
from mlflow_tables import Row, rows
from PIL import Image
from reproduced import small_clone
from tiny_params import leaves, tiny_params, write_params

pytestmark = pytest.mark.slow

KINDS = ("clip", "prior", "decoder", "judge")
PROMPT = "a large red circle"
PAINTED = ["sample", "paint_controls", "evaluate", "report"]


def checkpoints(lab: Lab) -> dict[str, str]:
    """kind → SHA-256 of its weight file."""
    files = {kind: lab.root / "models" / kind / "model.safetensors" for kind in KINDS}
    return {kind: hashlib.sha256(file.read_bytes()).hexdigest() for kind, file in files.items()}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Lab:
    """A clone in which nothing is made."""
    return small_clone(tmp_path_factory.mktemp("elsewhere") / "lab")


@pytest.fixture(scope="module")
def untrained(fresh) -> subprocess.CompletedProcess[str]:
    """What the command line answers who wants to paint before anything is trained."""
    return fresh.call("python", "cli.py", "sample", PROMPT)


@dataclass(frozen=True)
class Seen:
    """A reproduced repository, with what was to be seen before any further experiment."""

    lab: Lab
    said: str
    said_again: str
    changed_again: str
    checkpoints: dict[str, str]
    records: list[Row]
    stage_runs: list[Row]


@pytest.fixture(scope="module")
def reproduced(reproduced_once, tmp_path_factory) -> Seen:
    copy = reproduced_once.copied(tmp_path_factory.mktemp("here") / "lab")
    lab = copy.lab
    records, stage_runs = (
        [row for row in rows(lab.root, experiment) if "dvc_exp" not in row.tags]
        for experiment in ("unclip", "unclip-stages")
    )
    return Seen(
        lab=lab,
        said=copy.said,
        said_again=lab.run("dvc", "repro"),
        changed_again=lab.run("git", "status", "--porcelain"),
        checkpoints=checkpoints(lab),
        records=records,
        stage_runs=stage_runs,
    )


@dataclass(frozen=True)
class Experiment:
    """What `dvc exp run` said, and the checkpoints that lay in the workspace afterwards."""

    said: str
    checkpoints: dict[str, str]


@pytest.fixture(scope="module")
def experiments(reproduced, reproduced_once) -> dict[str, Experiment]:
    """Three experiments by name, one after another; the first one in a temporary workspace."""
    lab = reproduced.lab
    found = {"aside": Experiment(reproduced_once.experiment_said, reproduced.checkpoints)}
    for name, *options in (
        ("guided", "-S", "sample.guidance=4"),
        ("judged-anew", "-S", "evaluate.seed=1"),
    ):
        said = lab.run("dvc", "exp", "run", "--name", name, *options)
        found[name] = Experiment(said, checkpoints(lab))
    return found


@pytest.fixture(scope="module")
def twin(fresh, untrained) -> Lab:
    """That clone, its models trained from nothing, without MLflow."""
    trainings = ("train_prior", "train_decoder", "train_judge")
    fresh.run("dvc", "repro", *trainings, UNCLIP_TRACKING="off")
    return fresh


@pytest.fixture
def spoiled(twin) -> Iterator[Lab]:
    """The twin, whose params and lock are put back afterwards."""
    kept = {name: (twin.root / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    yield twin
    for name, content in kept.items():
        (twin.root / name).write_bytes(content)
    twin.run("dvc", "checkout", "--force", "--allow-missing")


def test_before_anything_is_trained_one_line_says_what_to_do(untrained):
    assert untrained.returncode == 1
    assert untrained.stdout.count("\n") == 1, untrained.stdout
    assert "`dvc repro`" in untrained.stdout


def test_repro_runs_every_stage_once(reproduced):
    assert sorted(stages_run(reproduced.said)) == sorted(STAGES)


def test_repro_warns_of_nothing(reproduced):
    assert "warning" not in reproduced.said.lower()


@pytest.mark.parametrize("stage", STAGES)
def test_repro_leaves_all_outs_of_(stage, reproduced):
    assert [out for out in outs(stage) if not (reproduced.lab.root / out).exists()] == []


def test_a_second_repro_does_nothing(reproduced):
    assert stages_run(reproduced.said_again) == []
    assert reproduced.changed_again == ""


def test_nothing_that_repro_makes_for_this_machine_alone_is_taken_by_git(reproduced):
    tracked = reproduced.lab.run("git", "ls-files").split("\n")
    added = {name for name in tracked if name and not (REPO / name).exists()}
    made = {f"{folder}/" for folder in ("history", "metrics")}
    assert [n for n in added if n != "dvc.lock" and not n.startswith(tuple(made))] == []


def test_mlflow_has_one_complete_record(reproduced):
    (row,) = reproduced.records
    assert (row.status, row.tags["complete"]) == ("FINISHED", "true")
    assert set(row.params) == set(leaves(tiny_params()))
    assert {"evaluate.joint_accuracy", "evaluate.frechet_distance"} <= set(row.metrics)
    assert {f"{stage}/train_loss" for stage in STAGES if "train" in stage} <= set(row.metrics)
    for name in ("params.yaml", "samples/grid.png", "plots/accuracy.png"):
        assert (row.folder / name).read_bytes() == (reproduced.lab.root / name).read_bytes(), name
    locked = yaml.safe_load((row.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert set(locked) == set(STAGES) - {"report"}, "its own entry is written when it has ended"


def test_the_record_leads_to_the_run_that_trained_each_checkpoint(reproduced):
    (row,) = reproduced.records
    assert len(reproduced.stage_runs) == len(KINDS)
    for run in reproduced.stage_runs:
        kind = run.tags["stage"].removeprefix("train_")
        assert run.status == "FINISHED"
        assert run.tags["output_hash"] == reproduced.checkpoints[kind]
        assert row.tags[f"stage_run.{run.tags['stage']}"] == run.id


def test_an_experiment_runs_only_what_its_value_changes(experiments):
    assert {name: stages_run(experiment.said) for name, experiment in experiments.items()} == {
        "aside": ["train_decoder", *PAINTED],
        "guided": PAINTED,
        "judged-anew": ["evaluate", "report"],
    }


def test_every_experiment_has_its_own_record(reproduced, experiments):
    records = {row.tags.get("dvc_exp", ""): row for row in rows(reproduced.lab.root, "unclip")}
    assert list(records) == ["", *experiments]
    assert all(row.tags["complete"] == "true" for row in records.values())
    values = {
        name: tuple(float(row.params[key]) for key in ("decoder.lr", "sample.guidance"))
        for name, row in records.items()
    }
    shipped = tiny_params()
    lr, guidance = shipped["decoder"]["lr"], shipped["sample"]["guidance"]
    assert values == {
        "": (lr, guidance),
        "aside": (3e-4, guidance),
        "guided": (lr, 4.0),
        "judged-anew": (lr, 4.0),
    }


def test_an_experiment_trains_another_decoder(reproduced, experiments):
    trained = trained_decoders(reproduced.lab)
    assert set(trained) == {"", "aside"}
    assert trained[""] == reproduced.checkpoints["decoder"] != trained["aside"]


def test_experiments_that_train_nothing_or_run_aside_leave_the_checkpoints(reproduced, experiments):
    for experiment in experiments.values():
        assert experiment.checkpoints == reproduced.checkpoints


def trained_decoders(lab: Lab) -> dict[str, str]:
    """Name of the experiment → hash of the decoder that it trained, as MLflow has them."""
    return {
        run.tags.get("dvc_exp", ""): run.tags["output_hash"]
        for run in rows(lab.root, "unclip-stages")
        if run.tags["stage"] == "train_decoder"
    }


def paint(lab: Lab, out: Path, *options: str) -> None:
    lab.run("python", "cli.py", "sample", PROMPT, "--num", "2", "--out", str(out), *options)


def png_text(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        return dict(image.text)


@pytest.fixture(scope="module")
def painted(reproduced, experiments, tmp_path_factory) -> tuple[Path, Path]:
    """Two folders, painted with the same options one after the other."""
    folder = tmp_path_factory.mktemp("painted")
    for name in ("first", "second"):
        paint(reproduced.lab, folder / name, "--seed", "5", "--guidance", "3")
    return folder / "first", folder / "second"


def test_the_command_line_paints_the_same_bytes_again(painted):
    first, second = ({f.name: f.read_bytes() for f in folder.iterdir()} for folder in painted)
    assert len(first) == 3, "two pictures and a grid"
    assert first == second


def test_a_picture_says_how_to_paint_it_again(reproduced, painted):
    texts = {text["seed"]: text for text in map(png_text, painted[0].glob("*seed*"))}
    assert set(texts) == {"5", "6"}
    made_by = checkpoints(reproduced.lab)
    for text in texts.values():
        assert text["prompt"] == PROMPT
        assert float(text["decoder.guidance"]) == 3.0
        for kind in ("clip", "prior", "decoder"):
            assert text[f"checkpoint.{kind}"] == made_by[kind]


def test_an_experiments_name_paints_with_its_checkpoints(experiments, reproduced, tmp_path):
    paint(reproduced.lab, tmp_path / "out", "--rev", "aside")
    text = png_text(next((tmp_path / "out").glob("*seed0*")))
    assert text["checkpoint.decoder"] == trained_decoders(reproduced.lab)["aside"]


def test_the_same_params_in_another_folder_train_the_same_checkpoints(reproduced, twin):
    assert checkpoints(twin) == reproduced.checkpoints


def test_a_typo_stops_a_stage_with_one_line_before_any_work(spoiled):
    params = tiny_params()
    params["decoder"]["guidence"] = 1.0
    write_params(spoiled.root / "params.yaml", params)
    done = spoiled.call("dvc", "repro", "train_decoder", UNCLIP_TRACKING="off")
    assert done.returncode != 0
    assert stages_run(done.stdout) == ["train_decoder"]
    complaints = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    assert len(complaints) == 1
    assert "params.yaml: decoder.guidence: unknown key" in complaints[0]
    assert "Traceback" not in done.stdout
    assert not any((spoiled.root / out).exists() for out in outs("train_decoder"))


def test_an_interrupted_training_is_not_recorded(spoiled):
    lock = (spoiled.root / "dvc.lock").read_bytes()
    status, said = interrupt_training(spoiled, lambda dvc: os.killpg(dvc, signal.SIGINT))
    assert status != 0
    assert "train_decoder was interrupted" in said
    assert "Traceback" not in said
    assert (spoiled.root / "dvc.lock").read_bytes() == lock
    assert not (spoiled.root / "models" / "decoder").exists()
    assert "train_decoder" in yaml.safe_load(spoiled.run("dvc", "status", "--json"))


def test_a_stage_that_alone_is_interrupted_fails(spoiled):
    # After Ctrl-C, DVC gives up by itself; here it has only the stage's exit status to go by.
    lock = (spoiled.root / "dvc.lock").read_bytes()
    status, said = interrupt_training(spoiled, interrupt_stage_alone)
    assert status != 0
    assert "exited with 130" in said
    assert (spoiled.root / "dvc.lock").read_bytes() == lock


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_does_not_outlive_its_dvc(spoiled, how):
    trainings = []

    def end_dvc(dvc: int) -> None:
        trainings.extend(p for p in psutil.Process(dvc).children(recursive=True))
        os.kill(dvc, how)

    status, _ = interrupt_training(spoiled, end_dvc)
    assert status != 0
    assert trainings
    _, alive = psutil.wait_procs(trainings, timeout=20)
    assert alive == []


def interrupt_stage_alone(dvc: int) -> None:
    stages = [p for p in psutil.Process(dvc).children(recursive=True) if "-m" in p.cmdline()]
    stages[-1].send_signal(signal.SIGINT)


def interrupt_training(lab: Lab, interrupt: Callable[[int], None]) -> tuple[int, str]:
    """Exit status and words of DVC whose endless training is interrupted after its first step.

    Args:
        lab: where it trains.
        interrupt: called with the process id of DVC, which leads a process group of its own.
    """
    params = tiny_params()
    params["decoder"] |= {"train_steps": 10**6, "paint_every": 1}
    write_params(lab.root / "params.yaml", params)
    first = lab.root / "samples" / "train_decoder" / "step_000001.png"
    with subprocess.Popen(
        ["dvc", "repro", "train_decoder"],
        cwd=lab.root,
        env=lab.environment() | {"UNCLIP_TRACKING": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A test run in the background may have been started deaf to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while process.poll() is None and not first.exists():
            time.sleep(0.1)
        if process.poll() is None:
            interrupt(process.pid)
        said, _ = process.communicate(timeout=120)
    return process.returncode, said
