"""Strict validation of all of params.yaml before any work."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from unclip.config.errors import UserError
from unclip.config.strict import explain, key_of
from unclip.config.yaml12 import load_yaml
from unclip.params.checks import problems_of
from unclip.params.sections import PaintingParams, Params, SampleParams

AnyParams = TypeVar("AnyParams", Params, PaintingParams)


def load_params(path: Path) -> Params:
    """Returns the validated params of a YAML file.

    Raises:
        UserError: one line for each problem, with the file and the key.
    """
    return validate_params(read_raw(path), where=str(path))


def load_painting_params(path: Path) -> PaintingParams:
    """Returns the painting params of a YAML file, from this version or another.

    Raises:
        UserError: as for `load_params`.
    """
    return _validated(PaintingParams, read_raw(path), where=str(path))


def changed_sample(defaults: PaintingParams, changes: Mapping[str, Any]) -> SampleParams:
    """Returns the sample section of `defaults` with `changes` from options.

    Raises:
        UserError: one line for each unknown or wrong option.
    """
    raw = defaults.model_dump()
    raw["sample"] |= changes
    return _validated(PaintingParams, raw, where="options").sample


def read_raw(path: Path) -> Any:
    """Returns what a YAML file holds, not validated; raises UserError if it cannot be read."""
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: not found; run from the folder that contains params.yaml"
        ) from None
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None


def validate_params(raw: Any, where: str = "params.yaml") -> Params:
    """Returns the validated params of a nested dict; `where` names it in errors.

    Raises:
        UserError: one line for each problem.
    """
    return _validated(Params, raw, where)


def _validated(model: type[AnyParams], raw: Any, where: str) -> AnyParams:
    try:
        params = model.model_validate(raw)
        lines = problems_of(params)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
    if lines:
        raise UserError("\n".join(f"{where}: {line}" for line in lines))
    return params


def _explain(problem: Any) -> str:
    """Returns a line for one of pydantic's errors."""
    if problem["type"] == "extra_forbidden":
        near = _nearest(problem["loc"])
        return f"{key_of(problem)}: unknown key{near}; remove it or correct its name"
    if problem["type"] == "missing":
        return f"{key_of(problem)}: missing; every value is written in params.yaml, add it"
    return explain(problem)


def _nearest(location: tuple[Any, ...]) -> str:
    """Returns " (did you mean …?)" if a known key of the section resembles the unknown one."""
    model: Any = Params
    for part in location[:-1]:
        model = model.model_fields[part].annotation
    near = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
    return f" (did you mean {'.'.join([*map(str, location[:-1]), near[0]])}?)" if near else ""
