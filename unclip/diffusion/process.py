"""The diffusion process of a network: how x_t is made, what the network predicts, and the loss.

With a = alphas_cumprod[t], x_t = sqrt(a)·x_start + sqrt(1 − a)·noise, a network's output means

    "eps"      noise                                    (Ho et al. 2020)
    "x_start"  x_start
    "v"        sqrt(a)·noise − sqrt(1 − a)·x_start      (Salimans & Ho 2022, section 4)

Tensors are (B, ...), of one shape and on one device; t is (B,) int64 in 0..T−1. Nothing here reads
a value back from the device, so nothing makes a GPU wait.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.diffusion.schedules import make_betas

PREDICTION_TYPES = ("eps", "x_start", "v")

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> model_output


@dataclass(frozen=True)
class Diffusion:
    """The forward process that a network is trained with; stored with its weights.

    Attributes:
        num_timesteps: T.
        schedule: see `make_betas`.
        schedule_offset: see `make_betas`.
        prediction_type: what the network predicts, one of PREDICTION_TYPES.

    Raises:
        ValueError: the prediction type is unknown.
    """

    num_timesteps: int
    schedule: str
    schedule_offset: float
    prediction_type: str

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"prediction_type: {self.prediction_type!r} is not one of {PREDICTION_TYPES}"
            )

    @classmethod
    def of(cls, params: Any) -> "Diffusion":
        """Returns the process that a section of params.yaml describes."""
        return cls(**{field.name: getattr(params, field.name) for field in fields(cls)})

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """(T,) float64: the share of the signal's variance that is left at each timestep."""
        betas = make_betas(self.schedule, self.num_timesteps, self.schedule_offset)
        return torch.cumprod(1 - betas, dim=0)

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Returns x_t, (B, ...), the data noised to timestep t (Ho et al. 2020, eq. 4)."""
        _check_shapes(x_start, noise, t)
        alpha, sigma = self._alpha_sigma(x_start, t)
        return alpha * x_start + sigma * noise

    def target(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Returns what the network should predict at x_t, (B, ...)."""
        _check_shapes(x_start, noise, t)
        if self.prediction_type == "eps":
            return noise
        if self.prediction_type == "x_start":
            return x_start
        alpha, sigma = self._alpha_sigma(x_start, t)
        return alpha * noise - sigma * x_start

    def to_x_start(self, model_output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Returns pred_x_start, (B, ...).

        For "eps" it divides by sqrt(a), which near t = T − 1 magnifies the network's error and
        rounding. The result is finite even for a = 0, where x_t says nothing about x_start.
        """
        _check_shapes(model_output, x_t, t)
        if self.prediction_type == "x_start":
            return model_output
        alpha, sigma = self._alpha_sigma(x_t, t)
        if self.prediction_type == "eps":
            tiny = torch.finfo(alpha.dtype).tiny ** 0.5  # quotients of ordinary numbers are finite
            return (x_t - sigma * model_output) / alpha.clamp(min=tiny)
        return alpha * x_t - sigma * model_output

    def loss(self, denoise: Denoise, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Returns the mean squared error of the prediction at x_t, a scalar (Ho et al., eq. 14).

        Args:
            denoise: (x_t, t) -> model_output, conditions closed over.
            x_start: (B, ...), clean data.
            t: (B,) int64.
            noise: (B, ...), standard normal.
        """
        target = self.target(x_start, t, noise)
        model_output = denoise(self.q_sample(x_start, t, noise), t)
        assert model_output.shape == target.shape, (model_output.shape, target.shape)
        return F.mse_loss(model_output.float(), target.float())

    def draw_timesteps(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Returns t, (batch_size,) int64 in 0..T−1, each uniform and all evenly spaced.

        A shared random offset and equal spacing give every batch the whole range of noise (Kingma
        et al. 2021, "Variational Diffusion Models", appendix I.1).
        """
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        spread = (offset + torch.arange(batch_size, dtype=torch.float64) / batch_size) % 1.0
        return (spread * self.num_timesteps).long()

    def _alpha_sigma(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns sqrt(a) and sqrt(1 − a) at t in x's dtype, each (B, 1, ..., 1)."""
        alpha, sigma = _tables(self, x.device, x.dtype)
        shape = (-1,) + (1,) * (x.ndim - 1)
        return alpha[t].view(shape), sigma[t].view(shape)


@lru_cache(maxsize=16)  # copied to the device once for each process and dtype
def _tables(
    diffusion: Diffusion, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    # Cast before the move: not every device has float64.
    a = diffusion.alphas_cumprod
    return a.sqrt().to(dtype).to(device), (1 - a).sqrt().to(dtype).to(device)


def _check_shapes(x: Tensor, other: Tensor, t: Tensor) -> None:
    assert x.shape == other.shape, f"shapes differ: {tuple(x.shape)}, {tuple(other.shape)}"
    assert t.shape == x.shape[:1], f"t {tuple(t.shape)} is not one for each of {tuple(x.shape)}"
