import os
import subprocess
import sys
from pathlib import Path

import pytest
from dag import REPO

from unclip.config import settings
from unclip.config.errors import UserError


@pytest.fixture
def repository(monkeypatch, tmp_path) -> Path:
    """An empty main repository, and no setting in the environment."""
    for name in settings.SETTINGS.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    settings._local_settings.cache_clear()
    yield tmp_path
    settings._local_settings.cache_clear()


def write(repository: Path, text: str) -> None:
    (repository / "local.yaml").write_text(text, encoding="utf-8")


def test_without_any_setting_all_are_none(repository):
    assert {settings.setting(name) for name in settings.SETTINGS} == {None}


def test_the_environment_wins_over_local_yaml(repository, monkeypatch):
    write(repository, "device: cuda\nthreads: 3\n")
    monkeypatch.setenv("UNCLIP_DEVICE", "cpu")
    assert settings.setting("device") == "cpu"
    assert settings.num_threads() == 3


def test_a_key_without_a_value_is_no_setting(repository):
    write(repository, "device:\nthreads: 2\n")
    assert settings.setting("device") is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("devcie: cpu\n", "devcie: unknown setting; .* data_dir, device"),
        ("- cpu\n", "unknown setting"),
        ("device: {\n", "not valid YAML"),
        ("device: a\ndevice: b\n", "twice"),
    ],
)
def test_a_broken_local_yaml_is_one_line_that_names_it(repository, text, what):
    write(repository, text)
    with pytest.raises(UserError, match=rf"^.*local\.yaml: .*{what}.*$"):
        settings.setting("device")


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", "²", "1025"])
def test_a_thread_count_that_makes_no_sense_is_named(repository, monkeypatch, threads):
    monkeypatch.setenv("UNCLIP_THREADS", threads)
    with pytest.raises(UserError, match=f"^UNCLIP_THREADS: '{threads}'"):
        settings.num_threads()


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "5"}, 5),
        ({"SLURM_CPUS_PER_TASK": "5", "OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3", "UNCLIP_THREADS": "4"}, 4),
        ({"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}, 8),  # a launcher's, not the user's
        ({"OMP_NUM_THREADS": "0"}, 8),
        ({}, 8),
    ],
)
def test_threads_are_what_the_machine_grants_and_doctor_says_why(
    repository, monkeypatch, variables, threads
):
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("joblib.cpu_count", lambda only_physical_cores: 8)
    found, reason = settings.choose_threads()
    assert found == settings.num_threads() == threads
    assert (reason in variables) == (threads != 8)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
def test_a_process_that_may_use_one_core_has_one_thread(repository, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # as `taskset` does
    try:
        assert settings.num_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_threads_are_the_physical_cores_whatever_is_free(repository, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(
        "joblib.cpu_count", lambda only_physical_cores: 8 if only_physical_cores else 16
    )
    assert settings.num_threads() == 8


def test_raw_data_lies_in_the_main_repository_unless_told(repository, monkeypatch):
    assert settings.raw_data_dir() == repository / "data" / "raw"
    monkeypatch.setenv("UNCLIP_DATA_DIR", "~/sets")
    assert settings.raw_data_dir() == Path.home() / "sets"


@pytest.mark.parametrize(
    ("wanted", "available", "device"),
    [
        (None, [], "cpu"),
        ("auto", ["cuda"], "cuda"),
        ("cpu", ["cuda"], "cpu"),
        ("mps", ["cuda", "mps"], "mps"),
    ],
)
def test_the_device_is_the_one_that_is_asked_for_or_the_best(
    repository, monkeypatch, wanted, available, device
):
    if wanted is not None:
        monkeypatch.setenv("UNCLIP_DEVICE", wanted)
    assert settings.wanted_device(available) == device


def test_a_device_that_is_not_there_is_named_with_those_that_are(repository, monkeypatch):
    monkeypatch.setenv("UNCLIP_DEVICE", "tpu")
    with pytest.raises(UserError, match=r"^UNCLIP_DEVICE: 'tpu' .*auto, cpu, cuda$"):
        settings.wanted_device(["cuda"])


def test_processes_that_would_share_a_device_are_refused():
    settings.require_devices("cuda", 2, 2)
    settings.require_devices("cpu", 8, None)
    with pytest.raises(UserError, match=r"^UNCLIP_PROCESSES: 3 .*has 2"):
        settings.require_devices("cuda", 3, 2)


@pytest.mark.parametrize(
    ("name", "value", "rounds"),
    [
        ("PATH", os.environ["PATH"], "10000"),
        ("GOMP_SPINCOUNT", "7", "7"),
        ("OMP_WAIT_POLICY", "active", "None"),
    ],
)
def test_threads_are_told_how_long_to_spin_before_torch_is_loaded(name, value, rounds):
    code = "import os, sys, stages; print(os.getenv('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", code]
    environment = kept | {name: value}
    said = subprocess.check_output(command, cwd=REPO, env=environment, text=True)
    assert said.split() == [rounds, "False"]
