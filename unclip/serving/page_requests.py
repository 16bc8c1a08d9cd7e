"""What the page can ask for: pictures of prompts, variations, ways between two, and from noise."""

import base64
import binascii
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from unclip.api import UnCLIP
from unclip.config.errors import UserError
from unclip.config.strict import Strict, checked
from unclip.painting.latents import evenly, shares
from unclip.painting.notes import Note
from unclip.painting.options import FRAMES, INVERSION_STEPS
from unclip.painting.painted import Painted
from unclip.painting.sources import is_prompt
from unclip.painting.system import Pictures
from unclip.params.sections import Count, Guidance, Seed
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


class PaintRequest(Strict):
    """Pictures of a prompt."""

    prompt: str
    num: Few
    seed: Seed
    guidance: Guidance
    steps: Steps


class VaryRequest(Strict):
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


class InterpolateRequest(Strict):
    """The way from one picture or prompt to another."""

    start: End
    end: End
    frames: Way = FRAMES
    seed: Seed
    guidance: Guidance
    steps: Steps
    own_noise: bool


class TrajectoryRequest(Strict):
    """The way from noise to a picture of a prompt."""

    prompt: str
    seed: Seed
    guidance: Guidance
    steps: Steps


Request = TypeVar("Request", PaintRequest, VaryRequest, InterpolateRequest, TrajectoryRequest)


class PageRequests:
    """Answers what the page asks for, one request after another.

    Args:
        unclip: paints.
    """

    def __init__(self, unclip: UnCLIP) -> None:
        self.unclip = unclip
        self._painting = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """Returns what the page has to know: prompts, bounds, and the default values."""
        system, sample = self.unclip.system, self.unclip.defaults.sample
        return {
            "prompts": system.prompts,
            "words": sorted(system.words),
            "checkpoints": system.hashes,
            "most_pictures": MOST_PICTURES,
            "most_steps": min(MOST_STEPS, system.decoder_diffusion.num_timesteps),
            "most_guidance": PaintRequest.model_json_schema()["properties"]["guidance"]["maximum"],
            "most_seed": MOST_SEED,
            "seed": str(sample.seed),  # may be more than that, and is shown as it is
            "guidance": sample.guidance,
            "steps": sample.steps,
        }

    def paint(self, raw: Any) -> Shown:
        """Returns the pictures that a `PaintRequest` asks for.

        Raises:
            UserError: a value is missing, unknown or out of bounds, or the prompt cannot be read.
        """
        asked = _read(PaintRequest, raw)
        with self._painting:
            painted = self.unclip.sample(
                asked.prompt, asked.num, asked.seed, guidance=asked.guidance, steps=asked.steps
            )
        return _with_seeds(painted)

    def vary(self, raw: Any) -> Shown:
        """Returns the pictures that a `VaryRequest` asks for (unCLIP §3.1).

        Raises:
            UserError: as `paint`, or the picture cannot be read.
        """
        asked = _read(VaryRequest, raw)
        picture = self._picture(asked.picture)
        with self._painting:
            painted = self.unclip.vary(
                picture, asked.num, asked.seed, invert=asked.own_noise, **self._options(asked)
            )
        return _with_seeds(painted)

    def interpolate(self, raw: Any) -> Shown:
        """Returns the pictures that an `InterpolateRequest` asks for (unCLIP §3.2).

        Raises:
            UserError: as `vary`, or an end is neither a prompt nor a picture.
        """
        asked = _read(InterpolateRequest, raw)
        start, end = self._end("start", asked.start), self._end("end", asked.end)
        invert = asked.own_noise and not (isinstance(start, str) and isinstance(end, str))
        with self._painting:
            painted = self.unclip.interpolate(
                start, end, asked.frames, asked.seed, invert=invert, **self._options(asked)
            )
        captions = [f"{share:.0%}" for share in shares(asked.frames)]
        return [
            _show(picture, caption, note)
            for (picture, note), caption in zip(painted, captions, strict=True)
        ]

    def trajectory(self, raw: Any) -> Shown:
        """Returns the moments of reverse diffusion a `TrajectoryRequest` asks for, noise first.

        Raises:
            UserError: as `paint`.
        """
        asked = _read(TrajectoryRequest, raw)
        with self._painting:
            way = self.unclip.trajectory(
                asked.prompt, asked.seed, asked.steps, guidance=asked.guidance
            )
        (moments,), (note,) = way.moments, way.painted.notes
        rows = evenly(len(moments), MOMENTS)
        # Only the last is a picture that can be painted again; the others are on their way to it.
        notes: list[Note] = [{} for _ in rows[:-1]] + [note]
        return [
            _show(moments[row], f"t = {way.timesteps[row]}", text)
            for row, text in zip(rows, notes, strict=True)
        ]

    def _options(self, asked: VaryRequest | InterpolateRequest) -> dict[str, Any]:
        """Returns options of the sample section; noise of its own has steps and guidance too."""
        if asked.own_noise:
            most = self.unclip.system.decoder_diffusion.num_timesteps
            return {"steps": min(INVERSION_STEPS, most)}
        return {"guidance": asked.guidance, "steps": asked.steps}

    def _end(self, name: str, end: End) -> Pictures | str:
        if (end.prompt is None) == (end.picture is None):
            raise UserError(f"{name}: expected either a prompt or a picture; give one of them")
        if end.prompt is None:
            return self._picture(end.picture or "")
        if not is_prompt(end.prompt):  # whoever reaches the page must not read this machine's files
            raise UserError(f"{name}: {end.prompt!r} names a file; expected a prompt; change it")
        return end.prompt

    def _picture(self, data: str) -> Pictures:
        """Returns a picture file in base64 as the networks take it, (C, H, W) uint8."""
        try:
            content = base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error):
            raise UserError("picture: is not base64; expected a picture file; send it so") from None
        channels, size, _ = self.unclip.system.picture_shape
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "picture")
            path.write_bytes(content)
            try:
                return read_picture(path, size, channels)
            except UserError as error:
                raise UserError(str(error).replace(str(path), "the picture")) from None


def _read(model: type[Request], raw: Any) -> Request:
    try:
        return checked(model, raw)
    except ValueError as error:
        raise UserError(str(error)) from None


def _with_seeds(painted: Painted) -> Shown:
    return [_show(picture, f"seed {note['seed']}", note) for picture, note in painted]


def _show(picture: Pictures, caption: str, note: Note) -> dict[str, str]:
    return {"png": as_base64(picture, note), "caption": caption}
