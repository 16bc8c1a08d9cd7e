"""Tracking with the real MLflow in a temporary folder, read back by MLflow's own client."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unclip.tracking.lineage import find_lineage
from unclip.tracking.live import StageRun
from unclip.tracking.record import record_experiment
from unclip.tracking.store import TrackingError

pytestmark = pytest.mark.slow
REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing of ours: making the tables takes long."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def root(tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "UNCLIP_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "main repo"
    folder.mkdir()
    shutil.copy(tables, folder / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(folder))
    return folder


def client(root: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")


def runs(root: Path, experiment: str) -> list[Any]:
    opened = client(root)
    found = opened.get_experiment_by_name(experiment)
    return list(opened.search_runs([found.experiment_id])) if found else []


def curve(root: Path, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in client(root).get_metric_history(run_id, key))


def artifacts(root: Path, run_id: str, folder: str = "") -> set[str]:
    return {file.path for file in client(root).list_artifacts(run_id, folder)}


# A stage's run


def test_curves_and_pictures_arrive_with_their_steps(root: Path):
    before = time.time() * 1000
    with StageRun("train_clip", {"clip": {"lr": 0.1}}) as run:
        after = time.time() * 1000
        for step in range(1, 1201):
            run.log_metrics(step, {"loss": 1 / step, "val": float("inf") if step > 1 else 2.0})
        run.log_image("painted", Image.new("RGB", (8, 8), "red"), 7)
    (found,) = runs(root, "unclip-stages")
    assert found.info.status == "FINISHED"
    assert before - 1 <= found.info.start_time <= after
    assert found.data.params == {"clip.lr": "0.1"}
    assert curve(root, run.run_id, "loss") == [(s, 1 / s) for s in range(1, 1201)]
    assert curve(root, run.run_id, "val") == [(1, 2.0)]
    (picture,) = (p for p in artifacts(root, run.run_id, "images") if p.endswith(".png"))
    assert picture.startswith("images/painted+step+7+")
    local = client(root).download_artifacts(run.run_id, picture)
    assert Image.open(local).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_a_run_that_raised_is_failed(root: Path):
    def train() -> None:
        with StageRun("train_clip", {}) as run:
            run.log_metrics(1, {"loss": 1.0})
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        train()
    (found,) = runs(root, "unclip-stages")
    assert found.info.status == "FAILED"
    assert curve(root, found.info.run_id, "loss") == [(1, 1.0)]


ENDLESS = """
import time
from unclip.tracking.lineage import find_lineage
from unclip.tracking.live import StageRun
with StageRun("train_clip", {}) as run:
    while run.run_id is None: time.sleep(0.1)
    print("running", flush=True)
    time.sleep(60)
"""


def test_a_run_whose_process_died_is_marked_killed_at_the_next_start(root: Path):
    with StageRun("train_prior", {}) as living:
        while living.run_id is None:
            time.sleep(0.1)
        command = [sys.executable, "-c", ENDLESS]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPO) as process:
            assert process.stdout
            assert process.stdout.readline() == "running\n"
            os.kill(process.pid, signal.SIGKILL)
        with StageRun("train_judge", {}):
            pass
        statuses = {run.data.tags["stage"]: run.info.status for run in runs(root, "unclip-stages")}
    assert statuses == {"train_prior": "RUNNING", "train_clip": "KILLED", "train_judge": "FINISHED"}


SHORT = """
import sys
from unclip.tracking.lineage import find_lineage
from unclip.tracking.live import StageRun
with StageRun("train_clip", {}) as run:
    run.log_metrics(1, {"loss": 1.0})
"""


def test_two_processes_that_make_the_store_at_once_both_succeed(root: Path):
    (root / "mlflow.db").unlink()
    command = [sys.executable, "-c", SHORT]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPO) for _ in "12"]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert [run.info.status for run in runs(root, "unclip-stages")] == ["FINISHED"] * 2


def test_an_experiment_deleted_in_the_pages_comes_back(root: Path):
    with StageRun("train_clip", {}):
        pass
    opened = client(root)
    opened.delete_experiment(opened.get_experiment_by_name("unclip-stages").experiment_id)
    with StageRun("train_clip", {}) as run:
        pass
    assert run.run_id in {found.info.run_id for found in runs(root, "unclip-stages")}


def test_a_server_that_does_not_answer_costs_one_warning(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with StageRun("train_clip", {}) as run:
        run.log_metrics(1, {"loss": 1.0})
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "secret" not in error


@pytest.mark.parametrize(
    ("version", "advice"), [("ffffffffffff", "newer MLflow"), ("451aebb31d03", "mlflow db upgrade")]
)
def test_a_database_of_another_mlflow_is_named_in_one_line(root: Path, version: str, advice: str):
    with sqlite3.connect(root / "mlflow.db") as db:
        db.execute("UPDATE alembic_version SET version_num = ?", (version,))
    with pytest.raises(TrackingError, match=advice) as caught:
        record_experiment(make_workspace(root))
    assert "\n" not in str(caught.value)


# The record of the whole DAG


def make_workspace(folder: Path, weights: bytes = b"weights") -> Path:
    for name in ("metrics", "history", "models/clip", "samples/train_decoder", "plots"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    many = "".join(f"  value_{i}: {i}\n" for i in range(130))
    (folder / "params.yaml").write_text(f"data: {{dataset: shapes}}\nclip:\n{many}")
    train = {"params": {"params.yaml": {"clip": 1}}, "outs": [{"path": "m", "md5": weights.hex()}]}
    prepare = {"outs": [{"path": "data/prepared", "md5": "d1.dir"}]}
    lock = {"schema": "2.0", "stages": {"train_clip": train, "prepare": prepare}}
    (folder / "dvc.lock").write_text(json.dumps(lock))
    rows = "".join(f"{step},{1 / step},\n" for step in range(1, 1201))
    (folder / "history/train_clip.csv").write_text(f"step,loss,val\n{rows}")
    (folder / "metrics/headline.json").write_text(json.dumps({"accuracy": 0.5}))
    (folder / "models/clip/model.safetensors").write_bytes(weights)
    for name in ("samples/grid", "samples/train_decoder/step_000500", "plots/accuracy"):
        Image.new("RGB", (8, 8), "red").save(folder / f"{name}.png")
    return folder


def test_the_record_holds_params_metrics_curves_and_files(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(make_workspace(tmp_path / "work"))
    before = set(Path().rglob("*"))
    record = record_experiment(Path())
    run_id = record["run_id"]
    run = client(root).get_run(run_id)
    assert record["experiment_id"] == run.info.experiment_id
    assert (len(run.data.params), run.data.params["clip.value_129"]) == (131, "129")
    assert run.data.metrics["headline.accuracy"] == 0.5
    assert curve(root, run_id, "train_clip/loss") == [(s, 1 / s) for s in range(1, 1201)]
    assert artifacts(root, run_id) >= {"params.yaml", "dvc.lock"}
    assert artifacts(root, run_id, "plots") == {"plots/accuracy.png"}
    shown = {Path(path).name.split("+")[0] for path in artifacts(root, run_id, "images")}
    assert shown == {"samples~grid", "samples~train_decoder"}
    assert set(Path().rglob("*")) == before, "a temporary workspace gets nothing of the store"


def test_each_state_is_recorded_once_unless_forced(root: Path, tmp_path: Path):
    first = record_experiment(make_workspace(tmp_path / "work"))
    again = record_experiment(tmp_path / "work")
    assert (first["created"], again["created"]) == (True, False)
    assert first["run_id"] == again["run_id"]
    forced = record_experiment(tmp_path / "work", force=True)
    assert [run.info.run_id for run in runs(root, "unclip")] == [forced["run_id"]]
    assert first["run_id"] != forced["run_id"]
    record_experiment(make_workspace(tmp_path / "work", b"others"))
    assert len(runs(root, "unclip")) == 2


@pytest.mark.parametrize("harm", ["complete", "artifacts"])
def test_a_broken_record_is_written_anew(root: Path, tmp_path: Path, harm: str):
    first = record_experiment(make_workspace(tmp_path / "work"))["run_id"]
    if harm == "complete":
        client(root).delete_tag(first, "complete")
    else:
        shutil.rmtree(root / "mlruns")
    second = record_experiment(tmp_path / "work")["run_id"]
    assert [run.info.run_id for run in runs(root, "unclip")] == [second] != [first]


def test_a_record_cut_short_is_an_error_of_one_line_and_mended_by_the_next(
    root: Path, tmp_path: Path
):
    workspace = make_workspace(tmp_path / "work")
    (workspace / "samples/grid.png").write_bytes(b"no picture")
    with pytest.raises(TrackingError) as caught:
        record_experiment(workspace)
    assert "\n" not in str(caught.value)
    assert [run.info.status for run in runs(root, "unclip")] == ["FAILED"]
    assert record_experiment(make_workspace(workspace))["created"]
    assert [run.info.status for run in runs(root, "unclip")] == ["FINISHED"]


def test_the_record_finds_the_run_that_made_a_checkpoint_by_its_hash(root: Path, tmp_path: Path):
    for weights in (b"weights", b"others"):
        with StageRun("train_clip", {}) as run:
            run.set_tags({"output_hash": hashlib.sha256(weights).hexdigest()})
        if weights == b"weights":
            maker = run.run_id
    record = record_experiment(make_workspace(tmp_path / "work"))
    tags = client(root).get_run(record["run_id"]).data.tags
    assert tags["stage_run.train_clip"] == maker
    assert f"runs/{maker}" in tags["mlflow.note.content"]


def test_after_a_move_all_goes_to_the_new_place_and_earlier_runs_are_still_found(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    with StageRun("train_clip", {}) as maker:
        maker.set_tags({"output_hash": hashlib.sha256(b"weights").hexdigest()})
    first = record_experiment(make_workspace(tmp_path / "work"))["run_id"]
    moved = tmp_path / "moved"
    shutil.move(root, moved)
    monkeypatch.setenv("DVC_ROOT", str(moved))
    capsys.readouterr()
    again = record_experiment(tmp_path / "work")
    assert capsys.readouterr().err.count("\n") == 1
    assert [run.info.run_id for run in runs(moved, "unclip")] == [again["run_id"]] != [first]
    assert "dvc.lock" in artifacts(moved, again["run_id"])
    assert client(moved).get_run(again["run_id"]).data.tags["stage_run.train_clip"] == maker.run_id
    lineage = find_lineage({"clip": hashlib.sha256(b"weights").hexdigest()})
    assert {record.id for record in lineage.records} == {first, again["run_id"]}
    with StageRun("train_decoder", {}) as run:
        run.log_image("painted", Image.new("RGB", (8, 8)), 1)
    assert artifacts(moved, run.run_id, "images")
    assert not root.exists()
    names = {
        e.name for e in client(moved).search_experiments() if "(files in main repo, " in e.name
    }
    assert len(names) == 2
    assert not record_experiment(tmp_path / "work")["created"]
    assert capsys.readouterr().err == ""


def test_a_bucket_stays_where_it_is(root: Path):
    client(root).create_experiment("unclip-stages", artifact_location="s3://bucket/mlruns")
    with StageRun("train_clip", {}) as run:
        pass
    assert [found.info.run_id for found in runs(root, "unclip-stages")] == [run.run_id]
