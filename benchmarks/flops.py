"""Floating-point operations of a step, and how many of them the machine can do in a second."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from benchmarks.worker import Work

Shape = tuple[int, ...]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def _attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(
    grad_out: Shape, query: Shape, key: Shape, value: Shape, *_: object, **__: object
) -> int:
    return int(sdpa_backward_flop_count(grad_out, query, key, value))


# torch counts the fused attention of GPUs, but not that of processors.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def count_flops(run: Callable[[], object]) -> int:
    """Returns the floating-point operations of convolutions, matrix products and attention."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        run()
    return int(counter.get_total_flops())


def matrix_product(size: int, precision: str, device: str) -> Work:
    """Returns the product of two square matrices: the most that a machine can do.

    Args:
        size: rows and columns.
        precision: "bf16" or "fp32".
        device: where it computes.
    """
    left, right = torch.randn(2, size, size, device=device).to(DTYPES[precision])
    product = torch.empty_like(left)

    def run(count: int) -> None:
        for _ in range(count):
            torch.matmul(left, right, out=product)

    return Work(run, {"flops": 2 * size**3, "size": size, "precision": precision})
