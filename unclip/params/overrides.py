"""Params with changes, as after `dvc exp run -S`."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from unclip.config.errors import UserError, first_line
from unclip.params.loading import load_params, read_raw, validate_params
from unclip.params.sections import Params


def load_changed_params(path: Path, changes: Sequence[str]) -> Params:
    """Returns the validated params of a YAML file in which DVC has made changes.

    Args:
        path: the file, which is not changed.
        changes: KEY=VALUE.

    Raises:
        UserError: one line for each problem, with the file and the key.
    """
    if not changes:
        return load_params(path)
    from dvc.exceptions import InvalidArgumentError
    from dvc.utils.hydra import apply_overrides

    with TemporaryDirectory() as folder:
        copy = Path(folder) / "params.json"
        copy.write_text(json.dumps(read_raw(path)), encoding="utf-8")
        try:
            apply_overrides(copy, list(changes))
        except InvalidArgumentError as error:
            reason = first_line(error.__cause__ or error)
            raise UserError(f"-S {' -S '.join(changes)}: {reason}; expected KEY=VALUE") from None
        return validate_params(json.loads(copy.read_text(encoding="utf-8")), where=str(path))
