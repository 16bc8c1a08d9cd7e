"""A system that answers requests for pictures, wherever it is served. Knows nothing of MLflow."""

import base64
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from unclip.config.errors import UserError
from unclip.config.strict import checked
from unclip.core.device import Machine, open_machine
from unclip.data.tokenizer import tokenize
from unclip.painting.notes import Pictures, call_note, paint_rows, picture_notes, provenance
from unclip.painting.system import Settings, System
from unclip.params.loading import load_params
from unclip.params.sections import Params, SampleParams
from unclip.pictures.png import as_image, encode_png
from unclip.serving.card import RECIPE

MOST_PICTURES = 64  # of one request: a server keeps nobody waiting for long
# What a request may set beside its prompts, by the keys of the sample section.
SETTINGS = {
    "num": "num_per_prompt",
    "seed": "seed",
    "guidance": "guidance",
    "prior_guidance": "prior_guidance",
    "steps": "steps",
    "sampler": "sampler",
}


class Service:
    """A system with the recipe that it was trained by, on the machine that serves it.

    Attributes:
        system: paints.
        params: the recipe; its sample section says how, where a request does not.
        machine: where.
    """

    def __init__(self, system: System, params: Params, machine: Machine) -> None:
        self.system, self.params, self.machine = system, params, machine
        self._painting = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Returns what serves the system in a folder with clip, prior, decoder and params.yaml.

        Raises:
            UserError: one of them is missing, damaged or does not fit the others.
        """
        params = load_params(folder / RECIPE)
        machine = open_machine(params.sample.precision)
        return cls(System.load(folder, machine.device), params, machine)

    def answer(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns a dict for each picture, those of the first prompt first.

        It has `prompt`, `seed` and `png`: the picture in its own size, in base64. As every picture
        it carries in its PNG text what it was painted from.

        Args:
            prompts: what to paint.
            settings: values by the keys of SETTINGS; what is left out is as the recipe has it.

        Raises:
            UserError: a prompt can not be read, a setting is out of bounds, or too many pictures
                are asked for.
        """
        sample = self._read(len(prompts), settings)
        tokenize(prompts, self.system.text_length)
        how = Settings.of(sample)
        seeds = range(sample.seed, sample.seed + sample.num_per_prompt)
        # Requests come side by side. One after the other is as fast, and needs the memory of one.
        with self._painting, self.machine.accelerator.autocast():
            rows = paint_rows(self.system, prompts, seeds, how)
        note = provenance(self.system, how, self.machine.precision)
        note |= call_note(prompts, seeds, sample.batch_size)
        notes = picture_notes(note, prompts, seeds)
        return [
            {"prompt": prompt, "seed": seed, "png": as_base64(picture, own)}
            for prompt, row, noted in zip(prompts, rows, notes, strict=True)
            for seed, picture, own in zip(seeds, row, noted, strict=True)
        ]

    def defaults(self) -> dict[str, Any]:
        """Returns what each of SETTINGS is where a request does not say: one picture a prompt."""
        sample = self.params.sample.model_dump()
        return {name: sample[key] for name, key in SETTINGS.items()} | {"num": 1}

    def _read(self, prompts: int, settings: Mapping[str, Any]) -> SampleParams:
        """Returns the sample section with a request's settings in it, after every check of them."""
        named = {name: value for name, value in settings.items() if value is not None}
        given = self.defaults() | named
        if not prompts:
            raise UserError("inputs: there are none; expected at least one prompt; write one")
        if not isinstance(given["num"], int) or not 1 <= given["num"] <= MOST_PICTURES:
            raise UserError(f"num: {given['num']} is not allowed; expected 1 to {MOST_PICTURES}")
        if prompts * given["num"] > MOST_PICTURES:
            raise UserError(
                f"num: {given['num']} pictures of {prompts} prompts are {prompts * given['num']}; "
                f"expected at most {MOST_PICTURES} in a request; ask for fewer, and again"
            )
        chosen = {SETTINGS[name]: value for name, value in given.items()}
        try:
            return checked(SampleParams, self.params.sample.model_dump() | chosen)
        except ValueError as error:
            raise UserError(f"params: {error}") from None


def as_base64(picture: Pictures, note: Mapping[str, str]) -> str:
    """Returns a picture (C, H, W) uint8 as a PNG with a note, in base64."""
    return base64.b64encode(encode_png(as_image(picture), note)).decode("ascii")
