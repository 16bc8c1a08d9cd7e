"""Settings of this machine: device, threads, folders. None of them is a param.

Each is an environment variable or a key of `local.yaml` in the main repository, which git ignores;
the variable takes precedence. Moving to another machine thus changes no hash in dvc.lock.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

from unclip.config.errors import UserError
from unclip.config.yaml12 import load_yaml

SETTINGS = {
    "data_dir": "UNCLIP_DATA_DIR",  # folder of raw downloads, torchvision's root
    "device": "UNCLIP_DEVICE",  # auto, cpu, cuda or mps
    "processes": "UNCLIP_PROCESSES",  # that train together
    "threads": "UNCLIP_THREADS",  # CPU threads of one stage
    "tracking": "UNCLIP_TRACKING",  # on or off
    "tracking_uri": "MLFLOW_TRACKING_URI",  # where MLflow keeps its records
}

REPOSITORY = Path(__file__).resolve().parents[2]  # of this code


def main_repository() -> Path:
    """Returns the user's repository, even in DVC's temporary workspaces (from DVC_ROOT)."""
    return Path(os.environ.get("DVC_ROOT") or REPOSITORY)


@cache
def _local_settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = load_yaml(path.read_text(encoding="utf-8")) or {}
    except Exception as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    unknown = sorted(set(values) - set(SETTINGS)) if isinstance(values, dict) else ["no mapping"]
    if unknown:
        raise UserError(
            f"{path}: {unknown[0]}: unknown setting; expected one of {', '.join(SETTINGS)}"
        )
    return {key: str(value) for key, value in values.items() if value is not None}


def setting(name: str) -> str | None:
    """Returns a machine setting, or None if neither the environment nor local.yaml has it."""
    value = os.environ.get(SETTINGS[name])
    return value or _local_settings(main_repository() / "local.yaml").get(name)


def raw_data_dir() -> Path:
    """Returns the folder of raw downloads, by default data/raw in the main repository."""
    return Path(setting("data_dir") or main_repository() / "data" / "raw").expanduser()


def num_threads() -> int:
    """Returns the CPU threads of a stage; see `choose_threads`."""
    return choose_threads()[0]


def choose_threads() -> tuple[int, str]:
    """Returns the CPU threads of a stage, by default the physical cores it may use, and why.

    Affinity or a container's quota may withhold some. Slurm's share, and before it OMP_NUM_THREADS
    unless a launcher of several processes set it, change the default. The number never follows the
    load: sums of floats depend on how they are split, so the bytes of a checkpoint would change.
    """
    from joblib import cpu_count

    if setting("threads"):
        return _whole_number("threads", 1), SETTINGS["threads"]
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        asked = os.environ.get(name, "")
        is_launchers = name == "OMP_NUM_THREADS" and "LOCAL_WORLD_SIZE" in os.environ
        if asked.isdecimal() and int(asked) > 0 and not is_launchers:
            return int(asked), name
    return cpu_count(only_physical_cores=True), "the cores it may use"


def num_processes() -> int:
    """Returns how many processes train together, by default 1."""
    return _whole_number("processes", 1)


def _whole_number(name: str, default: int) -> int:
    chosen = setting(name)
    if chosen is None:
        return default
    if not chosen.isdecimal() or not 1 <= int(chosen) <= 1024:
        raise UserError(f"{SETTINGS[name]}: {chosen!r} is not allowed; expected 1 to 1024")
    return int(chosen)


def wanted_device(available: list[str]) -> str:
    """Returns the device to compute on, by default the first one available.

    Args:
        available: torch's names of the devices other than the CPU, the best first.

    Raises:
        UserError: the device in the settings is not available.
    """
    wanted, devices = setting("device") or "auto", [*available, "cpu"]
    if wanted == "auto":
        return devices[0]
    if wanted not in devices:
        found = ", ".join(["auto", "cpu", *available])
        raise UserError(f"UNCLIP_DEVICE: {wanted!r} is not available; expected one of {found}")
    return wanted


def require_devices(device: str, processes: int, present: int | None) -> None:
    """Checks that each process on this machine has its own device.

    Args:
        device: the type of device.
        processes: the number of processes.
        present: the number of devices; None is any number.

    Raises:
        UserError: processes would have to share a device.
    """
    if present is not None and processes > present:
        raise UserError(
            f"UNCLIP_PROCESSES: {processes} processes need a {device} device each, but this "
            f"machine has {present}; lower it, or set UNCLIP_DEVICE=cpu"
        )
