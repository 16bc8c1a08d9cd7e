"""How much noise each timestep has, and which timesteps a sampler visits.

The process is x_t = sqrt(a_t)·x_start + sqrt(1 − a_t)·noise with a_t = alphas_cumprod[t], the
running product of 1 − betas: t = 0 is the least noisy timestep, t = T − 1 is nearly pure noise.
Everything here is float64.
"""

import math

import torch
from torch import Tensor

SCHEDULES = ("cosine", "linear")
MAX_BETA = 0.999


def make_betas(name: str, num_timesteps: int, offset: float) -> Tensor:
    """Returns betas (T,), the share of variance that each timestep replaces by noise, <= 0.999.

    Args:
        name: "cosine" (Nichol & Dhariwal 2021, eq. 17) or "linear" (Ho et al. 2020, stretched to T
            timesteps as in guided-diffusion).
        num_timesteps: T, at least 1.
        offset: `s` in eq. 17, at least 0; 0.008 in the paper. It keeps the first cosine betas from
            vanishing: a larger offset means more noise at t = 0. "linear" ignores it.

    Raises:
        ValueError: `name` is unknown.
    """
    assert num_timesteps >= 1, f"num_timesteps must be at least 1, got {num_timesteps}"
    assert offset >= 0, f"offset must be at least 0, got {offset}"
    match name:
        case "cosine":
            time = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
            signal = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
            betas = 1 - signal[1:] / signal[:-1]
        case "linear":
            # Betas grow as T shrinks, so that every T ends in noise. Counted from the last, so that
            # a single timestep is the noisiest one; guided-diffusion would keep 90 % of the signal.
            scale = 1000 / num_timesteps
            ends = 0.02 * scale, 0.0001 * scale
            betas = torch.linspace(*ends, num_timesteps, dtype=torch.float64).flip(0)
        case _:
            raise ValueError(f"schedule: {name!r} is unknown; expected one of {SCHEDULES}")
    return betas.clamp(max=MAX_BETA)


def sampling_timesteps(num_timesteps: int, sampling_steps: int) -> Tensor:
    """Returns the timesteps that a sampler visits, (sampling_steps,) int64, strictly descending.

    The spacing is "trailing" (Lin et al. 2024, "Common diffusion noise schedules and sample steps
    are flawed", table 2): the first is always T − 1, the only timestep at which starting from pure
    noise is right; the others are T / sampling_steps apart.

    Raises:
        ValueError: `sampling_steps` is not in 1..num_timesteps.
    """
    if not 1 <= sampling_steps <= num_timesteps:
        raise ValueError(f"sampling_steps: {sampling_steps} is not in 1..{num_timesteps}")
    # Multiplied before divided: integers stay exact, so rounding never merges two timesteps.
    steps_left = torch.arange(sampling_steps, 0, -1, dtype=torch.float64)
    return (steps_left * num_timesteps / sampling_steps).round().long() - 1
