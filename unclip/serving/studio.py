"""What the page can ask for: pictures of prompts, variations, ways between two, and from noise."""

import base64
import binascii
import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from unclip.config.errors import UserError
from unclip.config.strict import Strict, checked
from unclip.core.device import Machine
from unclip.data.tokenizer import tokenize
from unclip.painting.latents import (
    interpolated,
    latent_of,
    latent_of_prompt,
    paint_each,
    paint_moments,
    shares,
    varied,
)
from unclip.painting.notes import (
    Pictures,
    call_note,
    evenly,
    latent_note,
    paint_rows,
    picture_notes,
    provenance,
)
from unclip.painting.options import FRAMES, ddim_changes, vary_changes
from unclip.painting.painter import Latent
from unclip.painting.system import Settings, System
from unclip.params.sections import Count, Guidance, SampleParams, Seed
from unclip.pictures.files import read_picture
from unclip.serving.service import as_base64

MOST_PICTURES = 16  # of a request; nobody at a page waits for more
MOST_STEPS = 250
MOST_SEED = 2**53 - 1  # on the page: a browser rounds larger whole numbers
MOMENTS = 10  # of the reverse diffusion

Steps = Annotated[Count, Field(le=MOST_STEPS)]
Few = Annotated[int, Field(ge=1, le=MOST_PICTURES)]
Way = Annotated[int, Field(ge=3, le=MOST_PICTURES)]
Shown = list[dict[str, str]]  # of each picture its `png` in base64 and its `caption`


class Paint(Strict):
    """Pictures of a prompt."""

    prompt: str
    num: Few
    seed: Seed
    guidance: Guidance
    steps: Steps


class Vary(Strict):
    """Pictures that show what a picture shows; `own_noise` keeps how it is laid out."""

    picture: str
    num: Few
    seed: Seed
    guidance: Guidance
    steps: Steps
    own_noise: bool


class End(Strict):
    """One end of a way: a prompt, or a picture file in base64."""

    prompt: str | None = None
    picture: str | None = None


class Interpolate(Strict):
    """The way from one picture or prompt to another."""

    start: End
    end: End
    frames: Way = FRAMES
    seed: Seed
    guidance: Guidance
    steps: Steps
    own_noise: bool


class Trajectory(Strict):
    """The way from noise to a picture of a prompt."""

    prompt: str
    seed: Seed
    guidance: Guidance
    steps: Steps


Request = TypeVar("Request", Paint, Vary, Interpolate, Trajectory)


class Studio:
    """A system that paints for a page, one request after another.

    Args:
        system: the networks.
        sample: how it paints, where a request does not say.
        machine: where it computes.
    """

    def __init__(self, system: System, sample: SampleParams, machine: Machine) -> None:
        self.system, self.sample, self.machine = system, sample, machine
        self._painting = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """Returns what the page has to know: prompts, bounds, and the recipe's own values."""
        return {
            "prompts": self.system.prompts,
            "words": sorted(self.system.words),
            "checkpoints": self.system.hashes,
            "most_pictures": MOST_PICTURES,
            "most_steps": min(MOST_STEPS, self.system.decoder_diffusion.num_timesteps),
            "most_guidance": Paint.model_json_schema()["properties"]["guidance"]["maximum"],
            "most_seed": MOST_SEED,
            "seed": str(self.sample.seed),  # may be more than that, and is shown as it is
            "guidance": self.sample.guidance,
            "steps": self.sample.steps,
        }

    def paint(self, raw: Any) -> Shown:
        """Returns the pictures that a `Paint` asks for.

        Raises:
            UserError: a value is missing, unknown or out of bounds, or the prompt can not be read.
        """
        asked = _read(Paint, raw)
        tokenize([asked.prompt], self.system.text_length)
        how = self._settings({"guidance": asked.guidance, "steps": asked.steps})
        seeds = range(asked.seed, asked.seed + asked.num)
        with self._at_work():
            (row,) = paint_rows(self.system, [asked.prompt], seeds, how)
        note = provenance(self.system, how, self.machine.precision)
        note |= call_note([asked.prompt], seeds, how.batch_size)
        (notes,) = picture_notes(note, [asked.prompt], seeds)
        return [
            _show(picture, f"seed {seed}", own)
            for picture, seed, own in zip(row, seeds, notes, strict=True)
        ]

    def vary(self, raw: Any) -> Shown:
        """Returns the pictures that a `Vary` asks for (unCLIP §3.1).

        Raises:
            UserError: as `paint`, or the picture can not be read.
        """
        asked = _read(Vary, raw)
        how = self._settings(self._chosen(asked, vary_changes))
        picture = self._picture(asked.picture)
        with self._at_work(exactly=asked.own_noise):
            latent = self._latent(picture, asked.seed, how, asked.own_noise)
            latents = varied(latent, asked.num)
            painted = paint_each(self.system, latents, how.decoder)
        captions = [f"seed {latent.seed}" for latent in latents]
        return self._shown(painted, latents, captions, how, exactly=asked.own_noise)

    def interpolate(self, raw: Any) -> Shown:
        """Returns the pictures that an `Interpolate` asks for (unCLIP §3.2).

        Raises:
            UserError: as `vary`, or an end is neither a prompt nor a picture.
        """
        asked = _read(Interpolate, raw)
        how = self._settings(self._chosen(asked, ddim_changes))
        ends = [self._end(name, end) for name, end in (("start", asked.start), ("end", asked.end))]
        with self._at_work(exactly=asked.own_noise):
            first, last = (self._latent(end, asked.seed, how, asked.own_noise) for end in ends)
            latents = interpolated(
                self.system, first, last, asked.frames, slerp_noise=asked.own_noise
            )
            painted = paint_each(self.system, latents, how.decoder)
        captions = [f"{share:.0%}" for share in shares(asked.frames)]
        return self._shown(painted, latents, captions, how, exactly=asked.own_noise)

    def trajectory(self, raw: Any) -> Shown:
        """Returns moments of the reverse diffusion that a `Trajectory` asks for, noise first.

        Raises:
            UserError: as `paint`.
        """
        asked = _read(Trajectory, raw)
        tokenize([asked.prompt], self.system.text_length)
        how = self._settings({"guidance": asked.guidance, "steps": asked.steps})
        with self._at_work():
            latent = latent_of_prompt(self.system, asked.prompt, asked.seed, how)
            moments, timesteps = paint_moments(self.system, latent, how.decoder)
        note = latent_note(self.system, latent, how.decoder, self.machine.precision)
        rows = evenly(len(moments), MOMENTS)
        # Only the last is a picture that can be painted again; the others are on their way to it.
        notes: list[dict[str, str]] = [{} for _ in rows[:-1]] + [note | {"prompt": asked.prompt}]
        return [
            _show(moments[row], f"t = {timesteps[row]}", text)
            for row, text in zip(rows, notes, strict=True)
        ]

    def _settings(self, changes: Mapping[str, Any]) -> Settings:
        return Settings.of(checked(SampleParams, self.sample.model_dump() | dict(changes)))

    def _chosen(
        self, asked: Vary | Interpolate, changes_of: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        """Returns changes of the sample section; noise of its own has steps and guidance too."""
        if asked.own_noise:
            changes = changes_of({}, invert=True)
            most = self.system.decoder_diffusion.num_timesteps
            return changes | {"steps": min(changes["steps"], most)}
        return {"guidance": asked.guidance, "steps": asked.steps}

    @contextlib.contextmanager
    def _at_work(self, *, exactly: bool = False) -> Iterator[None]:
        """Keeps others waiting; `exactly` computes in float32 whatever the machine prefers."""
        how = contextlib.nullcontext() if exactly else self.machine.accelerator.autocast()
        with self._painting, how:
            yield

    def _latent(self, end: Pictures | str, seed: int, how: Settings, own_noise: bool) -> Latent:
        if isinstance(end, str):
            return latent_of_prompt(self.system, end, seed, how)
        return latent_of(self.system, end, seed, how.decoder if own_noise else None)

    def _end(self, name: str, end: End) -> Pictures | str:
        if (end.prompt is None) == (end.picture is None):
            raise UserError(f"{name}: expected either a prompt or a picture; give one of them")
        if end.prompt is not None:
            tokenize([end.prompt], self.system.text_length)
            return end.prompt
        return self._picture(end.picture or "")

    def _picture(self, data: str) -> Pictures:
        """Returns a picture file in base64 as the networks take it, (C, H, W) uint8."""
        try:
            content = base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error):
            raise UserError("picture: is not base64; expected a picture file; send it so") from None
        channels, size, _ = self.system.picture_shape
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "picture")
            path.write_bytes(content)
            try:
                return read_picture(path, size, channels)
            except UserError as error:
                raise UserError(str(error).replace(str(path), "the picture")) from None

    def _shown(
        self,
        painted: Pictures,
        latents: Sequence[Latent],
        captions: Sequence[str],
        how: Settings,
        *,
        exactly: bool,
    ) -> Shown:
        precision = "fp32" if exactly else self.machine.precision
        return [
            _show(picture, caption, latent_note(self.system, latent, how.decoder, precision))
            for picture, latent, caption in zip(painted, latents, captions, strict=True)
        ]


def _read(model: type[Request], raw: Any) -> Request:
    try:
        return checked(model, raw)
    except ValueError as error:
        raise UserError(str(error)) from None


def _show(picture: Pictures, caption: str, note: Mapping[str, str]) -> dict[str, str]:
    return {"png": as_base64(picture, note), "caption": caption}
