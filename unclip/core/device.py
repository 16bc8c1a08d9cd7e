"""The device, its precision and its threads."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unclip.config.settings import num_threads, require_devices, wanted_device


@dataclass(frozen=True)
class Machine:
    """What a training computes on.

    Attributes:
        device: torch's name of its type: cpu, cuda (this process's GPU) or mps.
        precision: "fp32" or "bf16".
        accelerator: Hugging Face Accelerate's, for precision and backward.
    """

    device: str
    precision: str
    accelerator: Any


def open_device() -> str:
    """Sets torch's threads and determinism, and returns the device of this machine.

    Raises:
        UserError: the device in the settings is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = wanted_device([name for name, there in available.items() if there])
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads uninitialised memory; filling it would cost 7 % of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device == "cuda":
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # fp32 means float32, as on other devices
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # on this machine
    require_devices(device, processes, {"cuda": torch.cuda.device_count(), "mps": 1}.get(device))
    threads = max(1, num_threads() // processes)
    if processes > 1:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # otherwise Accelerate sets its own number
    torch.set_num_threads(threads)
    return device


def open_machine(precision: str) -> Machine:
    """Returns the machine with an Accelerator; `precision` is as for `resolve_precision`.

    Raises:
        UserError: the device in the settings is not available.
    """
    from accelerate import Accelerator

    device = open_device()
    precision = resolve_precision(precision, device)
    mixed_precision = "bf16" if precision == "bf16" else "no"
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed_precision)
    return Machine(accelerator.device.type, precision, accelerator)


def resolve_precision(precision: str, device: str) -> str:
    """Returns "fp32" or "bf16"; "auto" is bf16 where its arithmetic is native, and so faster."""
    if precision != "auto":
        return precision
    if device == "cuda":
        is_native = torch.cuda.get_device_capability() >= (8, 0)
    else:
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        is_native = device == "cpu" and has_bf16
    return "bf16" if is_native else "fp32"


def autocast(device: str, precision: str) -> torch.autocast:
    """Returns the context in which networks compute in "fp32" or "bf16"."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


def to_device(tensor: Tensor, device: str) -> Tensor:
    """Returns a CPU tensor on a device, without making a GPU wait."""
    if device != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def processor(device: str) -> str:
    """Returns what determines rounding on this machine: the GPU or the CPU's instructions."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    has_amx = torch.cpu._is_amx_tile_supported()
    return f"{device} {torch.backends.cpu.get_cpu_capability()}{' AMX' if has_amx else ''}"
