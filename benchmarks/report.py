"""What a run of the benchmarks found: tables of raw figures, bars they are held against, and JSON.

The JSON keeps figures as they were measured; how one is shown stands beside it, in its column.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """How one figure of every row is shown.

    Attributes:
        key: of the rows.
        heading: with the unit, if it has one.
        form: format string for a number; text is shown as it is.
    """

    key: str
    heading: str
    form: str = "{}"

    def show(self, row: Row) -> str:
        """Returns the cell of a row; a dash where nothing was measured."""
        value = row.get(self.key)
        if value is None:
            return "–"
        return value if isinstance(value, str) else self.form.format(value)


@dataclass(frozen=True)
class Table:
    """Figures of one question; a row may hold more than its columns show.

    Attributes:
        title: what is compared.
        columns: what is shown of a row.
        rows: raw figures: seconds, bytes, floating-point operations.
        note: how it was measured.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """A figure and the limit it is held against.

    Attributes:
        name: what is measured.
        value: as measured.
        limit: the worst that is good enough.
        at_least: True where more is better, False where less is.
        unit: "×", "s" or "%"; for "%" value and limit are shares, 1 being the whole.
    """

    name: str
    value: float
    limit: float
    at_least: bool
    unit: str

    @property
    def is_met(self) -> bool:
        """Returns whether the figure is good enough."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True)
class Section:
    """What one benchmark found, and where and when.

    Attributes:
        name: training, sampling, stages or growth.
        environment: see `environment.describe`.
        tables: the figures.
        bars: the limits.
        figure: name of a picture beside the JSON; "" is none.
    """

    name: str
    environment: dict[str, Any]
    tables: Sequence[Table] = ()
    bars: Sequence[Bar] = ()
    figure: str = ""


@dataclass
class Report:
    """All that was found; a section keeps its place until it is measured again."""

    sections: dict[str, Section] = field(default_factory=dict)

    def to_json(self) -> str:
        """Returns the report as JSON; `from_json` gives it back."""
        content = {name: asdict(section) for name, section in self.sections.items()}
        return json.dumps({"sections": content}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Returns the report that `to_json` wrote."""
        return cls({name: _section(raw) for name, raw in json.loads(text)["sections"].items()})

    @classmethod
    def at(cls, path: Path) -> "Report":
        """Returns the report in a file, or an empty one where there is no file."""
        return cls.from_json(path.read_text(encoding="utf-8")) if path.exists() else cls()

    def write(self, path: Path) -> None:
        """Writes the JSON, whole or not at all."""
        write_text(path, self.to_json())


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def _section(raw: dict[str, Any]) -> Section:
    tables = [
        Table(t["title"], [Column(**c) for c in t["columns"]], t["rows"], t["note"])
        for t in raw["tables"]
    ]
    bars = [Bar(**bar) for bar in raw["bars"]]
    return Section(raw["name"], raw["environment"], tables, bars, raw["figure"])
