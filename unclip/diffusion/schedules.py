"""How much noise each timestep holds, and which timesteps a sampler visits.

The process is x_t = sqrt(a_t)·x_start + sqrt(1 − a_t)·noise, a_t = alphas_cumprod[t]: t = 0 is the
least noisy timestep, t = num_timesteps − 1 is noise but for a trace. Everything here is float64.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

SCHEDULES = ("cosine", "linear")
MAX_BETA = 0.999


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: tensors have no single truth
class NoiseSchedule:
    """A variance-preserving noise schedule.

    Attributes:
        betas: (T,) float64 on the CPU, each in (0, 1): the share of variance that each timestep
            replaces by noise.
    """

    betas: Tensor

    def __post_init__(self) -> None:
        assert self.betas.ndim == 1, f"betas must be (T,), got {tuple(self.betas.shape)}"
        assert self.betas.dtype == torch.float64, f"betas must be float64, got {self.betas.dtype}"

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """(T,) float64: the share of the signal's variance that is left at each timestep."""
        return torch.cumprod(1 - self.betas, dim=0)

    @property
    def num_timesteps(self) -> int:
        """T, the number of diffusion timesteps."""
        return len(self.betas)


def make_schedule(name: str, num_timesteps: int, offset: float) -> NoiseSchedule:
    """Returns the noise schedule called `name`, its betas capped at 0.999.

    Args:
        name: "cosine" (Nichol & Dhariwal 2021, eq. 17) or "linear" (Ho et al. 2020, stretched to T
            timesteps as in guided-diffusion).
        num_timesteps: T, at least 1.
        offset: the `s` of eq. 17, at least 0, 0.008 in the paper: it keeps the first betas of the
            cosine from vanishing, so more of it is more noise at t = 0. "linear" has no such term
            and takes no notice of it.

    Raises:
        ValueError: `name` is not known.
    """
    assert num_timesteps >= 1, f"num_timesteps must be at least 1, got {num_timesteps}"
    match name:
        case "cosine":
            betas = _cosine_betas(num_timesteps, offset)
        case "linear":
            betas = _linear_betas(num_timesteps)
        case _:
            raise ValueError(f"schedule: {name!r} is unknown; expected one of {SCHEDULES}")
    return NoiseSchedule(betas.clamp(max=MAX_BETA))


def sampling_timesteps(num_timesteps: int, sampling_steps: int) -> Tensor:
    """Returns the timesteps that a sampler visits, (sampling_steps,) int64, strictly descending.

    "Trailing" spacing (Lin et al. 2024, "Common diffusion noise schedules and sample steps are
    flawed", table 2): the first is always T − 1, the one timestep at which starting from pure
    noise is right; the rest are T / sampling_steps apart.

    Raises:
        ValueError: `sampling_steps` is not in 1..num_timesteps.
    """
    if not 1 <= sampling_steps <= num_timesteps:
        raise ValueError(f"sampling_steps: {sampling_steps} is not in 1..{num_timesteps}")
    # Multiplied before divided: integers stay exact, so rounding never merges two timesteps.
    steps_left = torch.arange(sampling_steps, 0, -1, dtype=torch.float64)
    return (steps_left * num_timesteps / sampling_steps).round().long() - 1


def _cosine_betas(num_timesteps: int, offset: float) -> Tensor:
    assert offset >= 0, f"offset must be at least 0, got {offset}"
    time = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
    signal = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    return 1 - signal[1:] / signal[:-1]


def _linear_betas(num_timesteps: int) -> Tensor:
    # Betas grow as T shrinks, so that every T ends in noise. Counted from the last: a process of
    # one timestep is then the noisiest one, where guided-diffusion's would keep 90 % of the signal.
    scale = 1000 / num_timesteps
    return torch.linspace(0.02 * scale, 0.0001 * scale, num_timesteps, dtype=torch.float64).flip(0)
