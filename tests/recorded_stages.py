"""Runs every stage on tiny params and notes which values and files each of them really touches.

A process of its own, `PYTHONPATH=<repo> python recorded_stages.py FOLDER`, because an audit hook
cannot be taken away again. Prints JSON: stage → `values` and `files` that it read, `written`
files.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import yaml
from tiny_params import REPO, tiny_params, write_params

from unclip.config.layout import Layout
from unclip.params.loading import load_params
from unclip.running.stage import handed
from unclip.tracking.workspace import read_workspace
from unclip.training import run as training


class Noted:
    """A section that notes each of its values when it is read, not when it is copied as a whole."""

    def __init__(self, section: Any, prefix: str, reads: set[str]) -> None:
        self._section, self._prefix, self._reads = section, prefix, reads

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._section, name)
        if name == "model_dump":
            return lambda: NotedDict(value(), self._prefix, self._reads)
        if hasattr(value, "model_dump"):
            return Noted(value, f"{self._prefix}.{name}", self._reads)
        self._reads.add(f"{self._prefix}.{name}")
        return value


class NotedDict(Mapping[str, Any]):
    """What `model_dump` gives, with the same notes: `f(**options)` reads every key of it."""

    def __init__(self, values: dict[str, Any], prefix: str, reads: set[str]) -> None:
        self._values, self._prefix, self._reads = values, prefix, reads

    def __getitem__(self, key: str) -> Any:
        self._reads.add(f"{self._prefix}.{key}")
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Watch:
    """Notes the files below a folder that are opened for reading or that change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: set[str] = set()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            path = Path(os.path.abspath(arguments[0]))
            if not arguments[2] & (os.O_WRONLY | os.O_RDWR) and path.is_relative_to(self.folder):
                self.opened.add(path.relative_to(self.folder).as_posix())

    def state(self) -> set[tuple[str, int]]:
        """Returns every file with the time of its last change."""
        return {
            (path.relative_to(self.folder).as_posix(), path.stat().st_mtime_ns)
            for path in self.folder.rglob("*")
            if path.is_file()
        }


def record(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Returns the notes of every stage, run in the order of dvc.yaml."""
    values = tiny_params()
    for section in values.values():
        if "precision" in section:
            section["precision"] = "fp32"  # Accelerate has one precision for a process
    write_params(folder / "params.yaml", values)
    stages = yaml.safe_load((REPO / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    training.StageRun = MagicMock()  # type: ignore[misc]  # which is told values without using them
    params, layout, watch = load_params(folder / "params.yaml"), Layout(folder), Watch(folder)
    notes = {}
    for stage, about in stages.items():
        module, reads = importlib.import_module(f"stages.{stage}"), set[str]()
        before = watch.state()
        watch.opened = set()
        sections = handed(params, about["params"])
        module.run(layout, **{s: Noted(values, s, reads) for s, values in sections.items()})
        written = {name for name, _ in watch.state() - before}
        notes[stage] = {"values": reads, "files": watch.opened, "written": written}
    notes["report"]["files"] |= files_of_report(folder, watch)
    return {s: {kind: sorted(found) for kind, found in n.items()} for s, n in notes.items()}


def files_of_report(folder: Path, watch: Watch) -> set[str]:
    """Returns what the record in MLflow is made of, where there is no MLflow to record it."""
    (folder / "dvc.lock").write_text("stages: {}\n", encoding="utf-8")
    watch.opened = set()
    contents = read_workspace(folder)
    pictures = {path.as_posix() for path in (*contents.pictures, *contents.painted.values())}
    return (watch.opened | pictures) - {"dvc.lock", "params.yaml"}


if __name__ == "__main__":
    print(json.dumps(record(Path(sys.argv[1]).resolve())))
