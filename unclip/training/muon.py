"""Muon, the optimizer of the networks' matrices.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the size of a
step is that of Liu et al. 2025, "Muon is Scalable for LLM Training", §2.2. torch.optim.Muon is the
same for 2-D weights alone, and always computes in bf16, which takes fifteen times as long as
float32 on a processor without bf16 instructions.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)  # a, b, c of Jordan et al.: a steep slope at 0
ITERATIONS = 5
STEP_RMS = 0.2  # of an entry, at a learning rate of 1: about that of AdamW's steps


class Muon(Optimizer):
    """Steps of orthogonalised momentum: every direction of a matrix moves equally far.

    A kernel (out, in, h, w) counts as the matrix (out, in·h·w). The entries of a step have about
    the same root mean square as AdamW's, so that both take the same learning rates.

    Args:
        params: weights with at least two dimensions, or groups of them.
        lr: learning rate.
        weight_decay: decoupled, as AdamW's.
        momentum: decay of the average of the gradients (Nesterov's).
        dtype: of the orthogonalising iterations, for which bf16 is exact enough.

    Raises:
        ValueError: a parameter has fewer than two dimensions.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, defaults)
        self.dtype = dtype
        for weight in (weight for group in self.param_groups for weight in group["params"]):
            if weight.ndim < 2:
                raise ValueError(f"Muon moves matrices and kernels, not a {tuple(weight.shape)}")

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Updates every weight that has a gradient; returns what `closure` does, if it is given."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            gradients = [w.grad for w in weights]
            for weight in weights:
                if "momentum_buffer" not in self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            averages = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, averages, group["momentum"])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for same in _rows_by_shape(weights):
                matrices = torch.stack([ahead[i].flatten(1) for i in same]).to(self.dtype)
                size = STEP_RMS * max(matrices.shape[1:]) ** 0.5
                flat = orthogonalise(matrices).to(weights[same[0]].dtype)
                moved = [weights[i] for i in same]
                moves = [move.view_as(weight) for move, weight in zip(flat, moved, strict=True)]
                torch._foreach_sub_(moved, moves, alpha=group["lr"] * size)
        return loss


def orthogonalise(matrices: Tensor) -> Tensor:
    """Returns matrices (N, R, C) with their singular values brought near 1, between 0.6 and 1.2.

    Newton-Schulz iterations of an odd quintic polynomial, which changes the singular values alone.
    Values below about 1/1000 of a matrix's norm stay smaller.
    """
    a, b, c = QUINTIC
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)  # at most 1 each
    for _ in range(ITERATIONS):
        gram = x @ x.mT  # (N, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def _rows_by_shape(weights: list[Tensor]) -> list[list[int]]:
    """Returns the indices of the weights of each matrix shape, to orthogonalise together."""
    places: dict[tuple[int, int], list[int]] = {}
    for i, weight in enumerate(weights):
        places.setdefault((len(weight), weight[0].numel()), []).append(i)
    return list(places.values())
