"""metadata.jsonl or metadata.csv of a folder of pictures, read line by line.

The convention of Hugging Face's ImageFolder: a line for each picture, with its `file_name` and its
`text`; further columns say more about it. Spreadsheets and scripts write such files, so every way
in which they go wrong has a line of its own here.
"""

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unclip.config.errors import UserError
from unclip.config.strict import one_line, short

FILES = ("metadata.jsonl", "metadata.csv")
REQUIRED = ("file_name", "text")
LONGEST_LINE = 2**20  # bytes; a caption has some sixty
LONGEST_NAME = 1000  # characters of a file's name, with the folders before it
KEPT = 1000  # problems whose lines are kept; the others are counted
SHOWN = 20  # of them in an error
# Control characters, line separators and halves of surrogate pairs: no text that can be printed.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass
class Problems:
    """What is wrong with a folder, in the order in which it was found.

    Attributes:
        lines: the first of them, each a line for the user.
        count: all of them.
    """

    lines: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, line: str) -> None:
        """Notes one."""
        self.count += 1
        if len(self.lines) < KEPT:
            self.lines.append(line)

    def stop_if_any(self, folder: Path) -> None:
        """Raises UserError, with the first lines and a count, unless all is well."""
        if not self.count:
            return
        lines = self.lines[:SHOWN]
        if self.count > SHOWN:
            lines.append(
                f"{one_line(str(folder))}: {self.count} problems, of which these are the first "
                f"{SHOWN}; `python cli.py data check` lists more"
            )
        raise UserError("\n".join(lines))


@dataclass(frozen=True)
class Entry:
    """What a line says of a picture.

    Attributes:
        line: its number, from 1.
        values: column to value, `file_name` and `text` among them; a column that the line leaves
            empty is not.
    """

    line: int
    values: dict[str, str]


def find_metadata(folder: Path) -> Path:
    """Returns the metadata file of a folder.

    Raises:
        UserError: there is no such folder, no such file in it, or both kinds.
    """
    where = one_line(str(folder))
    if not folder.is_dir():
        raise UserError(f"{where}: no such folder; expected one with pictures; check the name")
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if not found:
        raise UserError(
            f"{where}: has neither {FILES[0]} nor {FILES[1]}; expected a line for each picture "
            "with its file_name and its text; write one"
        )
    if len(found) > 1:
        raise UserError(
            f"{where}: has both {FILES[0]} and {FILES[1]}; expected one of them; remove the other"
        )
    return found[0]


def read_entries(path: Path, problems: Problems) -> Iterator[Entry]:
    """Yields what the lines of a metadata file say; a bad line is noted and left out.

    Args:
        path: metadata.jsonl or metadata.csv; UTF-8, with or without a byte order mark.
        problems: takes what is wrong.
    """
    where = one_line(str(path))
    rows = _json_rows if path.suffix == ".jsonl" else _csv_rows
    try:
        for line, row in rows(path):
            if complaint := row if isinstance(row, str) else _complaint(row):
                problems.add(f"{where}: line {line}: {complaint}")
            elif isinstance(row, dict):
                yield Entry(line, _words(row))
    except UserError as error:  # what follows can not be read either
        problems.add(f"{where}: {error}")
    except OSError as error:
        problems.add(f"{where}: can not be read ({error.strerror}); expected a text file; allow it")


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yields (line, object), or (line, what is wrong with it)."""
    for line, text in _lines(path):
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse)
        except RecursionError:
            yield line, f"is nested too deeply; expected {_EXAMPLE}"
        except json.JSONDecodeError as error:
            yield line, f"is not JSON ({error.msg} at column {error.colno}); expected {_EXAMPLE}"
        except ValueError as error:
            yield line, f"is not JSON ({' '.join(str(error).split())}); expected {_EXAMPLE}"
        else:
            is_object = isinstance(row, dict)
            yield line, row if is_object else f"is {short(row)}; expected {_EXAMPLE}"


_EXAMPLE = '{"file_name": "a.png", "text": "a caption"}'


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object; of two equal keys, JSON itself would take the last without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {short(twice)} stands there twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yields (line, column to value), or (line, what is wrong with it).

    Raises:
        UserError: no row can be read: the header is wrong, or the quotes are.
    """
    reader = csv.reader((text for _, text in _lines(path)), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        for row in reader:
            if not row:
                continue
            if len(row) == len(header):
                yield reader.line_num, dict(zip(header, row, strict=True))
            else:
                yield (
                    reader.line_num,
                    f"has {len(row)} fields and the header {len(header)}; expected as many; put "
                    'quotes around what holds commas, as "a red, round apple"',
                )
    except csv.Error as error:
        raise UserError(
            f"line {reader.line_num}: is not CSV ({error}); expected fields with commas between "
            'them; put quotes around what holds commas or quotes, as "a ""red"" apple"'
        ) from None


def _check_header(header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise UserError(
            f"line 1: has no column {missing[0]} among {short(header)}; expected file_name and "
            "text with a comma between them; name the columns so"
        )
    for name in header:
        if not name or header.count(name) > 1:
            wrong = f"the column {name} twice" if name else "a column without a name"
            raise UserError(f"line 1: has {wrong}; expected distinct names; rename or remove it")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a file, numbered from 1, never more than one in memory.

    Raises:
        UserError: a line is too long or not UTF-8.
    """
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(raw) > LONGEST_LINE:
                raise UserError(
                    f"line {number}: is longer than {LONGEST_LINE} bytes; expected a line for each "
                    "picture; break it"
                )
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"line {number}: byte {error.start + 1} is not UTF-8; expected text in UTF-8; "
                    "save the file in that encoding"
                ) from None


def _complaint(row: dict[str, Any]) -> str:
    """Returns what is wrong with the values of a line, or nothing."""
    for name in REQUIRED:
        value = row.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            state = "empty" if name in row else "missing"
            return f"{name} is {state}; expected {_MEANING[name]}; write it or remove the line"
        if not isinstance(value, str):
            return f"{name} is {short(value)}; expected {_MEANING[name]} in quotes; correct it"
    if len(row["file_name"]) > LONGEST_NAME:
        return f"file_name has {len(row['file_name'])} characters; expected at most {LONGEST_NAME}"
    for name, value in row.items():
        if isinstance(value, list | dict) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            return (
                f"{one_line(name)} is {short(value)}; expected a word or a number; remove the "
                "column or give it one value for each picture"
            )
        found = UNPRINTABLE.search(value if isinstance(value, str) else "")
        if found:
            return (
                f"{one_line(name)} holds the character {found.group()!r}; expected text that can "
                "be printed on one line; remove it"
            )
    return ""


_MEANING = {"file_name": "the name of a picture", "text": "a caption"}


def _words(row: dict[str, Any]) -> dict[str, str]:
    """Returns the values of a line as words; numbers and truth values as JSON writes them."""
    words = {
        name: value.strip() if isinstance(value, str) else json.dumps(value)
        for name, value in row.items()
        if value is not None
    }
    return {name: word for name, word in words.items() if word}
