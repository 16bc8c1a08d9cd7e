"""The diffusion process of a network: how x_t is made, what the network predicts, and the loss.

With x_t = alpha·x_start + sigma·noise, a network's output means

    "eps"      noise                                 (Ho et al. 2020)
    "x_start"  x_start
    "v"        alpha·noise − sigma·x_start           (Salimans & Ho 2022, section 4)
    "flow"     noise − x_start                       (Lipman et al. 2023; Liu et al. 2023)

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

from unclip.diffusion.schedules import (
    NoiseLevel,
    alpha_and_sigma,
    karras_timesteps,
    sampling_timesteps,
)

PREDICTION_TYPES = ("flow", "v", "x_start", "eps")
TIMESTEP_DENSITIES = ("uniform", "logit_normal")

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> model_output


@dataclass(frozen=True)
class Diffusion:
    """The forward process that a network is trained with; stored with its weights.

    Attributes:
        num_timesteps: T.
        schedule: see `alpha_and_sigma`.
        schedule_offset: see `make_betas`.
        prediction_type: what the network predicts, one of PREDICTION_TYPES.
        timestep_density: how training draws timesteps, one of TIMESTEP_DENSITIES.

    Raises:
        ValueError: the prediction type or the density is unknown.
    """

    num_timesteps: int
    schedule: str
    schedule_offset: float
    prediction_type: str
    timestep_density: str = "uniform"  # a checkpoint from before it was stored

    def __post_init__(self) -> None:
        for name, known in (
            ("prediction_type", PREDICTION_TYPES),
            ("timestep_density", TIMESTEP_DENSITIES),
        ):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name}: {value!r} is not one of {known}")

    @classmethod
    def of(cls, params: Any) -> "Diffusion":
        """Returns the process that a section of params.yaml describes."""
        return cls(**{field.name: getattr(params, field.name) for field in fields(cls)})

    @cached_property
    def alpha_and_sigma(self) -> tuple[Tensor, Tensor]:
        """Returns the weights of data and noise at each timestep, 2 × (T,) float64."""
        return alpha_and_sigma(self.schedule, self.num_timesteps, self.schedule_offset)

    def levels(self, steps: int, spacing: str = "uniform") -> list[NoiseLevel]:
        """Returns the `steps` levels of noise that a sampler visits, and then the data.

        Args:
            steps: in 1..T.
            spacing: "uniform" in timesteps (see `sampling_timesteps`) or "karras" (see
                `karras_timesteps`).
        """
        alpha, sigma = self.alpha_and_sigma
        timesteps = sampling_timesteps(self.num_timesteps, steps)
        if spacing == "karras":
            timesteps = karras_timesteps(sigma / alpha, steps)
        visited = (each.tolist() for each in (timesteps, alpha[timesteps], sigma[timesteps]))
        return [*map(NoiseLevel, *visited), NoiseLevel(-1, 1.0, 0.0)]

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Returns x_t, (B, ...), the data noised to timestep t (Ho et al. 2020, eq. 4)."""
        _check_shapes(x_start, noise, t)
        alpha, sigma = self._alpha_sigma(x_start, t)
        return alpha * x_start + sigma * noise

    def target(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Returns what the network should predict at x_t, (B, ...)."""
        _check_shapes(x_start, noise, t)
        match self.prediction_type:
            case "eps":
                return noise
            case "x_start":
                return x_start
            case "flow":
                return noise - x_start
        alpha, sigma = self._alpha_sigma(x_start, t)
        return alpha * noise - sigma * x_start

    def to_x_start(self, model_output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Returns pred_x_start, (B, ...).

        For "eps" it divides by alpha, which near t = T − 1 magnifies the network's error and
        rounding. The result is finite even for alpha = 0, where x_t says nothing about x_start.
        """
        _check_shapes(model_output, x_t, t)
        alpha, sigma = self._alpha_sigma(x_t, t)
        match self.prediction_type:
            case "eps":
                tiny = torch.finfo(alpha.dtype).tiny ** 0.5  # quotients of numbers are finite
                return (x_t - sigma * model_output) / alpha.clamp(min=tiny)
            case "x_start":
                return model_output
            case "flow":
                return (x_t - sigma * model_output) / (alpha + sigma)
        return (alpha * x_t - sigma * model_output) / (alpha.square() + sigma.square())

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
        """Returns t, (batch_size,) int64 in 0..T−1, each of the density and all evenly spread.

        A shared random offset and equal spacing of the quantiles give every batch the whole range
        of noise (Kingma et al. 2021, "Variational Diffusion Models", appendix I.1). The density
        "logit_normal" draws the middle most often: logit(t / T) ~ N(0, 1) (Esser et al. 2024,
        "Scaling Rectified Flow Transformers", §3.1).
        """
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        spread = (offset + torch.arange(batch_size, dtype=torch.float64) / batch_size) % 1.0
        if self.timestep_density == "logit_normal":
            spread = torch.special.ndtri(spread).sigmoid()
        return (spread * self.num_timesteps).long().clamp(max=self.num_timesteps - 1)

    def _alpha_sigma(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns alpha and sigma at t in x's dtype, each (B, 1, ..., 1)."""
        alpha, sigma = _tables(self, x.device, x.dtype)
        shape = (-1,) + (1,) * (x.ndim - 1)
        return alpha[t].view(shape), sigma[t].view(shape)


@lru_cache(maxsize=16)  # copied to the device once for each process and dtype
def _tables(
    diffusion: Diffusion, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    # Cast before the move: not every device has float64.
    alpha, sigma = (each.to(dtype).to(device) for each in diffusion.alpha_and_sigma)
    return alpha, sigma


def _check_shapes(x: Tensor, other: Tensor, t: Tensor) -> None:
    assert x.shape == other.shape, f"shapes differ: {tuple(x.shape)}, {tuple(other.shape)}"
    assert t.shape == x.shape[:1], f"t {tuple(t.shape)} is not one for each of {tuple(x.shape)}"
