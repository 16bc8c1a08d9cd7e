"""What a run found: tables of raw figures as JSON, and as Markdown for people.

The JSON keeps figures as they were measured; how one is shown stands beside it, in its column.
"""

import json
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from unclip.config.settings import num_threads

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Figures of one question; a row may hold more than its columns show.

    Attributes:
        title: what is compared.
        columns: key of the rows -> heading, with the unit, and format of a number.
        rows: raw figures: seconds, floating-point operations.
        note: how it was measured.
    """

    title: str
    columns: Mapping[str, Sequence[str]]
    rows: Sequence[Row]
    note: str = ""


def describe_machine() -> dict[str, Any]:
    """Returns where, when and by which command figures are measured; memory in bytes."""
    import torch

    return {
        "processor": _processor(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": psutil.cpu_count(logical=False),
        "threads": num_threads(),
        "memory": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "torch": version("torch"),
        "diffusers": version("diffusers"),
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
    }


def _processor() -> str:
    """Returns the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def add_section(folder: Path, name: str, tables: Sequence[Table]) -> str:
    """Puts a section in the place of the last one of its name, in JSON and Markdown.

    Args:
        folder: for benchmarks.json and benchmarks.md; other sections in them are kept.
        name: of the section.
        tables: what was found.

    Returns:
        The section in Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "benchmarks.json"
    sections = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[name] = {"machine": describe_machine(), "tables": [asdict(table) for table in tables]}
    path.write_text(json.dumps(sections, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    texts = {name: to_markdown(name, **section) for name, section in sections.items()}
    (folder / "benchmarks.md").write_text("\n".join(texts.values()), encoding="utf-8")
    return texts[name]


def to_markdown(name: str, machine: Row, tables: Iterable[Row]) -> str:
    """Returns a section of the JSON in Markdown, under a heading of the second level."""
    where = machine["accelerator"] or machine["processor"]
    lines = [
        f"## {name.capitalize()}\n",
        f"*{where}, {machine['cores']} cores, {machine['threads']} threads,",
        f"{machine['memory'] / 2**30:.0f} GiB, torch {machine['torch']}, {machine['date']}:",
        f"`{machine['command']}`*\n",
    ]
    for table in tables:
        headings = [heading for heading, _ in table["columns"].values()]
        lines += [f"### {table['title']}\n", _line(headings)]
        lines += [_line("---" if i == 0 else "--:" for i in range(len(headings)))]
        for row in table["rows"]:
            shown = table["columns"].items()
            lines.append(_line(_cell(row.get(key), form) for key, (_, form) in shown))
        lines += ["", f"{table['note']}\n"] if table["note"] else [""]
    return "\n".join(lines)


def _cell(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
