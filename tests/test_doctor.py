import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from dvc_repo import Lab
from tiny_params import tiny_params, write_params
from workspace import forget_accelerator

import cli
from unclip.commands import diagnosis
from unclip.commands.diagnosis import CHECKS, findings, remove_states
from unclip.config.errors import UserError
from unclip.running.state import Snapshot, TrainingState
from unclip.tracking import look
from unclip.tracking.store import open_store


@pytest.fixture
def lab(tmp_path, monkeypatch, on_cpu) -> Lab:
    """A repository with valid params, in which `doctor` is called."""
    lab = Lab.beside(tmp_path / "lab")
    write_params(lab.root / "params.yaml", tiny_params())
    (lab.root / ".dvc").mkdir()
    lab.start_git()
    monkeypatch.chdir(lab.root)
    monkeypatch.setenv("DVC_ROOT", str(lab.root))
    monkeypatch.setenv("HOME", str(lab.home))
    forget_accelerator()
    return lab


CONFLICT = "<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> theirs\n"


def conflict_in_lock(lab):
    (lab.root / "dvc.yaml").write_text("stages: {a: {cmd: make, outs: [a]}}")
    (lab.root / "dvc.lock").write_text(CONFLICT)


def name_dataset(lab, dataset):
    params = tiny_params()
    params["data"] |= {"dataset": dataset}
    params["data"]["image_folder"]["folder"] = "data/own"
    write_params(lab.root / "params.yaml", params)


@pytest.fixture
def doctor(monkeypatch, capsys):
    """Runs `python cli.py doctor` in this process; gives its status and what it prints."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cli.py", "doctor", *arguments])
        try:
            cli.main()
            status = 0
        except SystemExit as exit_:
            status = exit_.code or 0
        return status, " ".join(capsys.readouterr().out.split())

    return run


def save_state(lab, stage="train_toy", key="k", step=7):
    import torch

    state = TrainingState(lab.root / ".state" / stage / key)
    state.save(Snapshot(step, {"w": torch.zeros(1000)}, {}))
    return state


def states_of(lab):
    return list(lab.root.glob(".state/*/*/*.safetensors"))


def test_all_is_well_in_a_good_repository(lab, doctor):
    status, said = doctor()
    assert status == 0, said
    assert " no " not in f" {said} ".replace("there yet", "")
    for name in CHECKS:
        assert name in said
    assert re.search(r"cpu, \d+ threads \((UNCLIP_THREADS|OMP_NUM_THREADS|[\w ]+)\)", said)
    assert "A. Tester <tester@example.org>" in said


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lab: (lab.root / "params.yaml").write_text("data: 3"), "data"),
        (lambda lab: (lab.root / ".dvc").rmdir(), "no .dvc folder here"),
        (lambda lab: lab.run("git", "config", "--unset", "user.email"), "git knows no name"),
        (lambda lab: shutil.rmtree(lab.root / ".git"), "not a git repository"),
        (lambda lab: lab.run("git", "update-ref", "-d", "HEAD"), "git has no commit yet"),
        (lambda lab: (lab.root / ".git" / "index").write_text("x"), "index file smaller"),
        (lambda lab: (lab.root / ".dvc" / "config").write_text("[core"), "config file error"),
        (lambda lab: (lab.root / "dvc.yaml").write_text(CONFLICT), "'dvc.yaml', YAML file"),
        (lambda lab: conflict_in_lock(lab), "'dvc.lock', YAML file"),
        (lambda lab: (lab.root / "params.yaml").write_text(CONFLICT), "params.yaml: not valid"),
    ],
)
def test_what_stands_in_the_way_is_named_and_the_status_is_1(lab, doctor, damage, said):
    damage(lab)
    status, found = doctor()
    assert status == 1
    assert said in found


@pytest.mark.parametrize(
    ("dataset", "raw", "said"),
    [
        ("shapes", [], "shapes is drawn, nothing is read"),
        ("fashion_mnist", [], "FashionMNIST/raw is not there yet; prepare downloads it"),
        ("fashion_mnist", ["raw/FashionMNIST/raw/a"], "FashionMNIST/raw is not there yet"),
        ("image_folder", ["data/own/metadata.csv"], "data/own/metadata.csv is there; `python cli"),
    ],
)
def test_each_data_set_is_told_where_it_comes_from(lab, monkeypatch, dataset, raw, said):
    monkeypatch.setenv("UNCLIP_DATA_DIR", str(lab.root / "raw"))
    name_dataset(lab, dataset)
    for name in raw:
        (lab.root / name).parent.mkdir(parents=True)
        (lab.root / name).write_text("file_name,text\n")
    assert said in CHECKS["data"]()


def test_own_pictures_that_are_not_there_stand_in_the_way(lab, doctor):
    name_dataset(lab, "image_folder")
    status, said = doctor()
    assert status == 1
    assert "no data data/own: no such folder; expected one with pictures" in said
    (lab.root / "data" / "own").mkdir(parents=True)
    assert "data/own: has neither metadata.jsonl nor metadata.csv" in doctor()[1]


@pytest.mark.parametrize(
    ("processes", "found"),
    [("2", "2 processes share a training"), ("-1", "UNCLIP_PROCESSES: '-1' is not allowed")],
)
def test_the_number_of_processes_is_looked_at(lab, monkeypatch, processes, found):
    monkeypatch.setenv("UNCLIP_PROCESSES", processes)
    ((text, is_well),) = [finding[1:] for finding in findings() if finding[0] == "device"]
    assert found in text
    assert is_well == (processes == "2")


def test_a_check_that_fails_does_not_hide_the_others(lab):
    (lab.root / "params.yaml").write_text("data: 3")
    found = {name: is_well for name, _, is_well in findings()}
    assert list(found) == list(CHECKS)
    assert [name for name, is_well in found.items() if not is_well] == ["params", "data"]


def test_it_shows_what_trainings_left_to_go_on_from(lab, doctor):
    save_state(lab)
    _, said = doctor()
    assert "train_toy 7 0 0.0 goes on if run again" in said


def test_it_clears_states_when_told_to(lab, doctor):
    save_state(lab)
    status, said = doctor("--clear-states")
    assert status == 0
    assert "states removed" in said
    assert states_of(lab) == []


def test_a_finished_state_is_called_finished(lab, doctor):
    save_state(lab).finish()
    assert "finished; kept until it trains something else" in doctor()[1]


def test_a_damaged_state_is_shown_and_can_be_cleared(lab, doctor):
    save_state(lab)
    (lab.root / ".state/train_toy/k/state.safetensors").write_bytes(b"rubbish")
    assert "train_toy unreadable" in doctor()[1]
    assert remove_states(lab.root / ".state") > 0


def test_a_state_in_use_is_not_cleared(lab):
    from filelock import FileLock

    save_state(lab)
    with FileLock(lab.root / ".state/train_toy/k/lock"):
        assert remove_states(lab.root / ".state") == 0
    assert len(states_of(lab)) == 1


def test_a_python_that_stages_could_not_start_with_is_named(lab, monkeypatch):
    monkeypatch.setattr(diagnosis.sys, "flags", SimpleNamespace(safe_path=True))
    with pytest.raises(UserError, match="PYTHONSAFEPATH"):
        CHECKS["git and DVC"]()


# Records


@pytest.fixture
def recorded(lab, monkeypatch) -> Lab:
    """A repository with MLflow on, and nothing recorded yet."""
    monkeypatch.setenv("UNCLIP_TRACKING", "on")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lab


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A database as MLflow makes it, which takes seconds."""
    from unclip.tracking.store import open_client

    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    open_client(f"sqlite:///{path}").search_experiments()
    return path


def set_version(database, version):
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("UPDATE alembic_version SET version_num = ?", (version,))
        opened.commit()


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def test_records_that_are_not_there_yet_stand_in_no_way_and_are_not_made(recorded):
    before = contents(recorded.root)
    said = "sqlite:///mlflow.db is not there yet; the first training makes it"
    assert CHECKS["records"]() == said
    assert contents(recorded.root) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my%20lab", "why?lab #'", 'ä "&@:b'])
def test_a_database_lies_where_it_is_looked_for_whatever_the_folder_is_called(
    recorded, tables, monkeypatch, name
):
    folder = recorded.root / "labs" / name
    folder.mkdir(parents=True)
    shutil.copy(tables, folder / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(folder))
    store = open_store()
    run = store.create_run("unclip", "a", {}, started=0)
    (folder / "note.txt").write_text("a note")
    store.client.log_artifact(run, str(folder / "note.txt"))
    assert CHECKS["records"]() == "sqlite:///mlflow.db can be used"
    assert list(folder.glob(f"mlruns/{run}/artifacts/note.txt"))
    with closing(sqlite3.connect(folder / "mlflow.db")) as opened:
        assert (run,) in opened.execute("SELECT run_uuid FROM runs").fetchall()
    assert [path.name for path in folder.parent.iterdir()] == [name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda database: set_version(database, "ffffffffffff"), "written by a newer MLflow than"),
        (lambda database: set_version(database, "451aebb31d03"), "run `mlflow db upgrade"),
        (lambda database: database.write_bytes(b"text" * 999), "is not a database"),
    ],
    ids=["newer", "older", "rubbish"],
)
def test_a_database_can_be_used_or_one_line_says_why_not_and_it_stays_as_it_is(
    recorded, tables, damage, said
):
    database = recorded.root / "mlflow.db"
    shutil.copy(tables, database)
    assert CHECKS["records"]() == "sqlite:///mlflow.db can be used"
    assert database.read_bytes() == tables.read_bytes()
    damage(database)
    before = contents(recorded.root)
    with pytest.raises(UserError, match=f"^sqlite:///mlflow.db: .*{said}.*trainings go unrecorded"):
        CHECKS["records"]()
    assert contents(recorded.root) == before


@pytest.mark.parametrize("name", ["mlflow.db", "."])
def test_records_that_can_not_be_written_to_stand_in_the_way(recorded, monkeypatch, name):
    (recorded.root / "mlflow.db").touch()
    locked = recorded.root / name
    may = os.access  # root, whom no permission stops, runs this too
    monkeypatch.setattr("os.access", lambda path, mode: path != locked and may(path, mode))
    with pytest.raises(UserError, match="not be written to"):
        CHECKS["records"]()


class Listing(BaseHTTPRequestHandler):
    """MLflow's list of experiments, of which there are none."""

    def do_GET(self):
        content = json.dumps({"experiments": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *_):
        pass


def test_a_server_that_answers_is_told(recorded, monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Listing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        for key in look.IMPATIENT:
            monkeypatch.setenv(key, "0")  # so that what is set is forgotten
        assert CHECKS["records"]() == "http (MLFLOW_TRACKING_URI) answers"
        server.shutdown()


@pytest.mark.parametrize("listens", [False, True])
def test_a_server_that_does_not_answer_is_one_line_soon(recorded, monkeypatch, listens):
    import mlflow  # noqa: F401 - its seconds are not the server's

    monkeypatch.setitem(look.IMPATIENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    for key in look.IMPATIENT:
        monkeypatch.setenv(key, "0")  # so that what is set is forgotten
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        address = f"me:secret@127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{address}")
        started = time.monotonic()
        with pytest.raises(UserError, match=r"^http \(MLFLOW_TRACKING_URI\): ") as caught:
            CHECKS["records"]()
    assert time.monotonic() - started < 20  # minutes, if nobody hurried it
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
