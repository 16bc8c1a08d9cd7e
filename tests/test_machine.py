import os
import subprocess
import sys
from pathlib import Path

import pytest
from dag import REPO

from unclip.config.errors import UserError
from unclip.core import device as machine

NAMES = list(machine.SETTINGS.values())


@pytest.fixture
def repository(monkeypatch, tmp_path) -> Path:
    """An empty main repository, and no setting in the environment."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    machine._local_settings.cache_clear()
    yield tmp_path
    machine._local_settings.cache_clear()


def write(repository: Path, text: str) -> None:
    (repository / "local.yaml").write_text(text, encoding="utf-8")


def test_without_any_setting_all_are_none(repository):
    assert [machine.setting(name) for name in machine.SETTINGS] == [None] * len(NAMES)


def test_the_environment_wins_over_local_yaml(repository, monkeypatch):
    write(repository, "device: cuda\nthreads: 3\n")
    monkeypatch.setenv("UNCLIP_DEVICE", "cpu")
    assert machine.setting("device") == "cpu"
    assert machine.num_threads() == 3


def test_a_key_without_a_value_is_no_setting(repository):
    write(repository, "device:\nthreads: 2\n")
    assert machine.setting("device") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("devcie: cpu\n", "devcie: unknown setting; expected one of data_dir, device"),
        ("- cpu\n", "unknown setting"),
        ("device: {\n", "not valid YAML"),
        ("device: a\ndevice: b\n", "stands here twice"),
    ],
)
def test_a_broken_local_yaml_is_one_line_that_names_it(repository, text, message):
    write(repository, text)
    with pytest.raises(UserError, match=message) as caught:
        machine.setting("device")
    assert str(caught.value).startswith(f"{repository / 'local.yaml'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", "²", "1025"])
def test_a_thread_count_that_makes_no_sense_is_named(repository, monkeypatch, threads):
    monkeypatch.setenv("UNCLIP_THREADS", threads)
    with pytest.raises(UserError, match=f"^UNCLIP_THREADS: '{threads}' is not allowed"):
        machine.num_threads()


def test_threads_are_the_physical_cores_whatever_is_free(repository, monkeypatch):
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 16 if logical else 8)
    assert machine.num_threads() == 8


def test_raw_data_lies_in_the_main_repository_unless_told(repository, monkeypatch):
    assert machine.raw_data_dir() == repository / "data" / "raw"
    monkeypatch.setenv("UNCLIP_DATA_DIR", "~/sets")
    assert machine.raw_data_dir() == Path.home() / "sets"


def test_a_device_that_is_not_there_is_named_with_those_that_are(repository, monkeypatch):
    monkeypatch.setenv("UNCLIP_DEVICE", "tpu")
    with pytest.raises(UserError, match=r"^UNCLIP_DEVICE: 'tpu' is not there; .*auto, cpu"):
        machine.open_machine("fp32")


@pytest.mark.parametrize(
    ("asked", "has_bf16", "used"),
    [
        ("fp32", True, "fp32"),
        ("bf16", False, "bf16"),
        ("auto", True, "bf16"),
        ("auto", False, "fp32"),
    ],
)
def test_auto_is_half_precision_where_the_machine_has_it(
    repository, monkeypatch, asked, has_bf16, used
):
    import torch
    from workspace import forget_accelerator

    monkeypatch.setenv("UNCLIP_DEVICE", "cpu")
    monkeypatch.setenv("UNCLIP_THREADS", "1")
    monkeypatch.setattr(machine, "_has_bf16", lambda device: has_bf16)
    forget_accelerator()
    opened = machine.open_machine(asked)
    torch.use_deterministic_algorithms(False)
    assert (opened.device, opened.precision) == ("cpu", used)
    assert opened.accelerator.mixed_precision == ("bf16" if used == "bf16" else "no")
    forget_accelerator()


@pytest.mark.parametrize("package", ["unclip", "stages"])
@pytest.mark.parametrize(
    ("name", "value", "rounds"),
    [
        ("PATH", os.environ["PATH"], "10000"),
        ("GOMP_SPINCOUNT", "7", "7"),
        ("OMP_WAIT_POLICY", "active", "None"),
    ],
)
def test_threads_are_told_how_long_to_spin_before_torch_is_loaded(package, name, value, rounds):
    code = f"import os, sys, {package}; print(os.getenv('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPO,
        env=kept | {name: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == [rounds, "False"]
