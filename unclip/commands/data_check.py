"""`python cli.py data check`: what training would be given of a folder of pictures."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from unclip.config.errors import UserError
from unclip.config.layout import Layout
from unclip.config.strict import one_line
from unclip.painting.options import REPOSITORY
from unclip.params.loading import load_params
from unclip.params.sections import DataParams
from unclip.running.progress import track

if TYPE_CHECKING:
    from unclip.datasets.own_folder import OwnFolder, Pixels

SHOWN = 8  # names in a line
SHOWN_DUPLICATES = 20


def check(folder: Path) -> bool:
    """Prints what is in a folder and what is wrong with it; returns whether prepare would take it.

    Args:
        folder: with pictures and metadata.

    Raises:
        UserError: there is no metadata file, or there are two.
    """
    params = load_params(Layout(REPOSITORY).params)
    # Torch takes seconds to import.
    from unclip.datasets.own_folder import choose_test, default_prompts, read_folder
    from unclip.datasets.writer import num_validation

    problems: list[str] = []
    own = read_folder(folder, params.clip.text_length, problems)
    test_fraction = params.data.image_folder.test_fraction
    test = choose_test(own, test_fraction, params.data.seed, problems)
    survey = _look_at_pictures(own, params.data.image_size, problems)
    num_test = int(test.sum())
    try:
        num_validation(len(test) - num_test, params.data.val_fraction)
    except UserError as error:
        problems.append(str(error))
    _say("metadata", one_line(own.metadata.name))
    _say("pictures", f"{len(own.names)}, of which {num_test} are for the test")
    _say("captions", _captions(own))
    survey.say()
    _say("attributes", _attributes(own))
    if own.captions:
        _say("prompts", _some(default_prompts(own, test)))
    _say_left_out(own)
    for note in own.notes:
        _say("note", note)
    for line in problems:
        typer.echo(f"error: {line}", err=True)
    _say("verdict", _verdict(folder, params.data, len(problems)))
    return not problems


class Survey:
    """What the pictures of a folder are like.

    Args:
        folder: that holds them.
        image_size: height and width that they are brought to.
    """

    def __init__(self, folder: Path, image_size: int) -> None:
        self._folder, self._image_size = folder, image_size
        self._sizes: list[tuple[int, int]] = []  # the smallest and the largest
        self._num_enlarged = self._num_cut = 0
        self._files: dict[bytes, str] = {}
        self._pixels: dict[bytes, str] = {}
        self._duplicates: list[str] = []

    def look(self, name: str, pixels: "Pixels") -> None:
        """Takes a picture's name and the pixels that it is brought to."""
        from unclip.pictures.files import picture_size

        path = self._folder / name
        size = picture_size(path)
        ends = sorted([*self._sizes, size], key=lambda size: (size[0] * size[1], size))
        self._sizes = [ends[0], ends[-1]]
        self._num_enlarged += min(size) < self._image_size
        self._num_cut += size[0] != size[1]
        file = self._files.setdefault(hashlib.sha256(path.read_bytes()).digest(), name)
        same = self._pixels.setdefault(hashlib.sha256(pixels.tobytes()).digest(), name)
        if file != name:
            self._duplicates.append(f"{one_line(name)} is the same file as {one_line(file)}")
        elif same != name:
            self._duplicates.append(f"{one_line(name)} has the same pixels as {one_line(same)}")

    def say(self) -> None:
        """Prints sizes and duplicates."""
        if self._sizes:
            (width, height), (wide, high) = self._sizes
            _say(
                "sizes",
                f"{width} × {height} to {wide} × {high} pixels, brought to {self._image_size} × "
                f"{self._image_size}: {self._num_cut} cut to a square, {self._num_enlarged} "
                "enlarged",
            )
        for line in self._duplicates[:SHOWN_DUPLICATES]:
            _say("duplicate", line)
        if len(self._duplicates) > SHOWN_DUPLICATES:
            _say("duplicate", f"… and {len(self._duplicates) - SHOWN_DUPLICATES} more")


def _look_at_pictures(own: "OwnFolder", image_size: int, problems: list[str]) -> Survey:
    """Returns what the pictures are like; those that cannot be read are noted.

    A picture may be damaged at its end, so each is decoded.
    """
    from unclip.datasets.own_folder import CHANNELS
    from unclip.pictures.files import read_picture

    survey = Survey(own.folder, image_size)
    for name in track(own.names, "checking pictures", len(own.names)):
        try:
            survey.look(name, read_picture(own.folder / name, image_size, CHANNELS))
        except UserError as error:
            problems.append(str(error))
    return survey


def _say(label: str, text: str) -> None:
    typer.echo(f"{label:<11} {text}")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name) for name in names[:SHOWN])
    return f"{shown}, … ({len(names)})" if len(names) > SHOWN else shown


def _captions(own: "OwnFolder") -> str:
    if not own.captions:
        return "none"
    longest = max(own.captions, key=lambda caption: len(caption.encode(errors="replace")))
    return (
        f"{len(own.captions)} distinct, the longest of {len(longest.encode(errors='replace'))} "
        "bytes"
    )


def _attributes(own: "OwnFolder") -> str:
    names, values = own.attributes.names, own.attributes.values
    found = [f"{name} ({len(words)} values)" for name, words in zip(names, values, strict=True)]
    return ", ".join(found) or "none"


def _say_left_out(own: "OwnFolder") -> None:
    """Prints the pictures in the folder that the metadata do not name."""
    from unclip.pictures.files import SUFFIXES

    named = {os.path.normpath(name) for name in own.names}
    found = [
        os.path.relpath(os.path.join(root, file), own.folder)
        for root, _, files in os.walk(own.folder)
        for file in files
        if file.lower().endswith(SUFFIXES)
    ]
    strangers = sorted(name for name in found if name not in named)
    if strangers:
        _say("left out", f"not named in {own.metadata.name}: {_some(strangers)}")


def _verdict(folder: Path, data: DataParams, count: int) -> str:
    if count:
        found = "1 problem; mend it" if count == 1 else f"{count} problems; mend them"
        return f"{found}, then check again"
    if data.dataset == "image_folder" and REPOSITORY / data.image_folder.folder == folder.resolve():
        return "all is well; train with: dvc repro"
    return "all is well"
