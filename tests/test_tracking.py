"""What tracking reads from files, where it writes, and how a record looks; no MLflow needed."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy.engine import make_url

from unclip.config.errors import UserError, first_line
from unclip.config.yaml12 import load_yaml
from unclip.tracking.address import (
    describe_uri,
    find_database,
    find_root,
    open_hint,
    sqlite_uri,
    tracking_uri,
)
from unclip.tracking.display import changed_params, describe, headlines, table_view
from unclip.tracking.store import Run, clean_name
from unclip.tracking.workspace import (
    Contents,
    experiment_digest,
    find_commit,
    flatten,
    has_changes,
    read_workspace,
)


@pytest.fixture(autouse=True)
def _clean_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "UNCLIP_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


# What identifies a state of the DAG


def lock(**stages: Any) -> dict:
    train = {
        "cmd": "python -m stages.train",
        "deps": [{"path": "a", "hash": "md5", "md5": "1"}, {"path": "b", "md5": "2", "size": 5}],
        "params": {"params.yaml": {"clip": {"lr": 0.1, "dim": 8}}},
        "outs": [{"path": "m", "md5": "3"}],
    }
    return {"schema": "2.0", "stages": {"train": train, **stages}}


def test_digest_ignores_the_entry_of_report():
    report = {"cmd": "x", "deps": [{"path": "a", "md5": "stale"}]}
    assert experiment_digest(lock(report=report)) == experiment_digest(lock())


def test_digest_ignores_order_and_sizes():
    other = lock()
    train = other["stages"]["train"]
    train["deps"] = [{"md5": "2", "path": "b", "size": 77}, {"md5": "1", "path": "a"}]
    train["params"] = {"params.yaml": {"clip": {"dim": 8, "lr": 0.1}}}
    other["stages"] = {"train": dict(reversed(train.items()))}
    assert experiment_digest(other) == experiment_digest(lock())


@pytest.mark.parametrize("what", ["deps", "outs", "params"])
def test_digest_changes_with_every_dependency_output_and_value(what: str):
    other = lock()
    if what == "params":
        other["stages"]["train"]["params"]["params.yaml"]["clip"]["lr"] = 0.2
    else:
        other["stages"]["train"][what][0]["md5"] = "9"
    assert experiment_digest(other) != experiment_digest(lock())


# What the files say


def make_workspace(folder: Path) -> Path:
    for name in ("metrics", "history", "models/clip", "samples/train_decoder", "plots"):
        (folder / name).mkdir(parents=True)
    (folder / "params.yaml").write_text(
        "data: {dataset: shapes}\ndecoder: {lr: 1e-3, mult: [1, 2]}"
    )
    (folder / "dvc.lock").write_text(json.dumps(lock()))
    (folder / "history/train_clip.csv").write_text("step,loss,val\n10,4.0,\n20,nan,3.5\n")
    evaluate = {"accuracy": 0.5, "control": {"text": 0.25}, "sweep": [1], "note": "x"}
    (folder / "metrics/evaluate.json").write_text(json.dumps(evaluate | {"bad": float("inf")}))
    (folder / "models/clip/model.safetensors").write_bytes(b"weights")
    for name in ("samples/grid", "samples/train_decoder/step_000500", "plots/accuracy"):
        Image.new("RGB", (8, 8), "red").save(folder / f"{name}.png")
    return folder


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    return read_workspace(make_workspace(tmp_path))


def test_params_become_dotted_keys(contents: Contents):
    expected = {"data.dataset": "shapes", "decoder.lr": "0.001", "decoder.mult": "[1, 2]"}
    assert contents.params == expected


def test_equal_values_become_equal_text():
    assert flatten(load_yaml("{a: 1e-5, b: true}")) == flatten({"a": 0.00001, "b": True})


def test_metrics_are_flattened_and_only_finite_numbers_kept(contents: Contents):
    assert contents.metrics == {"evaluate.accuracy": 0.5, "evaluate.control.text": 0.25}


def test_curves_skip_empty_and_unfinite_cells(contents: Contents):
    assert contents.curves == {"train_clip/loss": [(10, 4.0)], "train_clip/val": [(20, 3.5)]}


def test_checkpoints_are_named_by_the_hash_of_their_weight_file(contents: Contents):
    assert contents.checkpoints == {"clip": hashlib.sha256(b"weights").hexdigest()}


def test_pictures_painted_in_training_carry_their_step(contents: Contents):
    assert list(contents.painted) == [500]
    assert [str(path) for path in contents.pictures] == ["plots/accuracy.png", "samples/grid.png"]


def test_a_curve_that_is_no_number_names_file_and_line(tmp_path: Path):
    make_workspace(tmp_path)
    (tmp_path / "history/train_clip.csv").write_text("step,loss\n10,1.0\n20,oops\n")
    with pytest.raises(UserError, match=r"history/train_clip\.csv: is damaged.*oops"):
        read_workspace(tmp_path)


def test_a_missing_lock_says_what_to_do(tmp_path: Path):
    with pytest.raises(UserError, match=r"dvc\.lock.*dvc repro"):
        read_workspace(tmp_path)


def test_without_git_there_is_no_commit_and_nothing_fails(tmp_path: Path):
    assert (find_commit(), has_changes(tmp_path)) == ("", False)


def test_the_commit_of_an_experiment_is_its_baseline(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "abc")
    assert find_commit() == "abc"


# Where the store is


def test_the_store_lies_in_the_main_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    assert find_root() == tmp_path
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_relative_database_is_taken_from_the_main_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    assert tracking_uri() == f"sqlite:///{tmp_path}/runs.db"


@pytest.mark.parametrize("name", ["my%20lab", "why?lab", "a#b 'c'", "plain"])
def test_a_database_is_found_again_by_its_address(name: str, monkeypatch: pytest.MonkeyPatch):
    database = Path("/there") / name / "runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(database))
    assert find_database() == database
    assert make_url(tracking_uri()).database == str(database)
    assert shlex.split(open_hint("1")[0])[-1] == tracking_uri()


def test_the_tracking_address_may_stand_in_local_yaml(tmp_path: Path):
    (tmp_path / "local.yaml").write_text("tracking_uri: http://there:5000\n")
    assert tracking_uri() == "http://there:5000"


@pytest.mark.parametrize("uri", ["http://me:secret@there:1", "sqlite:////there/secret/x.db"])
def test_the_described_address_holds_no_host_path_or_password(
    uri: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    described = describe_uri()
    assert "secret" not in described
    assert "there" not in described


def test_the_hint_names_the_folder_a_fast_start_and_the_page(tmp_path: Path):
    hint = "\n".join(open_hint("7"))
    assert str(tmp_path) in hint
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1" in hint
    assert "/#/experiments/7/runs?" in hint
    assert list(tmp_path.iterdir()) == [], "it needs no store"


def test_an_error_is_one_line_without_password():
    assert first_line(ValueError("http://me:secret@there/x\nmore")) == "http://there/x"


def test_names_hold_nothing_that_mlflow_refuses():
    assert clean_name("a?b%c/d.e f-g") == "a_b_c/d.e f-g"


# How a record looks


def test_columns_are_the_headline_figures_and_the_params_that_differ():
    runs = [Run("1", "1", "FINISHED", {}, {"a": "1", "b": x}) for x in "23"]
    assert changed_params(runs) == ["b"]
    assert headlines({"evaluate.x": 1.0, "headline.y": 2.0}) == ["headline.y"]
    state = json.loads(json.loads(table_view(["headline.y"], ["b"], 0))["state"])
    assert state["selectedColumns"] == ["params.`b`", "metrics.`headline.y`"]


@pytest.mark.parametrize(
    ("name", "way"), [("fox", "dvc exp apply fox"), ("", "git checkout c0ffee")]
)
def test_the_description_tells_the_way_back(contents: Contents, name: str, way: str):
    assert way in describe(contents, {}, "r1", "c0ffee", name, "as committed")


def test_the_description_links_each_checkpoint_to_its_run(contents: Contents):
    links = {"clip": Run("r7", "2", "FINISHED", {}, {})}
    assert "(#/experiments/2/runs/r7)" in describe(contents, links, "r1", "", "", "")
