"""What imports what, read from the source by `ast` alone, so that nothing is executed."""

import ast
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path.relative_to(REPO).as_posix()
    for path in (REPO / "cli.py", *REPO.glob("stages/**/*.py"), *REPO.glob("unclip/**/*.py"))
)


@cache
def imported_names(source: str) -> frozenset[str]:
    """Returns the dotted names that a file imports, also inside functions.

    `from a import b` gives both `a` and `a.b`, since b may be a module or something in one.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse((REPO / source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno}: a relative import hides what it names"
            assert node.module is not None
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def imported_packages(source: str) -> set[str]:
    """Returns the first part of every imported name."""
    return {name.partition(".")[0] for name in imported_names(source)}


def imported_files(source: str) -> set[str]:
    """Returns the files of this repository that a file imports; empty `__init__.py` left out."""
    found = {f"{name.replace('.', '/')}.py" for name in imported_names(source)}
    return found & set(SOURCES)


def import_closure(source: str, without: frozenset[str] = frozenset()) -> set[str]:
    """Returns the file and all files of this repository that it imports, directly or not.

    Files `without` are left out, and so is what only they import.
    """
    seen: set[str] = set()
    waiting = {source}
    while waiting:
        seen |= waiting
        waiting = {found for each in waiting for found in imported_files(each)} - seen - without
    return seen
