"""What the files of a workspace say about an experiment. Knows nothing of MLflow."""

import csv
import hashlib
import json
import math
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unclip.config.yaml12 import load_yaml
from unclip.core.artifacts import WEIGHTS, weights_hash

# Pictures worth keeping with the record, and the files from which a state can be brought back.
PICTURES = ("samples/*.png", "samples/sweep/*.png", "plots/*.png")
PAINTED = "samples/train_decoder/step_*.png"
FILES = ("params.yaml", "dvc.lock")
CODE = ("params.yaml", "dvc.yaml", "unclip", "stages")
# What `dvc.lock` says of a file beside its path and hash can differ between machines.
INCIDENTAL = {"path", "size", "nfiles", "isexec", "hash"}


@dataclass(frozen=True)
class Contents:
    """An experiment as its files tell it.

    Attributes:
        digest: names the state of the DAG (see `experiment_digest`).
        params: params.yaml, flattened.
        metrics: metrics/<name>.json as `<name>.<dotted key>`.
        curves: history/<stage>.csv as `<stage>/<column>`, each a list of (step, value); by the
            slash MLflow's pages give each stage a section of charts, and a final figure never
            falls into a curve.
        pictures: paths relative to the workspace.
        painted: training step → what the decoder painted then, relative to the workspace.
        checkpoints: kind of model → hash of its weights, the `output_hash` of the run that made it.
        data_hash: DVC's hash of the prepared data; "" where there is none.
    """

    digest: str
    params: dict[str, str]
    metrics: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]
    pictures: list[Path]
    painted: dict[int, Path]
    checkpoints: dict[str, str]
    data_hash: str


def read_workspace(folder: Path) -> Contents:
    """Returns what stands in the files of `folder`; what is missing is left out.

    Raises:
        ValueError: dvc.lock or params.yaml is missing, or a file can not be parsed.
    """
    lock, params = _load_yaml(folder / "dvc.lock"), _load_yaml(folder / "params.yaml")
    pictures = {path for pattern in PICTURES for path in folder.glob(pattern)}
    painted = sorted(folder.glob(PAINTED))
    models = sorted(path.parent for path in folder.glob(f"models/*/{WEIGHTS}"))
    prepared = _stages(lock).get("prepare", {}).get("outs", [])
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
    """Returns a nested mapping as dotted key → text; equal numbers give equal text."""
    return {key: _to_text(value) for key, value in _leaves(values)}


def experiment_digest(lock: Mapping[str, Any]) -> str:
    """Returns a SHA-256 over what went into and came out of each stage but `report`.

    `lock` is the parsed dvc.lock. Report's own entry is left out: it is stale while report runs.
    Sizes and the order of entries do not count.
    """
    states = {
        name: {
            "deps": _hashes(stage.get("deps", [])),
            "outs": _hashes(stage.get("outs", [])),
            "params": stage.get("params", {}),
        }
        for name, stage in _stages(lock).items()
        if name != "report"
    }
    canonical = json.dumps(states, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def experiment_name() -> str:
    """Returns the name of the running DVC experiment, "" outside `dvc exp run`."""
    return os.environ.get("DVC_EXP_NAME", "")


def find_commit(root: Path) -> str:
    """Returns the commit an experiment started from, else HEAD; "" without git."""
    return os.environ.get("DVC_EXP_BASELINE_REV") or _git(root, "rev-parse", "HEAD")


def has_changes(workspace: Path) -> bool:
    """Returns whether code or params differ from the commit."""
    return bool(_git(workspace, "status", "--porcelain", "--", *CODE))


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _stages(lock: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return (lock or {}).get("stages") or {}


def _hashes(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        entry["path"]: {key: entry[key] for key in entry if key not in INCIDENTAL}
        for entry in entries
    }


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and (values or not prefix):
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _read_metrics(paths: list[Path]) -> dict[str, float]:
    found = {}
    for path in paths:
        for key, value in _leaves(_load_json(path), path.stem):
            if isinstance(value, (int, float)) and math.isfinite(value):
                found[key] = float(value)
    return found


def _load_yaml(path: Path) -> Any:
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path.name}: missing in {path.parent}; run `dvc repro` first") from error
    except (yaml.YAMLError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path.name}: can not be read ({text})") from error


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.parent.name}/{path.name}: {error}") from error


def _read_curves(paths: list[Path]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                try:
                    _add_row(curves, path.stem, row)
                except (KeyError, TypeError, ValueError) as error:
                    where = f"{path.parent.name}/{path.name}, line {number}"
                    raise ValueError(f"{where}: {error!r}; expected numbers and a step") from error
    return curves


def _add_row(
    curves: dict[str, list[tuple[int, float]]], stage: str, row: dict[str, str | None]
) -> None:
    step = int(float(row.pop("step") or ""))
    for column, cell in row.items():
        if cell and math.isfinite(value := float(cell)):
            curves.setdefault(f"{stage}/{column}", []).append((step, value))
