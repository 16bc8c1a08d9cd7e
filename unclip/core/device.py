"""The device that computes, its precision and its threads."""

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
        device: its type, as torch names it: cpu, cuda or mps; of several GPUs this process's own.
        precision: "fp32" or "bf16".
        accelerator: Hugging Face Accelerate's, for precision and backward.
    """

    device: str
    precision: str
    accelerator: Any


def open_device() -> str:
    """Returns the device of this machine, after setting torch's threads and determinism.

    Raises:
        UserError: the device asked for is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = wanted_device([name for name, there in available.items() if there])
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory before it is written; filling it all costs 7 % of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device == "cuda":
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # fp32 is to be float32, as on every other device
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine, this one too
    require_devices(device, beside, {"cuda": torch.cuda.device_count(), "mps": 1}.get(device))
    threads = max(1, num_threads() // beside)
    if beside > 1:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # else Accelerate sets a count of its own
    torch.set_num_threads(threads)
    return device


def open_machine(precision: str) -> Machine:
    """Returns the machine with one Accelerator for device, precision and backward.

    Args:
        precision: as `resolve_precision` takes it.

    Raises:
        UserError: the device asked for is not there.
    """
    from accelerate import Accelerator

    device = open_device()
    precision = resolve_precision(precision, device)
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision="bf16" if precision == "bf16" else "no"
    )
    return Machine(accelerator.device.type, precision, accelerator)


def resolve_precision(precision: str, device: str) -> str:
    """Returns "fp32" or "bf16"; "auto" is bf16 where the device computes in it natively."""
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device) else "fp32"


def autocast(device: str, precision: str) -> torch.autocast:
    """Returns the context in which networks compute in a precision, "fp32" or "bf16"."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


def to_device(tensor: Tensor, device: str) -> Tensor:
    """Returns a tensor of the CPU on a device, which a GPU does not stop its work for."""
    if device != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def processor(device: str) -> str:
    """Returns what on this machine rounds sums in its own way: the GPU, or the instructions."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    has_amx = torch.cpu._is_amx_tile_supported()
    return f"{device} {torch.backends.cpu.get_cpu_capability()}{' AMX' if has_amx else ''}"


def _has_bf16(device: str) -> bool:
    """Returns whether bf16 arithmetic is native, and so faster and not only smaller."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
