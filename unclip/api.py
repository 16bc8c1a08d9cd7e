"""The trained system for scripts and notebooks, and for everything else here that paints.

    from unclip.api import UnCLIP

    unclip = UnCLIP.load("models")
    circles = unclip.sample(["a large red circle"], num=4)          # images (1, 4, 3, 32, 32)
    others = unclip.vary(circles.images[0, 0], num=8)               # images (8, 3, 32, 32)
    frames = unclip.edit(circles.images[0, 0], "a large red circle", "a large blue circle")
    frames.save("samples/edited")

The device comes from the machine's settings (UNCLIP_DEVICE).
"""

import tempfile
import warnings
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

    Every verb returns uint8 pictures with the notes that paint them again, and raises UserError if
    a prompt or picture cannot be read, or an option is unknown or out of bounds. A prompt that
    training never showed gets a UserWarning with the nearest captions. Verbs share these arguments:

    - picture: a file, which is brought to the system's size and channels, or an array (C, H, W).
    - num: how many pictures; the seeds count up from `seed`.
    - seed: of the noise, and of what the prior draws.
    - frames: F, at least 2, both ends included.
    - invert: paint a picture from its own noise, found by DDIM inversion.
    - progress: is called with the number of newly painted pictures.
    - **options: keys of the sample section of params.yaml: guidance, steps, sampler,
      prior_guidance, precision and so on.

    Args:
        system: the networks.
        defaults: say how to paint; they come from the params.yaml beside the networks, or else
            from this repository's.
    """

    def __init__(self, system: System, defaults: PaintingParams) -> None:
        self.system, self.defaults = system, defaults

    @classmethod
    def load(cls, folder: str | Path = "models") -> Self:
        """Returns the system in a folder that holds clip, prior and decoder, or holds `models`.

        Raises:
            UserError: a network is missing, damaged, of another kind or does not fit the others, or
                the params.yaml does not say how to paint.
        """
        folder = Path(folder)
        return cls(load_system(models_in(folder), open_device()), painting_params_of(folder))

    @classmethod
    def from_revision(cls, rev: str) -> Self:
        """Returns the system trained by an experiment, commit, branch or tag.

        The current folder must be in the repository; nothing in it changes.

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
        """Returns pictures (R, N, C, H, W): a row for each of R prompts, `num` pictures in it."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        params, settings = self._params({"seed": seed} | options)
        seeds = range(params.seed, params.seed + _count(num, params))
        self._warn(prompts)
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

        With `invert`, `eta` says how far they go from the picture, 0.3 by default: 0 gives the
        picture back, 1 forgets its noise.
        """
        own = {"eta": VARY_ETA} if invert else {}
        chosen = ddim_options(own | given({"seed": seed} | options), invert=invert)
        params, settings = self._params(chosen)
        latent = self._latent(picture, params.seed, settings, invert)
        latents = varied(latent, _count(num, params))
        label = f"like {title_of(picture)}"
        descriptions = [label] * len(latents)
        return self._paint("vary", label, latents, descriptions, settings, progress)

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

        Each end is a picture, or a prompt: a string that names no file. With `invert` the first and
        last frames reproduce the pictures. `noise` "fixed" keeps the noise of the start, "slerp"
        goes from one to the other; by default slerp with `invert`, else fixed.
        """
        require_fit((start, end), noise, invert)
        params, settings = self._params(ddim_options({"seed": seed} | options, invert=invert))
        self._warn([str(each) for each in (start, end) if is_prompt(each)])
        first, last = (self._end(each, params.seed, settings, invert) for each in (start, end))
        slerp_noise = invert if noise is None else noise == "slerp"
        if slerp_noise and not invert:
            last = replace(last, seed=last.seed + 1)  # else both noises are the same
        latents = interpolated(self.system, first, last, frames, slerp_noise=slerp_noise)
        label = f"{title_of(start)} → {title_of(end)}"
        descriptions = [f"{label}, {share:.2f} of the way" for share in shares(frames)]
        return self._paint("interpolate", label, latents, descriptions, settings, progress)

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

        `caption` says what the picture shows, `wanted` what the last frame is to show; `strength`
        is how much of their difference is added to it, 1 is all. The first frame is unedited.
        """
        params, settings = self._params(ddim_options({"seed": seed} | options, invert=invert))
        latent = self._latent(picture, params.seed, settings, invert)
        self._warn([caption, wanted])
        latents = edited(self.system, latent, caption, wanted, strength, frames, settings)
        label = f"{one_line(caption)} → {one_line(wanted)}"
        descriptions = [f"{label}, {strength * share:.2f} of the way" for share in shares(frames)]
        return self._paint("edit", label, latents, descriptions, settings, progress)

    def trajectory(
        self,
        prompts: str | Sequence[str],
        seed: int | None = None,
        steps: int = TRAJECTORY_STEPS,
        *,
        progress: Progress = lambda count: None,
        **options: Any,
    ) -> Trajectory:
        """Returns how pictures of R prompts come out of the same noise, in `steps` steps."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        params, settings = self._params({"seed": seed, "steps": steps} | options)
        self._warn(prompts)
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
        """Returns the sample section with the options of a call, and the settings it gives."""
        params = changed_sample(self.defaults, given(options))
        return params, Settings.of(params, self.system.device)

    def _latent(self, picture: Source, seed: int, settings: Settings, invert: bool) -> Latent:
        read = read_source(picture, self.system)
        return latent_of(self.system, read, seed, settings if invert else None)

    def _end(self, end: Source, seed: int, settings: Settings, invert: bool) -> Latent:
        if is_prompt(end):
            return latent_of_prompt(self.system, str(end), seed, settings)
        return self._latent(end, seed, settings, invert)

    def _warn(self, prompts: Sequence[str]) -> None:
        """Warns the caller of a verb of prompts that training never showed."""
        for line in self.system.warnings(prompts):
            warnings.warn(line, stacklevel=3)

    def _paint(
        self,
        command: str,
        label: str,
        latents: Sequence[Latent],
        descriptions: Sequence[str],
        settings: Settings,
        progress: Progress,
    ) -> Painted:
        images = paint_each(self.system, latents, settings, progress)
        return painted_latents(self.system, command, label, images, latents, settings, descriptions)


def _count(num: int | None, params: SampleParams) -> int:
    if num is not None and num < 1:
        raise UserError(f"num: {num} is not allowed; expected at least 1")
    return params.num_per_prompt if num is None else num
