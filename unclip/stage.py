"""How DVC's commands call a stage: `python -m stages.NAME` ends in `main` here."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unclip.errors import UserError
from unclip.layout import Layout
from unclip.orphan import end_with_dvc
from unclip.params import Params, load_params
from unclip.yaml12 import load_yaml


def declared(dvc_yaml: Path, stage: str, what: str) -> list[str]:
    """Returns what dvc.yaml lists for a stage: its "deps", or its "params".

    Raises:
        UserError: dvc.yaml is missing or has no such stage.
    """
    try:
        stages = load_yaml(dvc_yaml.read_text(encoding="utf-8"))["stages"]
        return list(stages[stage].get(what, []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{dvc_yaml}: no stage {stage!r}; run from the folder that holds dvc.yaml"
        ) from None


def main(stage: str, run: Callable[..., None]) -> None:
    """Runs a stage in the current folder and ends the process with its exit status.

    All of params.yaml is validated; `run(layout, **sections)` is handed only what dvc.yaml lists
    for it, so that reading another value fails at once instead of going stale.

    Args:
        stage: its name in dvc.yaml.
        run: its work.
    """
    # As Ctrl-C: with statements are left in order, and the status is not 0.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with_dvc()
    sys.exit(exit_status(stage, run, Layout()))


def handed(params: Params, keys: list[str]) -> dict[str, Any]:
    """Returns the sections that a stage may read, of some only the values that it declares.

    Args:
        params: all of them.
        keys: as dvc.yaml lists them: "sample" is a whole section, "sample.steps" one value of it.
    """
    sections: dict[str, Any] = {}
    for key in keys:
        name, _, value = key.partition(".")
        section = getattr(params, name)
        if value:
            sections.setdefault(name, SimpleNamespace())
            setattr(sections[name], value, getattr(section, value))
        else:
            sections[name] = section
    return sections


def exit_status(stage: str, run: Callable[..., None], layout: Layout) -> int:
    """Returns 0 when the stage did its work, else prints one line for the user."""
    try:
        params = load_params(layout.params)
        run(layout, **handed(params, declared(layout.root / "dvc.yaml", stage, "params")))
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that can not be written to
        print(
            f"error: {stage}: {' '.join(str(error).split())}; mend that, and `dvc repro` goes on",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"error: {stage} was interrupted; `dvc repro` goes on with it", file=sys.stderr)
        return 130
    return 0
