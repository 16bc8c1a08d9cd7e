"""The timestep as a vector: sinusoids and an MLP, shared by the prior and the decoder."""

import math

import torch
from torch import Tensor, nn

NUM_FREQUENCIES = 64  # enough to tell neighbouring steps apart at any model width
MAX_PERIOD = 10_000.0


def sinusoids(t: Tensor) -> Tensor:
    """Returns cos and sin of timesteps t (B,) at 64 frequencies, (B, 128) float32.

    Periods are spaced geometrically from 2π to nearly 2π·10,000 steps (Vaswani et al. 2017, §3.5,
    with t in place of the position, as in Ho et al. 2020, §4).
    """
    steps = torch.arange(NUM_FREQUENCIES, dtype=torch.float32, device=t.device)
    frequencies = torch.exp(-math.log(MAX_PERIOD) * steps / NUM_FREQUENCIES)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimestepEmbedding(nn.Module):
    """Sinusoids of t through a two-layer MLP (Ho et al. 2020, appendix B)."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * NUM_FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim)
        )

    def forward(self, t: Tensor) -> Tensor:
        """Returns (B, dim) from timesteps (B,)."""
        return self.mlp(sinusoids(t))
