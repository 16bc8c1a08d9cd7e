"""`python cli.py data check`: what training would be given of a folder of pictures."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unclip.datasets.own_folder import Chosen, OwnFolder

SHOWN = 8  # names in a line
SHOWN_DUPLICATES = 20

Lines = Iterator[tuple[str, str]]  # label and text


def check(
    folder: Annotated[
        Path, typer.Argument(help="A folder of pictures with metadata.jsonl or metadata.csv.")
    ],
) -> None:
    """Show what training would be given of a folder of pictures, and all that is wrong with it.

    Shows counts, sizes, captions, attributes and duplicates, and names the pictures and lines that
    cannot be read. image_size, text_length and test_fraction come from params.yaml. The exit status
    is 1 if `dvc repro` would refuse the folder.

    Example: `python cli.py data check data/own`
    """
    from unclip.config.layout import Layout
    from unclip.config.settings import REPOSITORY
    from unclip.config.strict import one_line
    from unclip.datasets.own_folder import choose_test, choose_trained, read_folder
    from unclip.params.loading import load_params

    params = load_params(Layout(REPOSITORY).params)
    data, own_pictures = params.data, params.data.image_folder
    problems: list[str] = []
    own = read_folder(folder, params.clip.text_length, problems)
    all_read = not problems
    test = choose_test(own, own_pictures.test_fraction, data.seed, problems)
    trained = ~test
    if all_read:
        trained = choose_trained(test, data.val_fraction, data.seed, problems)
    lines = [
        ("metadata", own.metadata.name),
        ("pictures", f"{len(own.names)}, of which {test.sum()} are for the test"),
        *_describe_captions(own, trained, test),
        *_describe_pictures(own, data.image_size, problems),
        *_name_left_out(own),
        *(("note", note) for note in own.notes),
    ]
    verdict = "all is well"
    if problems:
        found = (
            "1 problem; mend it" if len(problems) == 1 else f"{len(problems)} problems; mend them"
        )
        verdict = f"{found}, then check again"
    elif (
        data.dataset == "image_folder"
        and (REPOSITORY / own_pictures.folder).resolve() == folder.resolve()
    ):
        verdict = "all is well; train with: dvc repro"
    for label, text in [*lines, ("verdict", verdict)]:
        typer.echo(f"{label:<11} {one_line(text)}")
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _describe_captions(own: "OwnFolder", trained: "Chosen", test: "Chosen") -> Lines:
    """Yields what the captions and the other columns of the metadata hold."""
    from unclip.datasets.prompts import default_prompts
    from unclip.painting.known import NEVER_TRAINED

    index = own.caption_index
    known, new = default_prompts(own.captions, index[trained], index[test])
    longest = max((len(caption.encode(errors="replace")) for caption in own.captions), default=0)
    number = len(own.captions)
    yield "captions", f"{number} distinct, the longest of {longest} bytes" if number else "none"
    attributes = zip(own.attributes.names, own.attributes.values, strict=True)
    found = [f"{name} ({len(values)} values)" for name, values in attributes]
    yield "attributes", ", ".join(found) or "none"
    if prompts := known + [f"{caption} {NEVER_TRAINED}" for caption in new]:
        yield "prompts", ", ".join(prompts)


def _name_left_out(own: "OwnFolder") -> Lines:
    """Yields the pictures in the folder that the metadata do not name, if there are any."""
    from unclip.datasets.own_folder import files_in
    from unclip.pictures.files import SUFFIXES

    pictures = (name for name in files_in(own.folder) if name.lower().endswith(SUFFIXES))
    named = set(own.names)
    if found := [name for name in pictures if name not in named]:
        more = f", … ({len(found)})" if len(found) > SHOWN else ""
        shown = f"{', '.join(found[:SHOWN])}{more}"
        yield "left out", f"not named in a sound line of {own.metadata.name}: {shown}"


def _describe_pictures(own: "OwnFolder", image_size: int, problems: list[str]) -> Lines:
    """Yields sizes and duplicates; decodes every picture, which may be damaged at its end."""
    from unclip.config.errors import UserError
    from unclip.datasets.own_folder import CHANNELS
    from unclip.pictures.files import picture_size, read_picture
    from unclip.running.progress import track

    sizes: list[tuple[int, int]] = []
    duplicates: list[str] = []
    known: dict[bytes, str] = {}  # hash of the pixels → the first picture that has them
    for name in track(own.names, "checking pictures", len(own.names)):
        path = own.folder / name
        try:
            pixels = read_picture(path, image_size, CHANNELS)
            sizes.append(picture_size(path))
        except UserError as error:
            problems.append(str(error))
            continue
        first = known.setdefault(hashlib.sha256(pixels.tobytes()).digest(), name)
        if first != name:
            duplicates.append(f"{name} has the same pixels as {first}")
    if sizes:
        ends = (f"{w} × {h}" for w, h in (min(sizes, key=math.prod), max(sizes, key=math.prod)))
        num_cut = sum(width != height for width, height in sizes)
        num_enlarged = sum(min(size) < image_size for size in sizes)
        yield (
            "sizes",
            f"{' to '.join(ends)} pixels, brought to {image_size} × {image_size}: "
            f"{num_cut} cut to a square, {num_enlarged} enlarged",
        )
    yield from (("duplicate", line) for line in duplicates[:SHOWN_DUPLICATES])
    if len(duplicates) > SHOWN_DUPLICATES:
        yield "duplicate", f"… and {len(duplicates) - SHOWN_DUPLICATES} more"
