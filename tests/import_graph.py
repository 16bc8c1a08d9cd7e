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
    """Returns the dotted names that a file imports, inside functions too, `a.b` for `from a import b`.

    That of `from a import b` may be a module or something in one; `a` stands beside it.
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


def import_closure(source: str) -> set[str]:
    """Returns the file and all files of this repository that it imports, directly or not."""
    seen, waiting = set(), {source}
    while waiting:
        seen |= waiting
        waiting = {found for each in waiting for found in imported_files(each)} - seen
    return seen
