"""Strict models of what is read from files, and what is wrong with a value, in one line."""

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

LONGEST = 60  # characters of a value that are shown
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Unknown keys refused, types strict, values frozen, numbers finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def checked(model: type[Model], raw: Any, context: Any = None) -> Model:
    """Returns what is read from JSON or YAML as a model.

    Args:
        model: what it must be.
        raw: what was read.
        context: what the model's validators are given, if they need any.

    Raises:
        ValueError: it is not; the message is one line on the first mistake.
    """
    try:
        return model.model_validate(raw, context=context)
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
    """Returns one of pydantic's errors as a line: key, what it is, what was expected."""
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
    """Returns where one of pydantic's errors is, by its keys, printable and never blank."""
    return ".".join(one_line(str(part)) for part in problem["loc"])


def short(value: Any) -> str:
    """Returns a value as it stands in YAML, cut where it is long."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def one_line(text: str) -> str:
    """Returns a text as it is, or quoted and escaped where that would not show on one line."""
    return text if text.isprintable() and text.strip() else repr(text)
