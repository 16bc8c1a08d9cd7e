"""An experiment as the files of a workspace tell it. Knows nothing of MLflow."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unclip.config.errors import UserError
from unclip.config.git import run_git
from unclip.config.yaml12 import load_yaml
from unclip.core.artifacts import WEIGHTS, weights_hash
from unclip.pictures.history import read_history
from unclip.tracking.address import find_root

# Pictures that the record keeps, and the files that bring a state back.
PICTURES = ("samples/*.png", "samples/sweep/*.png", "plots/*.png")
PAINTED = "samples/train_decoder/step_*.png"
FILES = ("params.yaml", "dvc.lock")
CODE = ("params.yaml", "dvc.yaml", "unclip", "stages")
# Facts of a file in `dvc.lock` that can differ between machines.
INCIDENTAL = {"path", "size", "nfiles", "isexec", "hash"}


@dataclass(frozen=True)
class Contents:
    """An experiment as its files tell it; paths are relative to the workspace."""

    digest: str  # names the state of the DAG (see `experiment_digest`)
    params: dict[str, str]  # params.yaml, flattened
    metrics: dict[str, float]  # metrics/<name>.json as `<name>.<dotted key>`
    # history/<stage>.csv as `<stage>/<column>`, lists of (step, value): the slash gives each stage
    # a section of charts in MLflow, and keeps curves apart from final figures.
    curves: dict[str, list[tuple[int, float]]]
    pictures: list[Path]
    painted: dict[int, Path]  # training step → what the decoder painted then
    checkpoints: dict[str, str]  # kind of model → SHA-256 of its weights
    data_hash: str  # DVC's of the prepared data; "" if there is none


def read_workspace(folder: Path) -> Contents:
    """Returns what the files of `folder` tell; missing ones are left out.

    Raises:
        UserError: dvc.lock or params.yaml is missing, or a file cannot be read.
    """
    lock, params = (_load(folder / name, load_yaml) or {} for name in ("dvc.lock", "params.yaml"))
    pictures = {path for pattern in PICTURES for path in folder.glob(pattern)}
    painted = sorted(folder.glob(PAINTED))
    models = sorted(path.parent for path in folder.glob(f"models/*/{WEIGHTS}"))
    prepared = lock.get("stages", {}).get("prepare", {}).get("outs", [])
    return Contents(
        digest=experiment_digest(lock),
        params=flatten(params),
        metrics=_read_metrics(sorted(folder.glob("metrics/*.json"))),
        curves=_read_curves(sorted(folder.glob("history/*.csv"))),
        pictures=sorted(path.relative_to(folder) for path in pictures),
        painted={int(path.stem.split("_")[-1]): path.relative_to(folder) for path in painted},
        checkpoints={model.name: weights_hash(model) for model in models},
        data_hash=str(prepared[0].get("md5", "")).removesuffix(".dir") if prepared else "",
    )


def flatten(values: Mapping[str, Any]) -> dict[str, str]:
    """Returns a nested mapping as dotted key → text."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in _leaves(values)
    }


def experiment_digest(lock: Mapping[str, Any]) -> str:
    """Returns a SHA-256 over the inputs and outputs of each stage but `report` in a dvc.lock.

    Report's own entry is stale while report runs. Sizes and the order of entries do not count.
    """
    states = {
        name: {
            "deps": _hashes(stage.get("deps", [])),
            "outs": _hashes(stage.get("outs", [])),
            "params": stage.get("params", {}),
        }
        for name, stage in lock.get("stages", {}).items()
        if name != "report"
    }
    canonical = json.dumps(states, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _hashes(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        entry["path"]: {key: entry[key] for key in entry if key not in INCIDENTAL}
        for entry in entries
    }


def experiment_name() -> str:
    """Returns the name of the running DVC experiment; "" outside `dvc exp run`."""
    return os.environ.get("DVC_EXP_NAME", "")


def find_commit() -> str:
    """Returns the commit that the DVC experiment started from, else HEAD; "" without git."""
    return os.environ.get("DVC_EXP_BASELINE_REV") or _ask_git(find_root(), "rev-parse", "HEAD")


def has_changes(workspace: Path) -> bool:
    """Returns whether code or params differ from the commit; False without git."""
    return bool(_ask_git(workspace, "status", "--porcelain", "--", *CODE))


def _ask_git(folder: Path, *arguments: str) -> str:
    try:
        return run_git(folder, *arguments)
    except UserError:  # a record without a commit is better than none
        return ""


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and (values or not prefix):
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values


def _read_metrics(paths: Iterable[Path]) -> dict[str, float]:
    return {
        key: float(value)
        for path in paths
        for key, value in _leaves(_load(path, json.loads), path.stem)
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _read_curves(paths: Iterable[Path]) -> dict[str, list[tuple[int, float]]]:
    return {
        f"{path.stem}/{column}": [(step, value) for step, value in curve if math.isfinite(value)]
        for path in paths
        for column, curve in read_history(path).items()
    }


def _load(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run `dvc repro` first") from error
