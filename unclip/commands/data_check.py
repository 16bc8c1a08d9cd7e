"""`python cli.py data check`: what training would be given of a folder of pictures."""

import hashlib
import math
import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from unclip.datasets.own_folder import OwnFolder
    from unclip.params.sections import Params

SHOWN = 8  # names in a line
SHOWN_DUPLICATES = SHOWN_PROBLEMS = 20
TRAINED, VALIDATED, TEST = "trained", "validated", "tested"
Parts: TypeAlias = "npt.NDArray[np.object_]"  # what each picture is for

Lines = Iterator[tuple[str, str]]  # label and text


def check(
    folder: Annotated[
        Path, typer.Argument(help="A folder of pictures that says what they show: docs/own-data.md")
    ],
    set_param: Annotated[
        list[str], typer.Option("-S", "--set-param", metavar="KEY=VALUE", help="As dvc exp run -S.")
    ] = [],  # noqa: B006 -- typer copies it
) -> None:
    """Show what training would be given of a folder of pictures, and all that is wrong with it.

    Shows which convention the folder follows, what is trained, validated and tested, sizes,
    captions, attributes and duplicates; names the pictures and lines that cannot be read. Params
    come from params.yaml and -S. The exit status is 1 if `dvc repro` would refuse the folder.

    Example: `python cli.py data check data/own -S clip.text_length=100`
    """
    import numpy as np

    from unclip.config.layout import Layout
    from unclip.config.settings import REPOSITORY
    from unclip.config.strict import one_line
    from unclip.datasets.own_folder import choose_test, choose_trained, read_folder
    from unclip.params.overrides import load_changed_params

    params = load_changed_params(Layout(REPOSITORY).params, set_param)
    data, own_pictures = params.data, params.data.image_folder
    problems: list[str] = []
    own = read_folder(folder, params.clip.text_length, problems, own_pictures.caption)
    test = choose_test(own, own_pictures.test_fraction, data.seed, problems)
    trained = choose_trained(own, test, data.val_fraction, data.seed, problems)
    parts = np.select([test, trained], [TEST, TRAINED], VALIDATED).astype(object)
    lines = [("convention", own.convention)]
    if own.names:
        lines += [
            *_count(own, parts),
            *_describe_captions(own, parts),
            *_describe_pictures(own, parts, data.image_size, problems),
            *_name_left_out(own),
            *(("note", note) for note in own.notes),
        ]
    for label, text in [*lines, ("verdict", _verdict(problems, folder, params, set_param))]:
        typer.echo(f"{label:<11} {one_line(text)}")
    for problem in _first_of_each_kind(problems):
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _verdict(problems: list[str], folder: Path, params: "Params", set_param: list[str]) -> str:
    """Returns whether the folder can be trained on, and the command for it."""
    from unclip.config.settings import REPOSITORY

    if problems:
        what = (
            "1 problem; mend it" if len(problems) == 1 else f"{len(problems)} problems; mend them"
        )
        return f"{what}, then check again"
    place = folder.resolve()
    data = params.data
    if not place.is_relative_to(REPOSITORY):
        return "all is well; to train, copy it below this repository, as data/own"
    changes = list(set_param)
    if (data.dataset, (REPOSITORY / data.image_folder.folder).resolve()) != ("image_folder", place):
        name = place.relative_to(REPOSITORY).as_posix()
        changes += ["data.dataset=image_folder", f"data.image_folder.folder={name}"]
    words = " ".join(f"-S {shlex.quote(change)}" for change in changes)
    return f"all is well; train with: {f'dvc exp run {words}' if changes else 'dvc repro'}"


def _first_of_each_kind(problems: list[str]) -> Iterator[str]:
    """Yields the problems, of those with the same remedy the first SHOWN_PROBLEMS and a count."""
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for problem in problems:
        kinds[problem.rpartition("; ")[2]].append(problem)
    for remedy, those in kinds.items():
        yield from those[:SHOWN_PROBLEMS]
        if len(those) > SHOWN_PROBLEMS:
            yield f"… and {len(those) - SHOWN_PROBLEMS} more; {remedy}"


def _count(own: "OwnFolder", parts: Parts) -> Lines:
    """Yields how many pictures and captions there are, and what they are for."""
    import numpy as np

    trained = np.unique(own.caption_index[parts == TRAINED])
    yield "pictures", str(len(own.names))
    for part in (TRAINED, VALIDATED, TEST):
        captions = np.unique(own.caption_index[parts == part])
        new = len(np.setdiff1d(captions, trained))
        more = f", {new} of which are never trained" if new else ""
        yield part, f"{(parts == part).sum()} pictures of {len(captions)} captions{more}"


def _describe_captions(own: "OwnFolder", parts: Parts) -> Lines:
    """Yields what the captions and the other columns of the metadata hold."""
    import numpy as np

    from unclip.datasets.prompts import default_prompts
    from unclip.painting.known import NEVER_TRAINED

    longest = max(len(caption.encode()) for caption in own.captions)
    yield "captions", f"{len(own.captions)} distinct, the longest of {longest} bytes"
    found = []
    codes = own.attributes.of_pictures.T
    for name, values, mine in zip(own.attributes.names, own.attributes.values, codes, strict=True):
        chance = np.bincount(mine[mine >= 0]).max() / (mine >= 0).sum()
        found.append(f"{name} ({len(values)} values; always the same is right in {chance:.0%})")
    yield "attributes", ", ".join(found) or "none"
    index = own.caption_index
    known, new = default_prompts(own.captions, index[parts == TRAINED], index[parts == TEST])
    yield "prompts", ", ".join([*known, *(f"{caption} {NEVER_TRAINED}" for caption in new)])


def _name_left_out(own: "OwnFolder") -> Lines:
    """Yields the pictures in the folder that nothing is said of, if there are any."""
    from unclip.datasets.metadata import pictures_in

    named = set(own.names)
    if found := [name for name in pictures_in(own.folder) if name not in named]:
        more = f", … ({len(found)})" if len(found) > SHOWN else ""
        shown = f"{', '.join(found[:SHOWN])}{more}"
        yield "left out", f"not described by {own.convention}, or with a mistake: {shown}"


def _describe_pictures(
    own: "OwnFolder", parts: Parts, image_size: int, problems: list[str]
) -> Lines:
    """Yields sizes and duplicates; decodes every picture, which may be damaged at its end."""
    from unclip.config.errors import UserError
    from unclip.datasets.own_folder import CHANNELS
    from unclip.pictures.files import picture_size, read_picture
    from unclip.running.progress import track

    sizes: list[tuple[int, int]] = []
    duplicates: list[str] = []
    known: dict[bytes, int] = {}  # hash of the pixels → the first picture that has them
    for row, name in enumerate(track(own.names, "checking pictures", len(own.names))):
        path = own.folder / name
        try:
            pixels = read_picture(path, image_size, CHANNELS)
            sizes.append(picture_size(path))
        except UserError as error:
            problems.append(str(error))
            continue
        first = known.setdefault(hashlib.sha256(pixels.tobytes()).digest(), row)
        if first != row:
            duplicates.append(
                f"{name} ({parts[row]}) has the same pixels as {own.names[first]} ({parts[first]})"
            )
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
