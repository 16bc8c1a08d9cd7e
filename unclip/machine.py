"""Facts about this machine: device, threads, folders. None of them is a param.

Each is an environment variable or a key of `local.yaml` in the main repository, which git ignores;
the variable wins. So moving to another machine leaves every hash in dvc.lock as it is.
"""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclip.errors import UserError
from unclip.yaml12 import load_yaml

if TYPE_CHECKING:
    from torch import Tensor

SETTINGS = {
    "data_dir": "UNCLIP_DATA_DIR",  # folder of raw downloads, torchvision's root
    "device": "UNCLIP_DEVICE",  # auto, cpu, cuda or mps
    "inception_weights": "UNCLIP_INCEPTION_WEIGHTS",  # file, for `evaluate.inception`
    "processes": "UNCLIP_PROCESSES",  # that share a training
    "threads": "UNCLIP_THREADS",  # CPU threads of one stage
    "tracking": "UNCLIP_TRACKING",  # on or off
    "tracking_uri": "MLFLOW_TRACKING_URI",  # where MLflow keeps its records
}


def main_repository() -> Path:
    """Returns the user's repository, also in DVC's temporary workspaces (DVC_ROOT names it)."""
    return Path(os.environ.get("DVC_ROOT") or Path(__file__).resolve().parent.parent)


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
    """Returns a machine setting, or None where neither environment nor local.yaml has it."""
    value = os.environ.get(SETTINGS[name])
    return value or _local_settings(main_repository() / "local.yaml").get(name)


def raw_data_dir() -> Path:
    """Returns the folder of raw downloads; by default data/raw in the main repository."""
    return Path(setting("data_dir") or main_repository() / "data" / "raw").expanduser()


def num_threads() -> int:
    """Returns the CPU threads of a stage: the physical cores, never what is free of them.

    Sums of floats depend on how they are split, so a count that followed the load would change
    the bytes of a checkpoint.
    """
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return _whole_number("threads", cores)


def num_processes() -> int:
    """Returns how many processes share a training: 1 unless the settings ask for more."""
    return _whole_number("processes", 1)


def _whole_number(name: str, default: int) -> int:
    chosen = setting(name)
    if chosen is None:
        return default
    if not chosen.isdecimal() or not 1 <= int(chosen) <= 1024:
        raise UserError(f"{SETTINGS[name]}: {chosen!r} is not allowed; expected 1 to 1024")
    return int(chosen)


@dataclass(frozen=True)
class Machine:
    """The device that computes, and how exactly it does it.

    Attributes:
        device: its type, as torch names it: cpu, cuda or mps; of several GPUs this process's own.
        precision: "fp32" or "bf16".
        accelerator: Hugging Face Accelerate's.
    """

    device: str
    precision: str
    accelerator: Any


def open_machine(precision: str) -> Machine:
    """Returns the machine with one Accelerator for device, precision and backward.

    Args:
        precision: "fp32", "bf16", or "auto", which is bf16 where the processor has instructions
            for it and fp32 elsewhere.

    Raises:
        UserError: the device asked for is not there.
    """
    import torch
    from accelerate import Accelerator

    wanted = setting("device") or "auto"
    available = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(wanted, False):
        found = ", ".join(name for name, there in available.items() if there)
        raise UserError(f"UNCLIP_DEVICE: {wanted!r} is not there; expected one of {found}")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory before it is written; filling it all costs 7 % of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if wanted == "auto":
        wanted = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if wanted == "cuda":
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # fp32 is to be float32, as on every other device
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if precision == "auto":
        precision = "bf16" if _has_bf16(wanted) else "fp32"
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine, this one too
    _require_devices(wanted, beside)
    threads = max(1, num_threads() // beside)
    if beside > 1:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # else Accelerate sets a count of its own
    torch.set_num_threads(threads)
    accelerator = Accelerator(
        cpu=wanted == "cpu", mixed_precision="bf16" if precision == "bf16" else "no"
    )
    return Machine(accelerator.device.type, precision, accelerator)


def to_device(tensor: "Tensor", device: str) -> "Tensor":
    """Returns a tensor of the CPU on a device, which a GPU does not stop its work for."""
    if device != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _require_devices(device: str, processes: int) -> None:
    """Stops processes that would have to share a GPU."""
    import torch

    present = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, processes)
    if processes > present:
        raise UserError(
            f"UNCLIP_PROCESSES: {processes} processes want a {device} device each, and this "
            f"machine has {present}; lower it, or set UNCLIP_DEVICE=cpu"
        )


def processor(device: str) -> str:
    """Returns what on this machine rounds sums in its own way: the GPU, or the instructions."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    has_amx = torch.cpu._is_amx_tile_supported()
    return f"{device} {torch.backends.cpu.get_cpu_capability()}{' AMX' if has_amx else ''}"


def _has_bf16(device: str) -> bool:
    """Returns whether bf16 arithmetic is native, and so faster and not only smaller."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
