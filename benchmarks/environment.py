"""Where and when figures were measured, so that they can be read beside others."""

import datetime
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from unclip.config.settings import num_threads

CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, Any]:
    """Returns processor, cores, threads, memory (bytes), versions, date and command."""
    return {
        "processor": _processor(),
        "accelerator": _accelerator(),
        "cores": psutil.cpu_count(logical=False),
        "usable_cores": len(psutil.Process().cpu_affinity()) if _has_affinity() else None,
        "threads": num_threads(),
        "memory": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": _version("torch"),
        "diffusers": _version("diffusers"),
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
    }


def _processor() -> str:
    """Returns the processor's name as the system gives it."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _accelerator() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _has_affinity() -> bool:
    return hasattr(psutil.Process, "cpu_affinity")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
