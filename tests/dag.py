"""dvc.yaml read plainly: what each stage declares, and who comes after whom."""

from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parent.parent
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((REPO / "dvc.yaml").read_text(encoding="utf-8"))[
    "stages"
]
CODE = ("stages/", "unclip/")


def code_deps(stage: str) -> list[str]:
    """Returns the files and folders of code that a stage depends on."""
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith(CODE)]


def data_deps(stage: str) -> list[str]:
    """Returns the files and folders that other stages make and a stage depends on."""
    return [dep for dep in STAGES[stage]["deps"] if not dep.startswith(CODE)]


def outs(stage: str) -> list[str]:
    """Returns what a stage makes, its metrics too."""
    entries = [*STAGES[stage].get("outs", []), *STAGES[stage].get("metrics", [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def is_within(path: str, whole: str) -> bool:
    """Returns whether a path is a file or folder itself, or lies below it."""
    return Path(path).is_relative_to(whole)


def downstream(changed: set[str]) -> set[str]:
    """Returns the stages and all that depend on what they make, directly or not."""
    reached = set(changed)
    while True:
        made = [out for stage in reached for out in outs(stage)]
        more = {
            stage
            for stage in STAGES
            for dep in data_deps(stage)
            if any(is_within(dep, out) or is_within(out, dep) for out in made)
        }
        if more <= reached:
            return reached
        reached |= more
