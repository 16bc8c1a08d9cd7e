"""How to paint where a call does not say: as the params.yaml beside the checkpoints does.

Nothing here imports torch, and params are imported late: `--help` shows the numbers below and is
not to wait for them.
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
EDIT_STRENGTH = 1.0  # the whole difference between what two captions show
TRAJECTORY_STEPS = 32  # enough for a film of it
INVERSION_STEPS = 25  # an inversion goes the way of the sampler, and errs less on a finer one
VARY_ETA = 0.3  # of a variation that starts from the picture's own noise


def painting_params_of(folder: Path) -> "PaintingParams":
    """Returns what the params.yaml beside the networks in a folder says of painting, else ours.

    Args:
        folder: with the networks in it or in its folder `models`; that folder itself will do too.

    Raises:
        UserError: it cannot be read, or its sample section is not as this version knows it.
    """
    from unclip.params.loading import load_painting_params

    places = [folder, *([folder.parent] if folder.name == Layout().models.name else [])]
    beside = [Layout(place).params for place in places if Layout(place).params.is_file()]
    return load_painting_params(beside[0] if beside else Layout(REPOSITORY).params)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that were given: those that are not None."""
    return {key: value for key, value in options.items() if value is not None}


def ddim_options(options: Mapping[str, Any], *, invert: bool) -> dict[str, Any]:
    """Returns options of the sample section that go with noise of a picture's own, or with eta.

    DDIM alone can be run backwards and uses eta. What is inverted must be painted in the same
    steps, and in float32: bf16 would lose the way back.

    Args:
        options: by the keys of the sample section; None is an option that was not given.
        invert: whether the noise is found by inversion.

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
