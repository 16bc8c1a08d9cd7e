"""The trained system for scripts and notebooks, and for everything else here that paints.

    from unclip.api import UnCLIP

    unclip = UnCLIP.load("models")
    circles = unclip.sample(["a large red circle"], num=4)          # images (1, 4, 3, 32, 32)
    others = unclip.vary(circles.images[0, 0], num=8)               # images (8, 3, 32, 32)
    frames = unclip.edit(circles.images[0, 0], "a large red circle", "a large blue circle")
    frames.save("samples/edited")

Every verb returns pictures with the notes that paint them again. Defaults come from the params.yaml
beside the networks, or else from this repository's; `**options` are keys of its sample section:
guidance, steps, sampler, prior_guidance, precision and so on. The device is the machine's
(UNCLIP_DEVICE).
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from unclip.config.errors import UserError
from unclip.config.layout import models_in
from unclip.config.strict import one_line
from unclip.core.device import open_device
from unclip.painting.latents import (
    edited,
    interpolated,
    latent_of,
    latent_of_prompt,
    paint_each,
    paint_moments,
    shares,
    varied,
)
from unclip.painting.loading import load_system
from unclip.painting.notes import call_note, picture_notes
from unclip.painting.options import (
    EDIT_STRENGTH,
    FRAMES,
    TRAJECTORY_STEPS,
    VARY_ETA,
    ddim_options,
    given,
    painting_params_of,
)
from unclip.painting.painted import Painted, Trajectory, painted_latents
from unclip.painting.settings import Latent, Settings
from unclip.painting.sources import Noise, Source, is_prompt, read_source, require_fit, title_of
from unclip.painting.system import Progress, System
from unclip.params.loading import changed_sample
from unclip.params.sections import PaintingParams, SampleParams
from unclip.provenance.revisions import fetch_models


class UnCLIP:
    """CLIP, prior and decoder, ready to paint.

    Every verb takes `progress`, which it calls with the number of pictures that are done anew.

    Args:
        system: the networks.
        recipe: says how they paint where a call does not.
    """

    def __init__(self, system: System, recipe: PaintingParams) -> None:
        self.system, self.defaults = system, recipe

    @classmethod
    def load(cls, folder: str | Path = "models") -> Self:
        """Returns the system in a folder, or in the folder `models` in it.

        Args:
            folder: it holds the folders clip, prior and decoder; defaults come from a params.yaml
                in it, or beside the folder `models`.

        Raises:
            UserError: a network is missing, damaged, of another kind or does not fit the others, or
                the params.yaml does not say how to paint.
        """
        folder = Path(folder)
        return cls(load_system(models_in(folder), open_device()), painting_params_of(folder))

    @classmethod
    def from_revision(cls, rev: str) -> Self:
        """Returns the system that an experiment, commit, branch or tag has trained.

        The current folder must be within the repository; nothing in it is changed.

        Raises:
            UserError: as `load`, or its networks are neither in DVC's cache nor in its remote.
        """
        with tempfile.TemporaryDirectory() as folder:
            fetch_models(rev, Path(folder))
            return cls.load(folder)

    def sample(
        self,
        prompts: str | Sequence[str],
        num: int | None = None,
        seed: int | None = None,
        *,
        progress: Progress = lambda count: None,
        **options: Any,
    ) -> Painted:
        """Returns pictures (R, N, C, H, W): a row for each prompt, in it `num` pictures.

        Args:
            prompts: R of them; a single string is one.
            num: pictures of each prompt.
            seed: of the first picture of a row; the next ones count up from it.
            progress: as of the class.
            **options: keys of the sample section.

        Raises:
            UserError: a prompt cannot be read, or an option is unknown or out of bounds.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        params, settings = self._params({"seed": seed} | options)
        seeds = range(params.seed, params.seed + _count(num, params))
        images = self.system.paint(prompts, seeds, settings, progress)
        call = call_note(self.system, prompts, seeds, settings) | {"command": "sample"}
        return Painted(images, picture_notes(call, prompts, seeds), call)

    def vary(
        self,
        picture: Source,
        num: int | None = None,
        seed: int | None = None,
        *,
        invert: bool = False,
        progress: Progress = lambda count: None,
        **options: Any,
    ) -> Painted:
        """Returns pictures (N, C, H, W) that show what a picture shows (unCLIP §3.1).

        Args:
            picture: a file, brought to the system's size and channels, or an array.
            num: how many.
            seed: of the first; the next ones count up from it.
            invert: paint from the picture's own noise, found by DDIM inversion. Then `eta` says how
                far away it is led, 0.3 by default: 0 gives the picture back, 1 forgets it.
            progress: as of the class.
            **options: as in `sample`.

        Raises:
            UserError: the picture cannot be read, or as `sample`.
        """
        own = {"eta": VARY_ETA} if invert else {}
        params, settings = self._params(
            ddim_options(own | given({"seed": seed} | options), invert=invert)
        )
        latent = self._latent(picture, params.seed, settings, invert)
        latents = varied(latent, _count(num, params))
        label = f"like {title_of(picture)}"
        images = paint_each(self.system, latents, settings, progress)
        return painted_latents(
            self.system, "vary", label, images, latents, settings, [label] * len(latents)
        )

    def interpolate(
        self,
        start: Source,
        end: Source,
        frames: int = FRAMES,
        seed: int | None = None,
        *,
        invert: bool = False,
        noise: Noise | None = None,
        progress: Progress = lambda count: None,
        **options: Any,
    ) -> Painted:
        """Returns pictures (F, C, H, W) on the way from one to another (unCLIP §3.2).

        Args:
            start: a picture, as in `vary`, or a prompt: a string that names no file.
            end: likewise.
            frames: F, at least 2, with both ends.
            seed: of the noise, and of what the prior draws.
            invert: paint pictures from their own noise: the first and last frames reproduce them.
            noise: "fixed" keeps that of the start, "slerp" goes from one to the other; by default
                slerp with `invert`, else fixed.
            progress: as of the class.
            **options: as in `sample`.

        Raises:
            UserError: as `vary`, or the options do not fit together.
        """
        require_fit((start, end), noise, invert)
        params, settings = self._params(ddim_options({"seed": seed} | options, invert=invert))
        first, last = (self._end(each, params.seed, settings, invert) for each in (start, end))
        slerp_noise = invert if noise is None else noise == "slerp"
        if slerp_noise and not invert:
            last = replace(last, seed=last.seed + 1)  # between two equal noises there is no way
        latents = interpolated(self.system, first, last, frames, slerp_noise=slerp_noise)
        images = paint_each(self.system, latents, settings, progress)
        label = f"{title_of(start)} → {title_of(end)}"
        told = [f"{label}, {share:.2f} of the way" for share in shares(frames)]
        return painted_latents(self.system, "interpolate", label, images, latents, settings, told)

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
        progress: Progress = lambda count: None,
        **options: Any,
    ) -> Painted:
        """Returns pictures (F, C, H, W) on the way from a picture to its edit (unCLIP §3.3).

        Args:
            picture: as in `vary`.
            caption: what it shows.
            wanted: what it is to show.
            frames: F, at least 2; the first is the picture unedited.
            seed: of the noise.
            strength: how much of the difference of the captions is added to the last; 1 is all.
            invert: paint from the picture's own noise, so that the first frame reproduces it.
            progress: as of the class.
            **options: as in `sample`.

        Raises:
            UserError: as `vary`, or a caption cannot be read.
        """
        params, settings = self._params(ddim_options({"seed": seed} | options, invert=invert))
        latent = self._latent(picture, params.seed, settings, invert)
        latents = edited(self.system, latent, caption, wanted, strength, frames, settings)
        images = paint_each(self.system, latents, settings, progress)
        label = f"{one_line(caption)} → {one_line(wanted)}"
        told = [f"{label}, {strength * share:.2f} of the way" for share in shares(frames)]
        return painted_latents(self.system, "edit", label, images, latents, settings, told)

    def trajectory(
        self,
        prompts: str | Sequence[str],
        seed: int | None = None,
        steps: int = TRAJECTORY_STEPS,
        *,
        progress: Progress = lambda count: None,
        **options: Any,
    ) -> Trajectory:
        """Returns how prompts come out of noise.

        Args:
            prompts: R of them; a single string is one.
            seed: of the noise, the same for each.
            steps: of the decoder.
            progress: as of the class.
            **options: as in `sample`.

        Raises:
            UserError: as `sample`.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        params, settings = self._params({"seed": seed, "steps": steps} | options)
        rows, latents = [], []
        timesteps: list[int] = []
        for prompt in prompts:
            latents.append(latent_of_prompt(self.system, prompt, params.seed, settings))
            moments, timesteps = paint_moments(self.system, latents[-1], settings)
            rows.append(moments)
            progress(1)
        moments = np.stack(rows)
        label = "from noise to picture"
        painted = painted_latents(
            self.system, "trajectory", label, moments[:, -1], latents, settings, prompts, prompts
        )
        return Trajectory(moments, timesteps, painted)

    def _params(self, options: Mapping[str, Any]) -> tuple[SampleParams, Settings]:
        """Returns the sample section with the options of a call, and how that paints."""
        params = changed_sample(self.defaults, given(options))
        return params, Settings.of(params, self.system.device)

    def _latent(self, picture: Source, seed: int, settings: Settings, invert: bool) -> Latent:
        """Returns the latent of a picture."""
        read = read_source(picture, self.system)
        return latent_of(self.system, read, seed, settings if invert else None)

    def _end(self, end: Source, seed: int, settings: Settings, invert: bool) -> Latent:
        """Returns the latent of a picture, or that of a prompt."""
        if is_prompt(end):
            return latent_of_prompt(self.system, str(end), seed, settings)
        return self._latent(end, seed, settings, invert)


def _count(num: int | None, params: SampleParams) -> int:
    """Returns how many pictures to paint."""
    if num is not None and num < 1:
        raise UserError(f"num: {num} is not allowed; expected at least 1")
    return params.num_per_prompt if num is None else num
