"""The training loss of a diffusion model, for vectors and for pictures."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.diffusion.predictions import q_sample, training_target
from unclip.diffusion.schedules import NoiseSchedule


def diffusion_loss(
    denoise: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    prediction_type: str,
    x_start: Tensor,
    t: Tensor,
    noise: Tensor,
) -> Tensor:
    """Returns the mean squared error of the prediction at x_t, a scalar (Ho et al. 2020, eq. 14).

    Args:
        denoise: (x_t, t) -> model_output, conditions closed over.
        schedule: the forward process.
        prediction_type: what the output means, see `predictions`.
        x_start: (B, ...), clean data.
        t: (B,) int64.
        noise: (B, ...), standard normal.
    """
    target = training_target(schedule, prediction_type, x_start, t, noise)
    model_output = denoise(q_sample(schedule, x_start, t, noise), t)
    assert model_output.shape == target.shape, (model_output.shape, target.shape)
    return F.mse_loss(model_output.float(), target.float())


def draw_timesteps(batch_size: int, num_timesteps: int, generator: torch.Generator) -> Tensor:
    """Returns t, (batch_size,) int64 in 0..T-1, each uniform, together spread evenly.

    One shared offset and equal spacing, so that every batch sees the whole range of noise
    (Kingma et al. 2021, "Variational Diffusion Models", appendix I.1).
    """
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    spread = (offset + torch.arange(batch_size, dtype=torch.float64) / batch_size) % 1.0
    return (spread * num_timesteps).long()
