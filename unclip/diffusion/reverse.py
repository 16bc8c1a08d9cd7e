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


@dataclass(frozen=True)
class Solver:
    """How a reverse diffusion is run.

    Attributes:
        sampler: a key of SAMPLERS.
        steps: how many timesteps are visited.
        eta: share of ancestral noise; used by ddim.
        guidance: the guidance scale; 1 is off.
        spacing: which timesteps are visited; see `Diffusion.levels`.
    """

    sampler: str
    steps: int
    eta: float
    guidance: float
    spacing: str = "uniform"


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
) -> Iterator[Step]:
    """Yields the steps from noise to B samples; `final` returns the samples.

    Sample i is drawn only from generator i: its noise never depends on the batch it is painted in
    (as in NVlabs EDM's StackedRandomGenerator).

    Args:
        model: (x_t, t, drop_mask=…, **conditions) -> model_output.
        conditions: the model's conditions, each (B, ...), on the device.
        generators: B CPU generators; each draws the first noise and all later noise of a sample.
        shape: the shape of one sample.
        diffusion: the process that the model was trained with.
        solver: how to run it.
        device: where to compute.
        x_start_range: see `predict_x_start`; None for embeddings.
        x_T: (B, *shape) noise to start from, on the device; None draws it from the generators.
    """

    def draw_noise() -> Tensor:
        return torch.stack([torch.randn(shape, generator=g) for g in generators])

    # Drawn even if x_T replaces it, so that no later noise equals the start of another picture.
    first = draw_noise().to(device)
    yield from SAMPLERS[solver.sampler](
        _predict(model, conditions, diffusion, solver, x_start_range),
        first if x_T is None else x_T,
        diffusion.levels(solver.steps, solver.spacing),
        eta=solver.eta,
        draw_noise=lambda x_t: draw_noise().to(x_t),
    )


def final(steps: Iterable[Step]) -> Tensor:
    """Returns the result of a reverse diffusion, (B, ...): its last pred_x_start."""
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

    It does so exactly for ddim with eta 0. Arguments are those of `reverse_diffusion`, with x_start
    (B, ...), and the evaluations of the model in each step from `invert_ddim`.
    """
    return invert_ddim(
        _predict(model, conditions, diffusion, solver, x_start_range),
        x_start,
        diffusion.levels(solver.steps, solver.spacing),
        evaluations=evaluations,
    )


def _predict(
    model: Model,
    conditions: Mapping[str, Tensor],
    diffusion: Diffusion,
    solver: Solver,
    x_start_range: tuple[Tensor, Tensor] | None,
) -> Predict:
    denoise = guided(model, dict(conditions), solver.guidance)
    return predict_x_start(denoise, diffusion, x_start_range)
