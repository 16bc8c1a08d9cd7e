"""Strict models of files, and one-line explanations of wrong values."""

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

LONGEST = 60  # characters of a value
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A model that refuses unknown keys, other types and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def checked(model: type[Model], raw: Any) -> Model:
    """Returns a value from JSON or YAML as a model.

    Raises:
        ValueError: it does not fit; one line explains the first mistake.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ValueError(explain(error.errors()[0])) from None


_WORDING = (
    (r"Input should be ", ""),
    (r"List should have (at (?:least|most) \d+ items?) .*", r"\1"),
    (r"a valid dictionary or instance of \w+", "a section with keys of its own"),
    (r"a valid integer", "an integer"),
    (r"a valid ", "a "),
)


def explain(problem: Any) -> str:
    """Returns a line for one of pydantic's errors: key, value, what was expected."""
    key, message = key_of(problem), problem["msg"]
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] == "value_error":
        message = message.removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    for pydantic, ours in _WORDING:
        message = re.sub(pydantic, ours, message)
    return f"{key or 'the file'}: {short(problem['input'])} is not allowed; expected {message}"


def key_of(problem: Any) -> str:
    """Returns the dotted key of one of pydantic's errors, printable and never blank."""
    return ".".join(one_line(str(part)) for part in problem["loc"])


def short(value: Any) -> str:
    """Returns a value as YAML writes it, shortened if it is long."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def one_line(text: str) -> str:
    """Returns a text, quoted and escaped unless it shows on one line."""
    return text if text.isprintable() and text.strip() else repr(text)
