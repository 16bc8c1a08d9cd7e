"""How much noise each timestep has, and which timesteps a sampler visits.

It is x_t = alpha_t·x_start + sigma_t·noise: t = 0 is the least noisy timestep, t = T − 1 is
nearly pure noise. Everything here is float64.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

SCHEDULES = ("flow", "cosine", "linear")
MAX_BETA = 0.999
RHO = 7.0  # of Karras et al.'s spacing: larger visits more timesteps of little noise
NOISE_RANGE = (0.02, 80.0)  # sigma / alpha of the least and most noise that it spreads over


class NoiseLevel(NamedTuple):
    """A level of noise: x_t = alpha·x_start + sigma·noise at the timestep t; -1 is the data."""

    t: int
    alpha: float
    sigma: float


def alpha_and_sigma(name: str, num_timesteps: int, offset: float) -> tuple[Tensor, Tensor]:
    """Returns the weights of data and noise at each timestep, 2 × (T,).

    Args:
        name: "flow", the straight way from data to noise at even speed, sigma = 1 − alpha
            = (t + 1) / T (Lipman et al. 2023, "Flow Matching for Generative Modeling", §4.1, with
            sigma_min = 0; Liu et al. 2023, "Flow Straight and Fast"), or a schedule of
            `make_betas`, for which alpha² is the running product of 1 − betas and sigma² the rest.
        num_timesteps: T, at least 1.
        offset: see `make_betas`.

    Raises:
        ValueError: `name` is unknown.
    """
    if name == "flow":
        sigma = torch.arange(1, num_timesteps + 1, dtype=torch.float64) / num_timesteps
        return 1 - sigma, sigma
    alphas_cumprod = torch.cumprod(1 - make_betas(name, num_timesteps, offset), dim=0)
    return alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()


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


def karras_timesteps(noise_to_signal: Tensor, sampling_steps: int) -> Tensor:
    """Returns the timesteps that a sampler visits, (sampling_steps,) int64, strictly descending.

    The first is T − 1; the others are those whose noise is nearest to the levels of Karras et al.
    2022 ("EDM", eq. 5), so that steps are shorter where there is less noise.

    Args:
        noise_to_signal: (T,), sigma / alpha of every timestep, ascending.
        sampling_steps: in 1..T.
    """
    num_timesteps = len(noise_to_signal)
    low, high = (level ** (1 / RHO) for level in NOISE_RANGE)
    wanted = torch.linspace(high, low, sampling_steps, dtype=torch.float64) ** RHO
    nearest = (wanted[:, None].log() - noise_to_signal.log()).abs().argmin(dim=1)
    nearest[0] = num_timesteps - 1
    # Each is below the one before, and leaves room for those after it.
    room = torch.arange(sampling_steps - 1, -1, -1)
    timesteps: list[int] = []
    for t, least in zip(nearest.tolist(), room.tolist(), strict=True):
        most = timesteps[-1] - 1 if timesteps else t
        timesteps.append(max(min(t, most), least))
    return torch.tensor(timesteps)
