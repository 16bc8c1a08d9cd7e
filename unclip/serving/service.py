"""A system that answers requests for pictures, however it is served. Knows nothing of MLflow."""

import base64
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from unclip.api import UnCLIP
from unclip.config.errors import UserError
from unclip.config.layout import Layout
from unclip.painting.system import Pictures
from unclip.params.loading import load_params
from unclip.pictures.png import as_image, encode_png

MOST_PICTURES = 64  # of one request, so that nobody waits for long
# What a request may set besides its prompts; all but `num` are keys of the sample section.
SETTINGS = ("num", "seed", "guidance", "prior_guidance", "steps", "sampler")


class Service:
    """A system that answers requests, one after another."""

    def __init__(self, unclip: UnCLIP) -> None:
        self.unclip = unclip
        self._painting = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Returns what serves the system in a folder with clip, prior, decoder and params.yaml.

        Raises:
            UserError: one of them is missing, damaged or does not fit the others.
        """
        load_params(Layout(folder).params)
        return cls(UnCLIP.load(folder))

    def answer(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns a dict for each picture, those of the first prompt first.

        It has `prompt`, `seed` and `png`: the picture in its own size, with its note, in base64;
        and `warning`, if training never showed the prompt.

        Args:
            prompts: what to paint.
            settings: values by the names in SETTINGS; defaults come from the params.yaml.

        Raises:
            UserError: a prompt cannot be read, a setting is out of bounds, or the request asks for
                no picture or too many.
        """
        given = self.defaults() | {k: v for k, v in settings.items() if v is not None}
        num, seed = given.pop("num"), given.pop("seed")
        if not prompts:
            raise UserError("inputs: there are none; expected at least one prompt; write one")
        if not isinstance(num, int) or not 1 <= num <= MOST_PICTURES:
            raise UserError(f"num: {num} is not allowed; expected 1 to {MOST_PICTURES}")
        if len(prompts) * num > MOST_PICTURES:
            raise UserError(
                f"num: {num} pictures of {len(prompts)} prompts are {len(prompts) * num}; expected "
                f"at most {MOST_PICTURES} in a request; ask for fewer, and again"
            )
        # Concurrent requests are as fast one after another, in the memory of one.
        with self._painting:
            painted = self.unclip.sample(prompts, num, seed, **given)
        told = {p: {"warning": line} for p in prompts for line in self.unclip.system.warnings([p])}
        return [
            {"prompt": note["prompt"], "seed": int(note["seed"]), "png": as_base64(picture, note)}
            | told.get(note["prompt"], {})
            for picture, note in painted
        ]

    def defaults(self) -> dict[str, Any]:
        """Returns the default of each of SETTINGS: one picture of each prompt, and the params'."""
        sample = self.unclip.defaults.sample.model_dump()
        return {"num": 1} | {name: sample[name] for name in SETTINGS if name != "num"}


def as_base64(picture: Pictures, note: Mapping[str, str]) -> str:
    """Returns a picture (C, H, W) uint8 as a PNG with a note, in base64."""
    return base64.b64encode(encode_png(as_image(picture), note)).decode("ascii")
