"""YAML as DVC reads and writes it: scalars of YAML 1.2 and no key twice."""

import re
from typing import Any

import yaml

MOST_DIGITS = 100  # of an integer; Python can not print, nor turn into a float, much longer ones


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which alone reads 1e-5 as a string and keeps the last of two keys."""


# YAML 1.2's core schema and nothing else: yes, 1_000, 12:30 and 2026-01-01 are text.
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _SCALARS:  # the first that matches wins: an integer is a float too
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first
    )


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if len(text) > MOST_DIGITS:
        line = node.start_mark.line + 1
        raise ValueError(f"line {line}: a number of more than {MOST_DIGITS} digits")
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise ValueError(f"line {key_node.start_mark.line + 1}: key {key!r} is not text")
        if key in seen:
            raise ValueError(f"line {key_node.start_mark.line + 1}: key '{key}' stands here twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(text: str) -> Any:
    """Returns the content of a YAML text as Python values.

    Raises:
        ValueError: the text is not YAML, or a key stands twice in one mapping or is not text.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except ValueError:
        raise
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    # PyYAML's own constructors stumble over tags that do not fit, such as `!!bool maybe`.
    except (TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"a value or tag that can not be read ({error})") from None
