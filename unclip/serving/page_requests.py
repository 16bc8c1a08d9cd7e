"""What the page can ask for: pictures of prompts, variations, ways between two, and from noise."""

import base64
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from unclip.api import UnCLIP
from unclip.config.errors import UserError
from unclip.config.strict import Strict, checked
from unclip.painting.latents import evenly, shares
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

Shown = list[dict[str, str]]  # of each picture its `png` in base64 and its `caption`


class Request(Strict):
    """What every request says."""

    seed: Seed
    guidance: Guidance
    steps: Annotated[Count, Field(le=MOST_STEPS)]


class Paint(Request):
    """Pictures of a prompt."""

    prompt: str
    num: Annotated[int, Field(ge=1, le=MOST_PICTURES)]


class Vary(Request):
    """Pictures that show what a picture shows; `own_noise` keeps its layout."""

    picture: str
    num: Annotated[int, Field(ge=1, le=MOST_PICTURES)]
    own_noise: bool


class End(Strict):
    """One end of a way: a prompt, or a picture file in base64."""

    prompt: str | None = None
    picture: str | None = None


class Interpolate(Request):
    """The way from one picture or prompt to another."""

    start: End
    end: End
    frames: Annotated[int, Field(ge=3, le=MOST_PICTURES)] = FRAMES
    own_noise: bool


class Moments(Request):
    """The way from noise to a picture of a prompt."""

    prompt: str


Asked = TypeVar("Asked", bound=Request)


class PageRequests:
    """Answers requests of the page, one after another.

    Every verb takes the JSON of its request and raises UserError if a value is missing, unknown or
    out of bounds, or if a prompt or picture cannot be read.

    Args:
        unclip: paints.
    """

    def __init__(self, unclip: UnCLIP) -> None:
        self.unclip = unclip
        self._painting = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """Returns what the page has to know: prompts, bounds and defaults."""
        system, sample = self.unclip.system, self.unclip.defaults.sample
        return {
            "prompts": system.prompts,
            "checkpoints": system.hashes,
            "most_pictures": MOST_PICTURES,
            "most_steps": min(MOST_STEPS, system.decoder_diffusion.num_timesteps),
            "most_guidance": Request.model_json_schema()["properties"]["guidance"]["maximum"],
            "most_seed": MOST_SEED,
            "seed": str(sample.seed),  # a string: it may be larger than most_seed
            "guidance": sample.guidance,
            "steps": sample.steps,
        }

    def warning(self, prompt: str) -> str:
        """Returns a line about a prompt that training never showed, or ""."""
        return "".join(self.unclip.system.warnings([prompt]))

    def paint(self, raw: Any) -> Shown:
        """Returns the pictures of a `Paint`."""
        asked = _read(Paint, raw)
        with self._painting:
            painted = self.unclip.sample(
                asked.prompt, asked.num, asked.seed, guidance=asked.guidance, steps=asked.steps
            )
        return _show(painted, [f"seed {note['seed']}" for note in painted.notes])

    def vary(self, raw: Any) -> Shown:
        """Returns the pictures of a `Vary` (unCLIP §3.1)."""
        asked = _read(Vary, raw)
        picture = self._picture(asked.picture)
        with self._painting:
            painted = self.unclip.vary(
                picture, asked.num, asked.seed, invert=asked.own_noise, **self._options(asked)
            )
        return _show(painted, [f"seed {note['seed']}" for note in painted.notes])

    def interpolate(self, raw: Any) -> Shown:
        """Returns the pictures of an `Interpolate` (unCLIP §3.2)."""
        asked = _read(Interpolate, raw)
        start, end = self._end("start", asked.start), self._end("end", asked.end)
        invert = asked.own_noise and not (isinstance(start, str) and isinstance(end, str))
        with self._painting:
            painted = self.unclip.interpolate(
                start, end, asked.frames, asked.seed, invert=invert, **self._options(asked)
            )
        return _show(painted, [f"{share:.0%}" for share in shares(asked.frames)])

    def trajectory(self, raw: Any) -> Shown:
        """Returns moments of the reverse diffusion of `Moments`, noise first."""
        asked = _read(Moments, raw)
        with self._painting:
            way = self.unclip.trajectory(
                asked.prompt, asked.seed, asked.steps, guidance=asked.guidance
            )
        (moments,), (note,) = way.moments, way.painted.notes
        rows = evenly(len(moments), MOMENTS)
        # Only the last one is a finished picture, which its note paints again.
        shown = Painted(moments[rows], [{}] * (len(rows) - 1) + [note], note)
        return _show(shown, [f"t = {way.timesteps[row]}" for row in rows])

    def _options(self, asked: Vary | Interpolate) -> dict[str, Any]:
        """Returns options of the sample section; an inversion has its own steps and guidance."""
        if asked.own_noise:
            most = self.unclip.system.decoder_diffusion.num_timesteps
            return {"steps": min(INVERSION_STEPS, most)}
        return {"guidance": asked.guidance, "steps": asked.steps}

    def _end(self, name: str, end: End) -> Pictures | str:
        if end.picture is not None and end.prompt is None:
            return self._picture(end.picture)
        if end.prompt is None or end.picture is not None:
            raise UserError(f"{name}: expected either a prompt or a picture; give one of them")
        if not is_prompt(end.prompt):  # the page must not read files of this machine
            raise UserError(f"{name}: {end.prompt!r} names a file; expected a prompt; change it")
        return end.prompt

    def _picture(self, data: str) -> Pictures:
        """Returns a picture file in base64 as the networks take it, (C, H, W) uint8."""
        try:
            content = base64.b64decode(data, validate=True)
        except ValueError:
            raise UserError("picture: is not base64; expected a picture file; encode it") from None
        channels, size, _ = self.unclip.system.picture_shape
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "picture")
            path.write_bytes(content)
            try:
                return read_picture(path, size, channels)
            except UserError as error:
                raise UserError(str(error).replace(str(path), "the picture")) from None


def _read(model: type[Asked], raw: Any) -> Asked:
    try:
        return checked(model, raw)
    except ValueError as error:
        raise UserError(str(error)) from None


def _show(painted: Painted, captions: list[str]) -> Shown:
    return [
        {"png": as_base64(picture, note), "caption": caption}
        for (picture, note), caption in zip(painted, captions, strict=True)
    ]
