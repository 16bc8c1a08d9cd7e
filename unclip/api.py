"""The trained system for scripts and notebooks: load, paint, vary, interpolate, edit.

    from unclip.api import UnCLIP

    system = UnCLIP.load("models")
    circles = system.sample(["a large red circle"], num=4)   # (1, 4, 3, 32, 32) uint8
    others = system.vary(circles[0, 0], num=8)               # (8, 3, 32, 32)
    frames = system.edit(circles[0, 0], "a large red circle", "a large blue circle")

Pictures are uint8 arrays, channels first; `figures.grid` and `figures.strip` make sheets of them.
What is not named is as the recipe of the networks has it, as on the command line: the sample
section of the params.yaml beside them, or else of this repository's. Any key of that section can be
named: guidance, steps, sampler, prior_guidance and so on. Everything is computed in float32 (on a
GPU as torch is set to: by default its convolutions use TF32).
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from unclip.config.errors import UserError
from unclip.config.layout import models_in
from unclip.painting.latents import (
    edited,
    interpolated,
    latent_of,
    latent_of_prompt,
    paint_each,
    varied,
)
from unclip.painting.notes import paint_rows
from unclip.painting.options import (
    EDIT_STRENGTH,
    FRAMES,
    REPOSITORY,
    ddim_changes,
    recipe_of,
    sample_params,
    vary_changes,
)
from unclip.painting.painter import Latent
from unclip.painting.system import Settings, System
from unclip.params.sections import Recipe, SampleParams
from unclip.pictures.files import names_picture, read_picture
from unclip.provenance.revisions import fetch_models

Pictures = npt.NDArray[np.uint8]
Source = str | Path | Pictures  # a picture file, or a picture (C, H, W) uint8 of the system's size


class UnCLIP(System):
    """CLIP, prior and decoder, ready to paint; attributes as of `painter.Painter`, and one more.

    Attributes:
        recipe: says how they paint where a call does not; None is this repository's.
    """

    recipe: Recipe | None = None

    @classmethod
    def load(cls, models: str | Path, device: str = "cpu") -> Self:
        """Returns the system in a folder, or in the folder `models` in it.

        Args:
            models: it holds the folders clip, prior and decoder; a params.yaml in it, or beside the
                folder `models`, is their recipe.
            device: "cpu", "cuda" or "mps".

        Raises:
            UserError: a network is missing, damaged, of another kind or does not fit the others, or
                the recipe does not say how to paint.
        """
        system = super().load(models_in(Path(models)), device)
        system.recipe = recipe_of(Path(models))
        return system

    @classmethod
    def from_revision(cls, rev: str, device: str = "cpu") -> Self:
        """Returns the system that an experiment, commit, branch or tag has trained.

        The current folder must be within the repository; nothing in it is changed.

        Raises:
            UserError: as `load`, or its networks are neither in DVC's cache nor in its remote.
        """
        with tempfile.TemporaryDirectory() as folder:
            fetch_models(rev, Path(folder))
            return cls.load(folder, device)

    def sample(
        self,
        prompts: Sequence[str],
        num: int | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Pictures:
        """Returns pictures (R, N, C, H, W) uint8: a row for each prompt, in it `num` pictures.

        Args:
            prompts: R of them; a single string is one.
            num: pictures of each prompt.
            seed: of the first picture of a row; the next ones count up from it.
            **options: keys of the sample section of the recipe.

        Raises:
            UserError: a prompt can not be read, or an option is unknown or out of bounds.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        params = self._params({"num_per_prompt": num, "seed": seed} | options)
        seeds = range(params.seed, params.seed + params.num_per_prompt)
        return paint_rows(self, prompts, seeds, Settings.of(params))

    def vary(
        self,
        picture: Source,
        num: int | None = None,
        seed: int | None = None,
        *,
        invert: bool = False,
        **options: Any,
    ) -> Pictures:
        """Returns pictures (N, C, H, W) uint8 that show what a picture shows (unCLIP §3.1).

        Args:
            picture: a file, brought to the system's size and channels, or an array.
            num: how many.
            seed: of the first; the next ones count up from it.
            invert: paint from the picture's own noise, found by DDIM inversion. Then `eta` says how
                far away it is led, 0.3 by default: 0 gives the picture back, 1 forgets it.
            **options: as in `sample`.

        Raises:
            UserError: the picture can not be read, or as `sample`.
        """
        changes = {"num_per_prompt": num, "seed": seed} | options
        params = self._params(vary_changes(changes, invert=invert))
        settings = Settings.of(params)
        inverted_by = settings.decoder if invert else None
        latent = latent_of(self, self._picture(picture), params.seed, inverted_by)
        return paint_each(self, varied(latent, params.num_per_prompt), settings.decoder)

    def interpolate(
        self,
        start: Source,
        end: Source,
        frames: int = FRAMES,
        seed: int | None = None,
        *,
        invert: bool = False,
        **options: Any,
    ) -> Pictures:
        """Returns pictures (F, C, H, W) uint8 on the way from one to another (unCLIP §3.2).

        Args:
            start: a picture, as in `vary`, or a prompt: a string that names no file.
            end: likewise.
            frames: F, at least 2, with both ends.
            seed: of the noise, and of what the prior draws.
            invert: paint pictures from their own noise, so that the ends are the pictures; the
                noise then goes from one to the other. Else it stays the same.
            **options: as in `sample`.

        Raises:
            UserError: as `vary`.
        """
        params = self._params(ddim_changes({"seed": seed} | options, invert=invert))
        settings = Settings.of(params)
        first, last = (self._latent(each, params.seed, settings, invert) for each in (start, end))
        latents = interpolated(self, first, last, frames, slerp_noise=invert)
        return paint_each(self, latents, settings.decoder)

    def edit(
        self,
        picture: Source,
        caption: str,
        wanted: str,
        frames: int = FRAMES,
        seed: int | None = None,
        *,
        strength: float = EDIT_STRENGTH,
        invert: bool = False,
        **options: Any,
    ) -> Pictures:
        """Returns pictures (F, C, H, W) uint8 on the way from a picture to its edit (unCLIP §3.3).

        Args:
            picture: as in `vary`.
            caption: what it shows.
            wanted: what it is to show.
            frames: F, at least 2; the first is the picture unedited.
            seed: of the noise.
            strength: how much of the difference of the captions is added to the last; 1 is all.
            invert: paint from the picture's own noise, so that the first is the picture itself.
            **options: as in `sample`.

        Raises:
            UserError: as `vary`, or a caption can not be read.
        """
        params = self._params(ddim_changes({"seed": seed} | options, invert=invert))
        settings = Settings.of(params)
        inverted_by = settings.decoder if invert else None
        latent = latent_of(self, self._picture(picture), params.seed, inverted_by)
        latents = edited(self, latent, caption, wanted, strength, frames, settings)
        return paint_each(self, latents, settings.decoder)

    def _params(self, changes: Mapping[str, Any]) -> SampleParams:
        return sample_params(changes, self.recipe or recipe_of(REPOSITORY))

    def _picture(self, source: Source) -> Pictures:
        """Returns a picture (C, H, W) of the system's size and channels."""
        if isinstance(source, str | Path):
            channels, size, _ = self.picture_shape
            return read_picture(Path(source), size, channels)
        if source.shape != self.picture_shape or source.dtype != np.uint8:
            raise UserError(
                f"picture: is {source.shape} of {source.dtype}; expected {self.picture_shape} of "
                "uint8, channels first; give a file to have it brought to that"
            )
        return source

    def _latent(self, source: Source, seed: int, settings: Settings, invert: bool) -> Latent:
        """Returns the latent of a picture, or that of a prompt."""
        if isinstance(source, str) and not names_picture(source):
            return latent_of_prompt(self, source, seed, settings)
        inverted_by = settings.decoder if invert else None
        return latent_of(self, self._picture(source), seed, inverted_by)
