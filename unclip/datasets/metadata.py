"""metadata.jsonl or metadata.csv of a folder of pictures.

This is the format of Hugging Face's ImageFolder: a line for each picture with its `file_name` and
`text`, and additional columns.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from unclip.config.errors import UserError
from unclip.config.strict import checked, one_line, short
from unclip.data.text import clean

FILES = ("metadata.jsonl", "metadata.csv")


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


class Entry(BaseModel):
    """A line of the metadata; `model_extra` has the additional columns, "" for an empty cell."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Word]

    file_name: Annotated[Written, AfterValidator(_not_empty)]  # as the disk may have it
    text: Annotated[Word, AfterValidator(_not_empty)]
    split: Annotated[
        Literal["train", "test"] | None, BeforeValidator(lambda cell: clean(_as_word(cell)) or None)
    ] = None


def find_metadata(folder: Path) -> Path:
    """Returns the metadata file of a folder.

    Raises:
        UserError: there is no such folder, no such file in it, or both kinds.
    """
    where = one_line(str(folder))
    if not folder.is_dir():
        raise UserError(f"{where}: no such folder; expected one with pictures; check the name")
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) != 1:
        has = f"both {FILES[0]} and {FILES[1]}" if found else f"neither {FILES[0]} nor {FILES[1]}"
        raise UserError(
            f"{where}: has {has}; expected one of them, with the file_name and text of each picture"
        )
    return found[0]


def read_entries(path: Path, problems: list[str]) -> Iterator[tuple[int, Entry]]:
    """Yields (line number from 1, entry) and leaves out lines with mistakes.

    Args:
        path: metadata.jsonl or metadata.csv; UTF-8, with or without a byte order mark.
        problems: receives one line for each mistake.
    """
    where = one_line(str(path))
    rows = _json_rows if path.suffix == ".jsonl" else _csv_rows
    try:
        for line, row in rows(path.read_bytes().decode("utf-8-sig")):
            try:
                yield line, _entry(row)
            except ValueError as error:
                problems.append(f"{where}: line {line}: {error}; correct the line or remove it")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.append(f"{where}: line {line}: is not UTF-8; save the file in that encoding")
    except UserError as error:  # the rest cannot be read either
        problems.append(f"{where}: {error}")


def _json_rows(text: str) -> Iterator[tuple[int, str]]:
    """Returns (line number, JSON) of each non-empty line."""
    return ((line, row) for line, row in enumerate(text.split("\n"), 1) if row.strip())


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
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


def _entry(row: str | dict[str, Any]) -> Entry:
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
