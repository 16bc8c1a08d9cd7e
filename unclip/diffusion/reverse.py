"""The reverse diffusion of prior and decoder, from generators and conditions to samples."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unclip.diffusion.guidance import Model, guided, predict_x_start
from unclip.diffusion.inversion import invert_ddim
from unclip.diffusion.process import Diffusion
from unclip.diffusion.samplers import SAMPLERS, Predict, Step
from unclip.diffusion.schedules import sampling_timesteps


@dataclass(frozen=True)
class Solver:
    """How a reverse diffusion is run.

    Attributes:
        sampler: a key of SAMPLERS.
        steps: how many of the timesteps are visited.
        eta: share of ancestral noise; used by ddim.
        guidance: guidance_scale; 1 is off.
    """

    sampler: str
    steps: int
    eta: float
    guidance: float


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
) -> Iterator[Step]:
    """Yields the steps from noise to B samples; `final` returns the samples.

    Sample i is drawn from generator i alone: the batch in which a picture is painted never changes
    its noise (as in NVlabs EDM's StackedRandomGenerator).

    Args:
        model: (x_t, t, drop_mask=…, **conditions) -> model_output.
        conditions: what the model is given, each (B, ...), on the device.
        generators: B CPU generators; each gives the first noise and all later noise of a sample.
        shape: of one sample.
        diffusion: the process that the model was trained with.
        solver: how to go back.
        device: where to compute.
        x_start_range: the predicted x_start is clipped to it; None for embeddings.
        x_T: (B, *shape) noise to start from, on the device; None starts from the generators'.
    """

    def draw_noise() -> Tensor:
        return torch.stack([torch.randn(shape, generator=g) for g in generators])

    # Drawn even where it is not used, so that no later noise is what a picture may start from.
    first = draw_noise().to(device)
    steps = SAMPLERS[solver.sampler](
        _predict(model, conditions, diffusion, solver, x_start_range),
        first if x_T is None else x_T,
        diffusion.noise_schedule,
        sampling_timesteps(diffusion.num_timesteps, solver.steps),
        eta=solver.eta,
        draw_noise=lambda x_t: draw_noise().to(x_t),
    )
    return _without_gradients(steps)


@torch.inference_mode()
def _without_gradients(steps: Iterator[Step]) -> Iterator[Step]:
    yield from steps


def final(steps: Iterable[Step]) -> Tensor:
    """Returns what a reverse diffusion ends in: its last pred_x_start, (B, ...)."""
    return deque(steps, maxlen=1).pop().pred_x_start


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
        diffusion: the process that the model was trained with.
        solver: how it will be gone back: by ddim with eta 0 to be exact.
        x_start_range: the predicted x_start is clipped to it.
        evaluations: of the model a step (see `inversion.invert_ddim`).
    """
    return invert_ddim(
        _predict(model, conditions, diffusion, solver, x_start_range),
        x_start,
        diffusion.noise_schedule,
        sampling_timesteps(diffusion.num_timesteps, solver.steps),
        evaluations=evaluations,
    )


def _predict(
    model: Model,
    conditions: Mapping[str, Tensor],
    diffusion: Diffusion,
    solver: Solver,
    x_start_range: tuple[Tensor, Tensor] | None,
) -> Predict:
    """Returns `predict(x_t, t)` of a model under guidance; arguments as in `reverse_diffusion`."""
    return predict_x_start(
        guided(model, dict(conditions), solver.guidance), diffusion, x_start_range
    )
