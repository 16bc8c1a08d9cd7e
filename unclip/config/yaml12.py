"""YAML as DVC reads and writes it: scalars of YAML 1.2 and no key twice."""

import re
from typing import Any

import yaml

MOST_DIGITS = 100  # of an integer; Python can not print, nor turn into a float, much longer ones
MOST_VALUES = 100_000  # of a document with every alias written out


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which alone reads 1e-5 as a string and keeps the last of two keys."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Returns the next node: a few aliases of aliases would make more than memory holds."""
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        assert node is not None
        if not is_alias:
            self._sizes[node] = self._size_of(node)
        elif node not in self._sizes:
            raise ValueError(f"{_place(node)}: a value that holds itself")
        return node

    def _size_of(self, node: yaml.Node) -> int:
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        size = 1 + sum(self._sizes[part] for part in parts)
        if size > MOST_VALUES:
            raise ValueError(f"{_place(node)}: more than {MOST_VALUES} values")
        return size


def _place(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


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
        raise ValueError(f"{_place(node)}: a number of more than {MOST_DIGITS} digits")
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise ValueError(f"{_place(key_node)}: key {key!r} is not text")
        if key in seen:
            raise ValueError(f"{_place(key_node)}: key {key!r} stands here twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(text: str) -> Any:
    """Returns the content of a YAML text as Python values.

    Raises:
        ValueError: the text is not YAML, a key stands twice in one mapping or is not text, or
            aliases make more of it than anyone wrote; the message is one line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(_one_line(str(error))) from None
    # PyYAML's own constructors stumble over tags that do not fit, such as `!!bool maybe`.
    except (TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = _one_line(str(error))
        raise ValueError(f"a value or tag that can not be read ({reason})") from None


def _one_line(text: str) -> str:
    """Returns a message, which may quote the file, on one line and without what does not print."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
