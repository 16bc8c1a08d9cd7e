"""What a folder says about its pictures, in one of three conventions.

They are metadata.jsonl or metadata.csv as in Hugging Face's ImageFolder (a line for each picture
with its `file_name` and `text`, and additional columns), a .txt beside each picture as in kohya's
scripts and webdataset, and a folder for each class.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from unclip.config.errors import UserError
from unclip.config.strict import checked, one_line, short
from unclip.data.text import clean
from unclip.pictures.files import SUFFIXES

FILES = ("metadata.jsonl", "metadata.csv")
TEXTS, CLASSES = "a .txt beside each picture", "a folder for each class"
# Folders of class folders, and what their pictures are for; val_fraction chooses validation anew.
SPLITS = {"train": "train", "val": "train", "valid": "train", "validation": "train", "test": "test"}


def _as_word(value: Any) -> str:
    """Returns a cell as text; numbers and truth values as JSON writes them."""
    if isinstance(value, list | dict):
        raise ValueError(f"{short(value)} is not allowed; expected a word or a number")
    word = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    return word.strip()


def _not_empty(word: str) -> str:
    if not word:
        raise ValueError("is empty")
    return word


Written = Annotated[str, BeforeValidator(_as_word)]
Word = Annotated[Written, AfterValidator(clean)]
Row = dict[str, Any]


class Entry(BaseModel):
    """A line of the metadata; `model_extra` has the additional columns, "" for an empty cell."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Word]

    file_name: Annotated[Written, AfterValidator(_not_empty)]  # as the disk may have it
    text: Annotated[Word, AfterValidator(_not_empty)]
    split: Annotated[
        Literal["train", "test"] | None, BeforeValidator(lambda cell: clean(_as_word(cell)) or None)
    ] = None


def find_metadata(folder: Path) -> tuple[Path, str]:
    """Returns what describes the pictures, a file or the folder itself, and the convention.

    Raises:
        UserError: there is no such folder, or it follows no convention, or two.
    """
    where = one_line(str(folder))
    if not folder.is_dir():
        raise UserError(f"{where}: no such folder; expected one with pictures; check the name")
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) == 1:
        return found[0], found[0].name
    if found:
        raise UserError(f"{where}: has both {FILES[0]} and {FILES[1]}; expected one; remove one")
    pictures = [folder / name for name in pictures_in(folder)]
    if any(path.with_suffix(".txt").is_file() for path in pictures):
        return folder, TEXTS
    if any(path.parent != folder for path in pictures):
        return folder, CLASSES
    raise UserError(
        f"{where}: has neither {FILES[0]} nor {FILES[1]}; expected one of them, with the file_name "
        f"and text of each picture, or {TEXTS}, or {CLASSES}"
    )


def files_in(folder: Path) -> list[str]:
    """Returns the names of all files below a folder, relative to it, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def pictures_in(folder: Path) -> list[str]:
    """Returns those of `files_in` that are named as pictures and not hidden."""
    names = (name for name in files_in(folder) if name.lower().endswith(SUFFIXES))
    return [name for name in names if not any(part[0] == "." for part in Path(name).parts)]


def read_entries(
    path: Path, problems: list[str], convention: str = "", caption: str = "{}"
) -> Iterator[tuple[str, Entry]]:
    """Yields (line or name of the file, entry) and leaves out entries with mistakes.

    Args:
        path: what describes the pictures, from `find_metadata`; text is UTF-8, with or without a
            byte order mark.
        problems: receives one line for each mistake.
        convention: from `find_metadata`; needed for a folder.
        caption: the template of class folders; {} becomes the name of the class.
    """
    where = one_line(str(path))
    cure = "correct the line or remove it"
    rows: Iterator[tuple[str, str | Row]]
    if convention == TEXTS:
        rows, cure = _text_rows(path), "write the caption into it or remove the picture"
    elif convention == CLASSES:
        rows = _class_rows(path, caption)
    else:
        rows = _metadata_rows(path)
    try:
        for at, row in rows:
            try:
                yield at, _entry(row)
            except ValueError as error:
                problems.append(f"{where}: {at}: {error}; {cure}")
    except UserError as error:  # the rest cannot be read either
        problems.append(f"{where}: {error}")


def _text_rows(folder: Path) -> Iterator[tuple[str, str | Row]]:
    """Yields (name of the .txt, cells) of each picture; no file is an empty caption.

    Raises:
        UserError: a file is not UTF-8.
    """
    for name in pictures_in(folder):
        path = (folder / name).with_suffix(".txt")
        at = str(path.relative_to(folder))
        text = _decoded(path, f"{one_line(at)}: ") if path.is_file() else ""
        yield at, {"file_name": name, "text": text}


def _class_rows(folder: Path, caption: str) -> Iterator[tuple[str, str | Row]]:
    """Yields (name, cells) of each picture in a class folder, the one that it lies in.

    The class is also an attribute. Folders of class folders may be splits.
    """
    pictures = [parts for name in pictures_in(folder) if len(parts := Path(name).parts) > 1]
    are_splits = all(len(parts) > 2 and parts[0] in SPLITS for parts in pictures)
    has_test = are_splits and any(parts[0] == "test" for parts in pictures)
    for parts in pictures:
        name, word = str(Path(*parts)), clean(re.sub("[_-]", " ", parts[-2]))
        cells = {"file_name": name, "text": caption.replace("{}", word), "class": word}
        yield name, cells | ({"split": SPLITS[parts[0]]} if has_test else {})


def _metadata_rows(path: Path) -> Iterator[tuple[str, str | Row]]:
    """Yields (line, JSON or cells).

    Raises:
        UserError: the file is not UTF-8, or not CSV with the columns that are needed.
    """
    read: Callable[[str], Iterator[tuple[int, str | Row]]]
    read = _json_rows if path.suffix == ".jsonl" else _csv_rows
    for line, row in read(_decoded(path)):
        yield f"line {line}", row


def _decoded(path: Path, at: str = "") -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{at}line {line}: is not UTF-8; save the file in that encoding") from None


def _json_rows(text: str) -> Iterator[tuple[int, str]]:
    """Returns (line number, JSON) of each non-empty line."""
    return ((line, row) for line, row in enumerate(text.split("\n"), 1) if row.strip())


def _csv_rows(text: str) -> Iterator[tuple[int, Row]]:
    """Yields (line number, column to cell).

    Raises:
        UserError: a column is missing, or the quotes are wrong.
    """
    file = io.StringIO(text, newline="")
    reader = csv.DictReader(file, restval="", skipinitialspace=True, strict=True)
    try:
        columns = reader.fieldnames = [clean(name) for name in reader.fieldnames or []]
        for name in ("file_name", "text"):
            if name not in columns:
                raise UserError(
                    f"line 1: has no column {name} among {short(columns)}; expected "
                    "file_name and text, separated by a comma; rename the columns"
                )
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(
            f"line {reader.reader.line_num}: is not CSV ({error}); put quotes around what holds "
            'commas or quotes, as "a ""red"" apple"'
        ) from None


def _entry(row: str | Row) -> Entry:
    """Returns the entry in a line of JSON or a row of a CSV file.

    Raises:
        ValueError: the line has a mistake.
    """
    if isinstance(row, str):
        try:  # NaN is what pandas writes for a missing value
            row = json.loads(row, parse_constant=lambda name: None)
        except json.JSONDecodeError as error:
            raise ValueError(f"is not JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(row, dict):
            raise ValueError(f'is {short(row)}; expected {{"file_name": "a.png", "text": "a cup"}}')
        row = {clean(name): cell for name, cell in row.items()}
    if None in row:  # csv's key for fields without a column
        raise ValueError("has more fields than the header; put quotes around what holds commas")
    return checked(Entry, row)
