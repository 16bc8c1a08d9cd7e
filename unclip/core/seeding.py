"""Random draws as a function of (seed, purpose, index): no generator state is ever saved."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it takes seconds to import, and to derive a seed none of it is needed
    import torch
    from torch import Tensor


def derive_seed(seed: int, purpose: str, index: int = 0) -> int:
    """Returns a seed in [0, 2**63) that no other (seed, purpose, index) shares, but by accident.

    Args:
        seed: the user's seed.
        purpose: what the draws are for, for example "decoder noise"; purposes never share draws.
        index: the picture or the training step.
    """
    digest = hashlib.sha256(f"{seed}\n{purpose}\n{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """Returns a fresh CPU generator for (seed, purpose, index)."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, purpose, index))


def randn_per_sample(shape: tuple[int, ...], generators: list[torch.Generator]) -> Tensor:
    """Returns standard normal noise, shape (len(generators), *shape), each row from its generator.

    Row i depends on generator i alone, so the batch in which a picture is painted never changes
    its noise (as in NVlabs EDM's StackedRandomGenerator).
    """
    import torch

    return torch.stack([torch.randn(shape, generator=g) for g in generators])
