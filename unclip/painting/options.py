"""Defaults of painting: constants, and the params.yaml beside the checkpoints.

Imports neither torch nor, at module level, params: `--help` shows these constants and is instant.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclip.config.errors import UserError
from unclip.config.layout import Layout
from unclip.config.settings import REPOSITORY

if TYPE_CHECKING:
    from unclip.params.sections import PaintingParams

FRAMES = 9  # of a way between two pictures
EDIT_STRENGTH = 1.0  # the whole difference between two captions
TRAJECTORY_STEPS = 32  # enough for a film
INVERSION_STEPS = 25  # more steps, smaller error of the inversion
VARY_ETA = 0.3  # of a variation that starts from the picture's own noise


def painting_params_of(folder: Path) -> "PaintingParams":
    """Returns what painting reads of the params.yaml beside the networks, else of ours.

    The networks are in the folder, or in its folder `models`, which may also be named itself.

    Raises:
        UserError: it cannot be read, or this version does not know its sample section.
    """
    from unclip.params.loading import load_painting_params

    places = [folder, *([folder.parent] if folder.name == Layout().models.name else [])]
    beside = [Layout(place).params for place in places if Layout(place).params.is_file()]
    return load_painting_params(beside[0] if beside else Layout(REPOSITORY).params)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that are not None."""
    return {key: value for key, value in options.items() if value is not None}


def ddim_options(options: Mapping[str, Any], *, invert: bool) -> dict[str, Any]:
    """Returns the given options of the sample section, completed for an inversion or for eta.

    Only DDIM can be run backwards, and only DDIM uses eta. An inverted picture must be painted in
    the same steps, and in float32: bf16 would lose the way back.

    Raises:
        UserError: another sampler is asked for.
    """
    chosen = given(options)
    if (invert or "eta" in chosen) and chosen.get("sampler", "ddim") != "ddim":
        raise UserError(
            f"options: sample.sampler: {chosen['sampler']!r} cannot be inverted and takes no eta; "
            "expected ddim; leave the sampler out"
        )
    if invert:
        return {"steps": INVERSION_STEPS} | chosen | {"sampler": "ddim", "precision": "fp32"}
    return chosen | ({"sampler": "ddim"} if "eta" in chosen else {})
