"""Stands in for a stage: writes into each of its outs a digest of its declared deps and params.

`python stand_in.py STAGE`, in a repository with dvc.yaml and params.yaml. So an out changes when
anything that the stage declares does, and only then. Notes its name in $STAND_IN_LOG.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml


def contents(path: Path) -> str:
    """Returns a digest of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and file.suffix != ".pyc":
            digest.update(f"{file}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def resolved(dep: str, params: dict[str, Any]) -> str:
    """Returns the path of a dep that may be named by params: ${section.key}."""
    if not dep.startswith("${"):
        return dep
    value: Any = params
    for key in dep[2:-1].split("."):
        value = value[key]
    return str(value)


def main(stage: str) -> None:
    """Does what the stage would do, in no time."""
    about = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    seen = [contents(Path(resolved(dep, params))) for dep in about.get("deps", [])]
    for key in about.get("params", []):
        section, _, value = key.partition(".")
        seen.append(params[section][value] if value else params[section])
    text = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()
    for entry in [*about.get("outs", []), *about.get("metrics", [])]:
        out = Path(entry if isinstance(entry, str) else next(iter(entry)))
        out = out if out.suffix else out / "digest.txt"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(f"{stage} {text}\n", encoding="utf-8")
    with Path(os.environ["STAND_IN_LOG"]).open("a", encoding="utf-8") as log:
        log.write(f"{stage}\n")


if __name__ == "__main__":
    main(sys.argv[1])
