"""What a network predicts about x_t, and how one prediction becomes another.

With a = alphas_cumprod[t], x_t = sqrt(a)·x_start + sqrt(1 − a)·noise, a network's output means

    "eps"      noise                                    (Ho et al. 2020)
    "x_start"  x_start
    "v"        sqrt(a)·noise − sqrt(1 − a)·x_start      (Salimans & Ho 2022, section 4)

All tensors are (B, ...), all of one shape and on one device; t is (B,) int64 in 0..T−1. No function
here reads a value back from the device, so none makes a GPU wait.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from unclip.diffusion.schedules import NoiseSchedule

PREDICTION_TYPES = ("eps", "x_start", "v")

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> model_output
Predict = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> pred_x_start


def q_sample(schedule: NoiseSchedule, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Returns x_t, the data noised to timestep t (Ho et al. 2020, eq. 4), (B, ...)."""
    _check_shapes(x_start, noise, t)
    alpha, sigma = _alpha_sigma(schedule, x_start, t)
    return alpha * x_start + sigma * noise


def training_target(
    schedule: NoiseSchedule, prediction_type: str, x_start: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    """Returns what a network of this prediction type should answer to x_t, (B, ...).

    Raises:
        ValueError: `prediction_type` is not known.
    """
    _check_shapes(x_start, noise, t)
    match prediction_type:
        case "eps":
            return noise
        case "x_start":
            return x_start
        case "v":
            alpha, sigma = _alpha_sigma(schedule, x_start, t)
            return alpha * noise - sigma * x_start
        case _:
            raise _unknown(prediction_type)


def to_x_start(
    schedule: NoiseSchedule, prediction_type: str, model_output: Tensor, x_t: Tensor, t: Tensor
) -> Tensor:
    """Returns pred_x_start, (B, ...).

    From "eps" it divides by sqrt(a), so near t = T − 1 it magnifies the network's error and the
    rounding; it stays finite even where a is 0 and x_t says nothing of x_start.

    Raises:
        ValueError: `prediction_type` is not known.
    """
    _check_shapes(model_output, x_t, t)
    match prediction_type:
        case "eps":
            alpha, sigma = _alpha_sigma(schedule, x_t, t)
            return (x_t - sigma * model_output) / _divisor(alpha)
        case "x_start":
            return model_output
        case "v":
            alpha, sigma = _alpha_sigma(schedule, x_t, t)
            return alpha * x_t - sigma * model_output
        case _:
            raise _unknown(prediction_type)


def _alpha_sigma(schedule: NoiseSchedule, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Returns sqrt(a) and sqrt(1 − a) at t in x's dtype, each (B, 1, ..., 1)."""
    alpha, sigma = _tables(schedule, x.device, x.dtype)
    shape = (-1,) + (1,) * (x.ndim - 1)
    return alpha[t].view(shape), sigma[t].view(shape)


@lru_cache(maxsize=16)  # one entry a schedule, device and dtype: copied once, gathered ever after
def _tables(
    schedule: NoiseSchedule, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    # Cast before the move: not every device has float64.
    a = schedule.alphas_cumprod
    return a.sqrt().to(dtype).to(device), (1 - a).sqrt().to(dtype).to(device)


def _divisor(scale: Tensor) -> Tensor:
    """Returns the scale kept so far above 0 that a quotient of ordinary numbers is finite."""
    return scale.clamp(min=torch.finfo(scale.dtype).tiny ** 0.5)


def _check_shapes(x: Tensor, other: Tensor, t: Tensor) -> None:
    assert x.shape == other.shape, f"shapes differ: {tuple(x.shape)}, {tuple(other.shape)}"
    assert t.shape == x.shape[:1], f"t {tuple(t.shape)} is not one for each of {tuple(x.shape)}"


def _unknown(prediction_type: str) -> ValueError:
    return ValueError(
        f"prediction_type: {prediction_type!r} is unknown; expected one of {PREDICTION_TYPES}"
    )
