"""docs/sharing.md word for word, in a small repository: its command blocks, in their order."""

import csv
import io
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dag import REPO
from dvc_repo import Lab, stages_run
from mlflow_tables import Row, rows
from pages import blocks
from reproduced import EXPERIMENT
from test_faults_kill import TRAININGS

PAGE = "docs/sharing.md"
SWEEP = [f"sweep-{i}" for i in range(1, 7)]
SECONDS = 1800  # that a queue or a server may take on a busy machine


def block_with(words: str) -> str:
    (found,) = [block for block in blocks(PAGE) if words in block]
    return found


@dataclass
class Followed:
    """What was to be seen while the page was followed.

    Attributes:
        lab: the repository.
        address: of the MLflow server.
        said: block → its output.
        records: the complete rows of MLflow after the sweep.
        trained: the stage runs of MLflow then.
    """

    lab: Lab
    address: str
    said: dict[str, str] = field(default_factory=dict)
    records: list[Row] = field(default_factory=list)
    trained: list[Row] = field(default_factory=list)

    def output(self, words: str) -> str:
        """Returns what the block with these words said."""
        return self.said[block_with(words)]


def free_port() -> int:
    with closing(socket.socket()) as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def wait_for_queue(lab: Lab) -> None:
    end = time.monotonic() + SECONDS
    while True:
        tasks = lab.run("dvc", "queue", "status").split("Worker")[0]
        if "Queued" not in tasks and "Running" not in tasks:
            return
        assert time.monotonic() < end, tasks
        time.sleep(1)


def wait_for_server(port: int) -> None:
    end = time.monotonic() + SECONDS
    while True:
        with closing(socket.socket()) as opened:
            if opened.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < end, "the server does not answer"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def followed(reproduced_once, tmp_path_factory) -> Iterator[Followed]:
    """The page, followed in a repository that has been reproduced once."""
    lab = reproduced_once.copied(tmp_path_factory.mktemp("sharing") / "lab").lab
    lab.run("dvc", "exp", "remove", EXPERIMENT)
    port, servers = free_port(), []
    found = Followed(lab, f"http://127.0.0.1:{port}")
    try:
        for block in blocks(PAGE):
            command = block.replace("5000", str(port))
            if "mlflow server" in block:
                servers.append(start(lab, command))
                wait_for_server(port)
                continue
            if "dvc queue start" not in block:
                found.said[block] = lab.run("bash", "-euc", command)
            else:
                start(lab, command)  # a worker that lingers would keep a pipe open
                wait_for_queue(lab)
                known = ("", EXPERIMENT)
                found.records = [
                    row
                    for row in rows(lab.root, "unclip")
                    if row.tags.get("dvc_exp", "") not in known
                ]
                found.trained = rows(lab.root, "unclip-stages")
        yield found
    finally:
        for server in servers:
            os.killpg(server.pid, signal.SIGTERM)


def start(lab: Lab, command: str) -> subprocess.Popen[bytes]:
    """Runs a command that leaves a server behind, in a process group of its own."""
    with (lab.home / "server.txt").open("wb") as said:
        shell = subprocess.Popen(
            ["bash", "-euc", command],
            cwd=lab.root,
            env=lab.environment(),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    assert shell.wait() == 0
    return shell


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# A sweep


@pytest.mark.extra
def test_two_workers_lose_none_of_six_experiments_in_mlflow(followed):
    records = {row.tags["dvc_exp"]: row for row in followed.records}
    assert sorted(records) == SWEEP
    for row in records.values():
        assert (row.status, row.tags["complete"]) == ("FINISHED", "true")
        assert {f"{stage}/train_loss" for stage in TRAININGS} <= set(row.metrics)
        assert {"headline.joint_accuracy", "headline.frechet_distance"} <= set(row.metrics)
    values = {
        (row.params["sample.guidance"], row.params["decoder.seed"]) for row in records.values()
    }
    assert len(values) == len(followed.records) == 6


@pytest.mark.extra
def test_two_workers_lose_none_of_six_experiments_in_dvc(followed):
    shown = followed.output("--only-changed")
    assert all(name in shown for name in SWEEP)
    status = followed.output("dvc queue status")
    assert status.count("Success") == 6, status


@pytest.mark.extra
def test_a_sweep_trains_only_what_its_values_change(followed):
    trained = [row.tags["stage"] for row in followed.trained if row.tags.get("dvc_exp") in SWEEP]
    assert set(trained) == {"train_decoder"}
    assert 3 <= len(trained) <= 6  # two workers may train the same seed at the same time


@pytest.mark.extra
def test_the_log_of_an_experiment_shows_its_stages(followed):
    assert "sample" in stages_run(followed.output("dvc queue logs"))


# Mean and interval


@pytest.mark.extra
def test_the_intervals_are_those_of_the_records_in_mlflow(followed):
    heading, *lines = followed.output("tools/intervals.py").splitlines()
    assert heading.split() == ["sample.guidance", "seeds", "joint_accuracy", "frechet_distance"]
    assert [[float(cell) for cell in line.split()[:2]] for line in lines] == [[1, 3], [3, 3]]
    for line in lines:
        guidance, _, accuracy, _, _, distance, _, _ = line.split()
        group = [
            row.metrics
            for row in followed.records
            if float(row.params["sample.guidance"]) == float(guidance)
        ]
        for name, shown in (("joint_accuracy", accuracy), ("frechet_distance", distance)):
            mean = sum(metrics[f"headline.{name}"] for metrics in group) / 3
            assert float(shown) == pytest.approx(mean, rel=1e-3)


PARAMS = "a:\n  lr: 1\n  seed: 0\n"


def intervals(folder: Path, table: str, *figures: str) -> subprocess.CompletedProcess[str]:
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    return subprocess.run(
        [sys.executable, REPO / "tools" / "intervals.py", *figures],
        cwd=folder,
        input=table,
        capture_output=True,
        text=True,
        encoding="koi8-r",  # has no ±
        env=os.environ | {"PYTHONIOENCODING": "koi8-r"},
    )


def table_of(*experiments: tuple[str, int, str]) -> str:
    lines = [f"e{i},branch_commit,{f},{lr},{seed}" for i, (lr, seed, f) in enumerate(experiments)]
    return "\n".join(["Experiment,typ,figure,a.lr,a.seed", ",baseline,9,1,0", *lines]) + "\n"


def test_experiments_that_differ_only_in_seeds_are_one_row(tmp_path):
    quantiles = {
        2: 12.706,
        3: 4.303,
    }  # of Student's t by seeds, 97.5 %, as printed tables have them
    figures = {"0.1": [1.0, 2.0, 4.0], "0.2": [5.0, 5.5]}
    table = table_of(
        *((lr, seed, str(f)) for lr, each in figures.items() for seed, f in enumerate(each))
    )
    heading, *lines = intervals(tmp_path, table, "figure").stdout.splitlines()
    assert heading.split() == ["a.lr", "seeds", "figure"]
    for line, (lr, each) in zip(lines, figures.items(), strict=True):
        half = quantiles[len(each)] * statistics.stdev(each) / len(each) ** 0.5
        found = line.split()
        assert found[:2] == [lr, str(len(each))]
        assert float(found[2]) == pytest.approx(sum(each) / len(each), rel=1e-3)
        assert float(found[4]) == pytest.approx(half, rel=0.05)


def test_an_experiment_that_has_not_ended_counts_for_nothing(tmp_path):
    table = table_of(("0.1", 0, "2"), ("0.1", 1, ""), ("0.2", 0, ""))
    lines = intervals(tmp_path, table, "figure").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [["0.1", "1", "2"], ["0.2", "0", "-"]]


@pytest.mark.parametrize(
    ("table", "figures", "message"),
    [
        (table_of(("0.1", 0, "2")), ["figgure"], "figgure: not in the table; run `dvc exp show"),
        (table_of(("0.1", 0, "2")), [], "no figure: not in the table"),
        ("", ["figure"], "figure: not in the table"),
        (table_of(), ["figure"], "no experiments in the table"),
    ],
)
def test_a_table_without_the_figure_is_one_line(tmp_path, table, figures, message):
    done = intervals(tmp_path, table, *figures)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(message)


# Compare, keep, share


@pytest.mark.extra
def test_two_experiments_are_compared_by_values_and_figures(followed):
    said = followed.output("dvc exp diff")
    assert "sample.guidance" in said
    assert "frechet_distance" in said


@pytest.mark.extra
def test_who_clones_trains_nothing_and_then_nothing_at_all(followed):
    assert stages_run(followed.output("dvc pull")) == ["report"]
    assert "Data and pipelines are up to date." in followed.output("dvc pull")
    colleague = followed.lab.root.parent / "colleague"
    (row,) = rows(colleague, "unclip")
    assert row.tags["complete"] == "true"
    assert {f"{stage}/train_loss" for stage in TRAININGS} <= set(row.metrics)


@pytest.mark.extra
def test_who_clones_paints_with_an_experiment_of_another(followed):
    colleague = followed.lab.root.parent / "colleague"
    assert len(list((colleague / "from-sweep-1").glob("*seed*.png"))) >= 1


@pytest.mark.extra
def test_a_server_has_the_record_of_before_and_the_one_since(followed):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=followed.address)
    experiment = client.get_experiment_by_name("unclip")
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == 2
    assert {run.data.tags.get("dvc_exp") for run in found} >= {"shared"}
    for run in found:
        assert run.data.tags["complete"] == "true"
        assert {f"{stage}/train_loss" for stage in TRAININGS} <= set(run.data.metrics)
        assert client.list_artifacts(run.info.run_id)


@pytest.mark.extra
def test_an_experiment_that_the_server_records_runs_no_more_than_ever(followed):
    assert stages_run(followed.output("dvc exp run -n shared"))[0] == "sample"
