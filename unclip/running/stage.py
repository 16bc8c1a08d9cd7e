"""How DVC's commands call a stage: `python -m stages.NAME` ends in `main` here."""

import os
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from unclip.config.errors import TOO_LITTLE_MEMORY, UserError, is_out_of_memory
from unclip.config.layout import Layout, declared
from unclip.config.settings import main_repository
from unclip.config.streams import replace_what_cannot_be_shown
from unclip.params.loading import load_params
from unclip.params.sections import Params
from unclip.running.processes import end_with_starter, is_to_explain, num_to_start, run_in


def main(stage: str, run: Callable[..., None], *, is_shared: bool = False) -> None:
    """Runs a stage in the current folder and ends the process with its exit status.

    All of params.yaml is validated, but `run(layout, **sections)` is handed only what dvc.yaml
    lists for it: reading another value fails at once instead of going stale.

    Args:
        stage: its name in dvc.yaml.
        run: its work.
        is_shared: whether several processes can share that work.
    """
    replace_what_cannot_be_shown()
    # Like Ctrl-C: `with` statements are left in order, and the status is not 0.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with_starter()
    try:
        status = exit_status(stage, run, Layout(), is_shared=is_shared)
    finally:  # it ends anyway: a late signal would only add a traceback
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(status)


def handed(params: Params, keys: list[str]) -> dict[str, Any]:
    """Returns the sections that a stage may read, reduced to the values that it declares.

    Args:
        params: all of them.
        keys: as in dvc.yaml: "sample" is a whole section, "sample.steps" one value of it.
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
    """Returns 0 when the stage has done its work, else prints one line for the user."""
    try:
        params = _load(layout)
        sections = handed(params, declared(layout.root / "dvc.yaml", stage, "params"))
        if (count := num_to_start(stage, is_shared)) > 1:
            return run_in(count, stage)
        run(layout, **sections)
    except (Exception, KeyboardInterrupt) as error:
        if is_to_explain(error):
            for line in _explain(stage, error):
                print(f"error: {line}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _load(layout: Layout) -> Params:
    """Returns all params; says what a refused experiment leaves behind."""
    try:
        return load_params(layout.params)
    except UserError as error:
        # A temporary workspace is deleted, the user's own folder is not.
        if "DVC_EXP_NAME" not in os.environ or not layout.root.samefile(main_repository()):
            raise
        raise UserError(
            f"{error}\n{layout.params}: keeps what -S changed, and the next `dvc repro` would use "
            "it; `git diff params.yaml` shows what to set back"
        ) from None


def _explain(stage: str, error: BaseException) -> list[str]:
    """Returns what to tell the user; raises an unknown error anew, for its traceback."""
    if isinstance(error, UserError):
        return str(error).splitlines()
    if isinstance(error, OSError):  # a full disk, a folder that cannot be written to
        return [f"{stage}: {' '.join(str(error).split())}; mend that, and `dvc repro` goes on"]
    if is_out_of_memory(error):
        return [f"{stage}: {TOO_LITTLE_MEMORY}; `dvc repro` goes on"]
    if isinstance(error, KeyboardInterrupt):
        return [f"{stage} was interrupted; `dvc repro` goes on with it"]
    raise error
