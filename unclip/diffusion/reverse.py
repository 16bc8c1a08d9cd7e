"""From generators and conditions to samples: the one reverse diffusion of prior and decoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from unclip.core.seeding import randn_per_sample
from unclip.diffusion.guidance import Model, guided, predict_x_start
from unclip.diffusion.inversion import invert_ddim
from unclip.diffusion.predictions import Predict
from unclip.diffusion.samplers import SAMPLERS, Callback
from unclip.diffusion.schedules import NoiseSchedule, make_schedule, sampling_timesteps


@dataclass(frozen=True)
class Diffusion:
    """The forward process that a network was trained with; stored beside its weights.

    Attributes:
        num_timesteps: T.
        schedule: name of the noise schedule.
        schedule_offset: of the cosine schedule.
        prediction_type: what the network predicts.
    """

    num_timesteps: int
    schedule: str
    schedule_offset: float
    prediction_type: str

    @classmethod
    def of(cls, params: Any) -> "Diffusion":
        """Returns the forward process that a section of params.yaml describes."""
        return cls(
            params.num_timesteps, params.schedule, params.schedule_offset, params.prediction_type
        )

    @cached_property
    def noise_schedule(self) -> NoiseSchedule:
        """The betas."""
        return make_schedule(self.schedule, self.num_timesteps, self.schedule_offset)


@dataclass(frozen=True)
class Solver:
    """How a reverse diffusion is run.

    Attributes:
        sampler: a key of SAMPLERS.
        steps: how many of the timesteps are visited.
        eta: share of ancestral noise; heeded by ddim.
        guidance: guidance_scale; 1 is off.
    """

    sampler: str
    steps: int
    eta: float
    guidance: float


def droppable(unet: nn.Module) -> Model:
    """Returns a UNet as a Model: the unconditional branch drops the caption with the embedding.

    A condition `text_drop_mask` drops captions in both branches.
    """

    def denoise(x_t: Tensor, t: Tensor, /, *, drop_mask: Tensor, **conditions: Tensor) -> Tensor:
        output: Tensor = unet(
            x_t, t, drop_mask=drop_mask, **{"text_drop_mask": drop_mask} | conditions
        )
        return output

    return denoise


@torch.inference_mode()
def reverse_diffusion(
    model: Model,
    conditions: Mapping[str, Tensor],
    generators: list[torch.Generator],
    shape: tuple[int, ...],
    diffusion: Diffusion,
    solver: Solver,
    *,
    device: torch.device | str = "cpu",
    x_start_range: tuple[Tensor, Tensor] | None = None,
    x_T: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Returns samples (B, *shape) float32 on the device, sample i drawn from generator i alone.

    Args:
        model: (x_t, t, drop_mask=…, **conditions) -> model_output.
        conditions: what the model is given, each (B, ...), on the device.
        generators: B CPU generators; each gives the first noise and all later noise of a sample.
        shape: of one sample.
        diffusion: the forward process the model was trained with.
        solver: how to go back.
        device: where to compute.
        x_start_range: the predicted x_start is clipped to it; None for embeddings.
        x_T: (B, *shape) noise to start from, on the device; None starts from the generators'.
        callback: see `samplers.Sampler`.
    """

    def draw_noise(x_t: Tensor) -> Tensor:
        return randn_per_sample(shape, generators).to(x_t)

    # Drawn even where it is not used, so that no later noise is what a picture may start from.
    first = randn_per_sample(shape, generators).to(device)
    return SAMPLERS[solver.sampler](
        _predict(model, conditions, diffusion, solver.guidance, x_start_range),
        first if x_T is None else x_T,
        diffusion.noise_schedule,
        sampling_timesteps(diffusion.num_timesteps, solver.steps),
        eta=solver.eta,
        draw_noise=draw_noise,
        callback=callback,
    )


@torch.inference_mode()
def inverse_diffusion(
    model: Model,
    conditions: Mapping[str, Tensor],
    x_start: Tensor,
    diffusion: Diffusion,
    solver: Solver,
    *,
    x_start_range: tuple[Tensor, Tensor] | None = None,
    evaluations: int,
) -> Tensor:
    """Returns the noise x_T, (B, ...), from which `reverse_diffusion` makes x_start again.

    Args:
        model: as in `reverse_diffusion`, like the next and those not named here.
        conditions: what the model is given, each (B, ...).
        x_start: (B, ...) data.
        diffusion: the forward process the model was trained with.
        solver: how it will be gone back: by ddim with eta 0 to be exact.
        x_start_range: the predicted x_start is clipped to it.
        evaluations: of the model a step (see `inversion.invert_ddim`).
    """
    return invert_ddim(
        _predict(model, conditions, diffusion, solver.guidance, x_start_range),
        x_start,
        diffusion.noise_schedule,
        sampling_timesteps(diffusion.num_timesteps, solver.steps),
        evaluations=evaluations,
    )


def _predict(
    model: Model,
    conditions: Mapping[str, Tensor],
    diffusion: Diffusion,
    guidance: float,
    x_start_range: tuple[Tensor, Tensor] | None,
) -> Predict:
    """Returns `predict(x_t, t)` of a model under guidance; arguments as in `reverse_diffusion`."""
    return predict_x_start(
        guided(model, dict(conditions), guidance),
        diffusion.noise_schedule,
        diffusion.prediction_type,
        x_start_range,
    )
