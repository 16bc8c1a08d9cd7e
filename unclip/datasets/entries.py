"""The entries of a folder's description that can be honoured, and what is wrong with the others."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from unclip.config.errors import UserError
from unclip.config.strict import one_line
from unclip.data.text import clean, fold
from unclip.data.tokenizer import tokenize
from unclip.datasets.metadata import Entry, files_in


def sound_entries(
    folder: Path,
    where: str,
    entries: Iterable[tuple[str, Entry]],
    text_length: int,
    problems: list[str],
) -> list[tuple[str, Entry]]:
    """Returns (name of the file, entry) of those without mistakes.

    Args:
        folder: contains the pictures.
        where: what describes them, for messages.
        entries: from `read_entries`.
        text_length: the most tokens of a caption, including start and end.
        problems: receives one line for each mistake.
    """
    on_disk = {clean(name): name for name in files_in(folder)}
    places: dict[str, str] = {}  # where each file was named
    found: list[tuple[str, Entry]] = []
    needed, too_long = text_length, []
    for at, entry in entries:
        name = _find(folder, entry.file_name, on_disk)
        if not name and (head := _needless(folder, entry.file_name)):
            problem = (
                f"{where}: file names begin with {one_line(head)}; expected names relative to the "
                f"folder; remove {one_line(head)} from all of them"
            )
            problems += [problem] if problem not in problems else []
            continue
        wrong = (
            _complaint_of_name(name, at, places),
            _complaint_of_caption(entry.text, text_length),
        )
        if "clip.text_length" in wrong[1]:
            needed = max(needed, len(fold(entry.text).encode()) + 2)
            too_long.append(len(problems) + bool(wrong[0]))
        shown = one_line(entry.file_name)
        place = at if at == entry.file_name else f"{at} ({shown})"
        problems += [f"{where}: {place}: {complaint}" for complaint in wrong if complaint]
        if not any(wrong):
            found.append((name, entry))
    for number in too_long:
        problems[number] += f"; all fit with -S clip.text_length={needed}"
    return found


def _find(folder: Path, written: str, on_disk: Mapping[str, str]) -> str:
    """Returns a file's name relative to the folder, as the disk has it; "" if there is none.

    Links are not followed: where DVC has put links to its cache, the pictures still lie here.

    Args:
        folder: the folder.
        written: the name in the metadata.
        on_disk: clean name → name of each file.
    """
    plain = os.path.normpath(written)
    for name in (plain, on_disk.get(clean(plain), "")):
        if os.path.isfile(folder / name):  # False for invalid names too
            return os.path.relpath(folder / name, folder)
    return ""


def _needless(folder: Path, written: str) -> str:
    """Returns the folder's own path if a name begins with it and the rest is a file, else ""."""
    parts, own = Path(written).parts, folder.resolve().parts
    for count in range(1, len(parts)):
        is_own = parts[:count] == own[-count:]
        if is_own and os.path.isfile(folder / Path(*parts[count:])):
            return str(Path(*parts[:count]))
    return ""


def _complaint_of_name(name: str, at: str, places: dict[str, str]) -> str:
    """Returns what is wrong with a file's name, or adds it to `places`."""
    if not name:
        return "no such file; expected a picture; check the name"
    if Path(name).parts[0] == os.pardir:
        return "the file lies outside of the folder; expected one inside of it; copy it there"
    if (first := places.setdefault(name, at)) != at:
        return f"the same file as in {first}; expected a line for each picture; remove one"
    return ""


def _complaint_of_caption(caption: str, text_length: int) -> str:
    try:
        tokenize([caption], text_length)
    except UserError as error:
        return str(error)
    return ""
