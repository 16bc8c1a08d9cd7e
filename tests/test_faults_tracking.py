"""MLflow that fails, in every way it can, and two experiments that make its store at once."""

import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from dag import REPO
from dvc_repo import Lab
from mlflow_tables import rows
from test_faults_kill import TRAININGS
from tiny_params import tiny_params, write_params

pytestmark = pytest.mark.extra

Variables = dict[str, str]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    """A repository whose pipeline has run without MLflow."""
    lab = Lab.cloned(REPO, tmp_path_factory.mktemp("tracking") / "lab")
    write_params(lab.root / "params.yaml", tiny_params())
    lab.start_git()
    lab.run("dvc", "repro", UNCLIP_TRACKING="off")
    lab.commit("Reproduce")
    return lab


@contextmanager
def no_server(root: Path) -> Iterator[Variables]:
    with closing(socket.socket()) as taken:  # bound and not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{taken.getsockname()[1]}"}


@contextmanager
def locked(root: Path) -> Iterator[Variables]:
    with closing(sqlite3.connect(root / "mlflow.db")) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield {}
    (root / "mlflow.db").unlink()


@contextmanager
def newer(root: Path) -> Iterator[Variables]:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
        database.commit()
    yield {}
    (root / "mlflow.db").unlink()


@contextmanager
def no_place_to_write(root: Path) -> Iterator[Variables]:
    (root / "mlflow.db").mkdir()  # also root, whom no permission stops, cannot write here
    yield {}
    (root / "mlflow.db").rmdir()


@contextmanager
def rubbish(root: Path) -> Iterator[Variables]:
    (root / "mlflow.db").write_bytes(b"not a database at all" * 100)
    yield {}
    (root / "mlflow.db").unlink()


@pytest.mark.parametrize("fault", [no_server, locked, newer, no_place_to_write, rubbish])
def test_training_goes_on_with_a_warning_and_the_record_is_completed_later(
    lab: Lab, fault: Callable[[Path], Iterator[Variables]]
):
    for name in ("mlflow.db", "mlflow.db-journal"):
        (lab.root / name).unlink(missing_ok=True)
    shutil.rmtree(lab.root / "mlruns", ignore_errors=True)
    before = (lab.root / "dvc.lock").read_bytes()
    started = time.monotonic()
    with fault(lab.root) as variables:
        said = lab.run("dvc", "repro", "--force", "--single-item", "train_judge", **variables)
        said += lab.run("dvc", "repro", "--force", "--single-item", "report", **variables)
    assert time.monotonic() - started < 150
    warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2, said
    assert all("`python cli.py log`" in line for line in warnings)
    assert "Traceback" not in said
    assert (lab.root / "dvc.lock").read_bytes() == before
    lab.run("python", "cli.py", "log")
    (row,) = rows(lab.root, "unclip")
    assert (row.status, row.tags["complete"]) == ("FINISHED", "true")
    assert {f"{stage}/train_loss" for stage in TRAININGS} <= set(row.metrics)


def test_two_queued_experiments_at_once_make_the_store_and_lose_nothing(lab):
    for name in ("mlflow.db", "mlflow.db-journal"):
        (lab.root / name).unlink(missing_ok=True)
    for name, value in (("one", "prior.lr=0.002"), ("two", "decoder.lr=0.003")):
        lab.run("dvc", "exp", "run", "--queue", "--name", name, "-S", value)
    lab.run("dvc", "queue", "start", "-j", "2")
    end = time.monotonic() + 300
    while True:
        status = lab.run("dvc", "queue", "status")
        if "Queued" not in status.split("Worker")[0] and "Running" not in status.split("Worker")[0]:
            break
        assert time.monotonic() < end, status
        time.sleep(1)
    logs = "".join(lab.run("dvc", "queue", "logs", name) for name in ("one", "two"))
    assert status.count("Success") == 2, status + logs
    assert "warning" not in logs.lower(), logs
    records = {row.tags["dvc_exp"]: row for row in rows(lab.root, "unclip")}
    assert set(records) == {"one", "two"}
    for row in records.values():
        assert (row.status, row.tags["complete"]) == ("FINISHED", "true")
        assert {f"{stage}/train_loss" for stage in TRAININGS} <= set(row.metrics)
    trained = {run.tags["dvc_exp"]: run.tags["stage"] for run in rows(lab.root, "unclip-stages")}
    assert trained == {"one": "train_prior", "two": "train_decoder"}
    shown = lab.run("dvc", "exp", "show", "--csv")
    assert all(name in shown for name in ("one", "two"))
