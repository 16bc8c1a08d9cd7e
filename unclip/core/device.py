"""The device that computes, its precision and its threads."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unclip.config.errors import UserError
from unclip.config.settings import num_threads, setting

if TYPE_CHECKING:
    from torch import Tensor


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
