"""YAML as DVC reads it: YAML 1.2 in which no key may appear twice."""

from typing import Any

from ruamel.yaml import YAML, YAMLError


def load_yaml(text: str) -> Any:
    """Returns the content of a YAML text as Python values.

    Raises:
        ValueError: the text is not YAML, or a key appears twice; the message is one line.
    """
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError, LookupError) as error:
        words = " ".join(str(error).split())
        raise ValueError("".join(c if c.isprintable() else repr(c)[1:-1] for c in words)) from None
