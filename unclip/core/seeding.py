"""Random draws as a function of (seed, purpose, index): no generator state is ever saved."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it takes seconds to import
    import torch


def derive_seed(seed: int, purpose: str, index: int = 0) -> int:
    """Returns a seed in [0, 2**63) from SHA-256, different for each (seed, purpose, index).

    Args:
        seed: the user's seed.
        purpose: what the draws are for, for example "decoder noise".
        index: the picture or the training step.
    """
    digest = hashlib.sha256(f"{seed}\n{purpose}\n{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """Returns a fresh CPU generator for (seed, purpose, index)."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, purpose, index))
