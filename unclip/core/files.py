"""Files and folders written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what is written there takes its place at the end.

    A reader meets the old file or folder, or the whole new one. Where the writing fails, the old
    one stays and nothing else is left.

    Args:
        path: a file or a folder, there already or not; missing folders above it are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    _remove(temporary)  # left by a process that was killed
    try:
        yield temporary
        if temporary.is_dir():
            _remove(path)  # no system call puts a folder in place of another
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
