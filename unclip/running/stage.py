"""How DVC's commands call a stage: `python -m stages.NAME` ends in `main` here."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unclip.config.errors import TOO_LITTLE_MEMORY, UserError, is_out_of_memory
from unclip.config.layout import Layout
from unclip.config.yaml12 import load_yaml
from unclip.params.loading import load_params
from unclip.params.sections import Params
from unclip.running.orphan import end_with_dvc, end_with_launcher
from unclip.running.preflight import require_inception
from unclip.running.processes import (
    has_another_failed_before,
    has_lost_another,
    num_started,
    num_to_start,
    run_in,
)


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


def main(stage: str, run: Callable[..., None], *, is_shared: bool = False) -> None:
    """Runs a stage in the current folder and ends the process with its exit status.

    All of params.yaml is validated; `run(layout, **sections)` is handed only what dvc.yaml lists
    for it, so that reading another value fails at once instead of going stale.

    Args:
        stage: its name in dvc.yaml.
        run: its work.
        is_shared: whether several processes can share that work, if the machine's settings ask so.
    """
    # As Ctrl-C: with statements are left in order, and the status is not 0.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with_dvc()
    end_with_launcher()
    try:
        status = exit_status(stage, run, Layout(), is_shared=is_shared)
    finally:  # it ends anyway: a late signal would only add a traceback
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(status)


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


def exit_status(
    stage: str, run: Callable[..., None], layout: Layout, *, is_shared: bool = False
) -> int:
    """Returns 0 when the stage did its work, else prints one line for the user.

    Of several processes that share the work only the first to fail prints: the others fail because
    it did.
    """
    try:
        params = load_params(layout.params)
        if params.evaluate.inception:
            require_inception()  # at the first stage, and not after all trainings
        sections = handed(params, declared(layout.root / "dvc.yaml", stage, "params"))
        if (count := num_to_start(stage, is_shared)) > 1:
            return run_in(count, stage)
        run(layout, **sections)
    except (Exception, KeyboardInterrupt) as error:
        if num_started() > 1:  # the launcher, which ends the others now, must not cut this short
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        is_bereft = has_lost_another(error)  # asked first: who is told next that it failed ends too
        if not has_another_failed_before():
            for line in _explained(stage, error, is_bereft):
                print(f"error: {line}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _explained(stage: str, error: BaseException, is_bereft: bool) -> list[str]:
    """Returns what to tell the user of an error.

    Args:
        stage: its name.
        error: what ended it.
        is_bereft: whether another of its processes ended before.

    Raises:
        BaseException: that error, where nothing is known of it; the traceback is what is needed.
    """
    if isinstance(error, UserError):
        return str(error).splitlines()
    said = " ".join(str(error).split())
    if isinstance(error, OSError):  # a full disk, a folder that can not be written to
        return [f"{stage}: {said}; mend that, and `dvc repro` goes on"]
    if is_out_of_memory(error):
        return [f"{stage}: {TOO_LITTLE_MEMORY}; `dvc repro` goes on"]
    if is_bereft:
        return [
            f"{stage}: another of its processes ended without a word (killed, or out of memory?); "
            "`dvc repro` goes on with it"
        ]
    if isinstance(error, KeyboardInterrupt):
        return [f"{stage} was interrupted; `dvc repro` goes on with it"]
    raise error
