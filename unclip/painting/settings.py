"""How pictures are painted, and what a picture is painted from."""

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from unclip.config.errors import UserError
from unclip.core.device import resolve_precision
from unclip.diffusion.process import Diffusion
from unclip.diffusion.reverse import Solver


@dataclass(frozen=True)
class Settings:
    """How to paint.

    Attributes:
        prior: how the prior is sampled.
        decoder: how the decoder is sampled.
        prior_candidates: embeddings drawn for each picture; the one with the highest dot product
            with the caption's embedding is painted (unCLIP §2.2 draws two).
        batch_size: pictures at once; changes speed, and pictures by no more than rounding.
        precision: "fp32" or "bf16".
    """

    prior: Solver
    decoder: Solver
    prior_candidates: int
    batch_size: int
    precision: str

    @classmethod
    def of(cls, params: Any, device: str) -> "Settings":
        """Returns the settings of the sample section of params.yaml, on a device."""
        precision = resolve_precision(params.precision, device)
        prior, decoder = solver_of(params, "prior_"), solver_of(params, "")
        return cls(prior, decoder, params.prior_candidates, params.batch_size, precision)


def solver_of(params: Any, prefix: str) -> Solver:
    """Returns the solver that the keys with this prefix describe, of the sample section."""
    return Solver(*(getattr(params, prefix + field.name) for field in fields(Solver)))


@dataclass(frozen=True)
class Latent:
    """All that a decoder paints a picture from (unCLIP §3).

    Attributes:
        image_embed: (D,), unit norm: what the picture shows.
        seed: of its noise.
        x_T: (C, H, W), the noise that it starts from; None: the noise comes from the seed.
    """

    image_embed: Tensor
    seed: int
    x_T: Tensor | None = None


def require_steps(key: str, solver: Solver, diffusion: Diffusion) -> None:
    """Checks that a network has as many timesteps as steps; `key` names the steps in the error.

    Raises:
        UserError: it has fewer; the params may have changed since its training.
    """
    if solver.steps > diffusion.num_timesteps:
        raise UserError(
            f"{key}: {solver.steps} is more than the {diffusion.num_timesteps} timesteps that this "
            "network was trained with; lower it"
        )
