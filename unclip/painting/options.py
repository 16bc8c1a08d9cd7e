"""How to paint where nothing else is said: as the recipe of the checkpoints does.

The command line and `unclip.api` share it. Nothing here imports torch, and params are imported
late: their models take a tenth of a second, for which help, that shows the numbers below, need not
wait.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclip.config.errors import UserError
from unclip.config.layout import Layout

if TYPE_CHECKING:
    from unclip.params.sections import Recipe, SampleParams

REPOSITORY = Path(__file__).resolve().parents[2]
FRAMES = 9  # of a way between two pictures
EDIT_STRENGTH = 1.0  # the whole difference between what two captions show
TRAJECTORY_STEPS = 32  # enough for a film of it
INVERSION_STEPS = 25  # an inversion goes the way of the sampler, and errs less on a finer one
VARY_ETA = 0.3  # of a variation that starts from the picture's own noise


def recipe_of(folder: Path) -> "Recipe":
    """Returns the recipe of the networks in a folder: the params.yaml beside them, else ours.

    Args:
        folder: with the networks in it or in its folder `models`; that folder itself will do too.

    Raises:
        UserError: it can not be read, or its sample section is not as this version knows it.
    """
    from unclip.params.loading import load_recipe

    places = [folder, *([folder.parent] if folder.name == Layout().models.name else [])]
    beside = [Layout(place).params for place in places if Layout(place).params.is_file()]
    return load_recipe(beside[0] if beside else Layout(REPOSITORY).params)


def sample_params(changes: Mapping[str, Any], recipe: "Recipe") -> "SampleParams":
    """Returns the sample section of a recipe with some values changed, validated as a whole.

    Args:
        changes: options by the key that they stand for; None is an option that was not given.
        recipe: of the networks that paint.

    Raises:
        UserError: a value is out of bounds.
    """
    from unclip.params.loading import changed_sample

    return changed_sample(recipe, _given(changes))


def ddim_changes(changes: Mapping[str, Any], *, invert: bool) -> dict[str, Any]:
    """Returns changes of the sample section that go with noise of a picture's own, or with eta.

    DDIM alone can be run backwards and heeds eta. What is inverted must be painted in the same
    steps, and in float32: bf16 would lose the way back.

    Args:
        changes: as in `sample_params`.
        invert: whether the noise is found by inversion.

    Raises:
        UserError: another sampler is asked for.
    """
    chosen = _given(changes)
    if (invert or "eta" in chosen) and chosen.get("sampler", "ddim") != "ddim":
        raise UserError(
            f"options: sample.sampler: {chosen['sampler']!r} can not be inverted and takes no eta; "
            "expected ddim; leave the sampler out"
        )
    if invert:
        return {"steps": INVERSION_STEPS} | chosen | {"sampler": "ddim", "precision": "fp32"}
    return chosen | ({"sampler": "ddim"} if "eta" in chosen else {})


def vary_changes(changes: Mapping[str, Any], *, invert: bool) -> dict[str, Any]:
    """Returns changes as `ddim_changes` does; from its own noise a picture must be led away."""
    return ddim_changes(({"eta": VARY_ETA} if invert else {}) | _given(changes), invert=invert)


def _given(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in changes.items() if value is not None}
