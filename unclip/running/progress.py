"""Progress of long work with the time left: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0


class Bar:
    """The progress of one piece of work; see `progress`."""

    def __init__(self, description: str, total: int, done: int, shown: bool) -> None:
        self.description, self.total, self.done, self._before = description, total, done, done
        self._shown = shown
        self._start = self._last_line = time.monotonic()
        self._rich: Progress | None = None
        if shown and done:
            print(f"{description}: goes on from step {done} of {total}", file=sys.stderr)
        if shown and sys.stderr.isatty():
            self._rich = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._rich.add_task(description, total=total, completed=done, note="")
            self._rich.start()

    def advance(self, count: int = 1, note: str = "", loss: float | None = None) -> None:
        """Reports `count` more units as done, with a short note or a training's loss."""
        self.done += count
        if loss is not None:
            note = f"loss {loss:.4f}"
        now = time.monotonic()
        if self._rich is not None:
            self._rich.update(self._task, advance=count, note=note)
        elif self._shown and (
            now - self._last_line >= SECONDS_BETWEEN_LINES or self.done == self.total
        ):
            self._last_line = now
            pace = (now - self._start) / (self.done - self._before)
            seconds = pace * (self.total - self.done)
            line = f"{self.description}: {self.done}/{self.total}, {seconds:.0f} s left {note}"
            print(line.rstrip(), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Takes the bar down."""
        if self._rich is not None:
            self._rich.stop()


@contextmanager
def progress(description: str, total: int, done: int = 0, shown: bool = True) -> Iterator[Bar]:
    """Gives a bar whose `advance` follows each unit of work; it is taken down at the end.

    Args:
        description: of the work.
        total: number of units.
        done: units done before; if there are any, a line says so.
        shown: False shows nothing, because another process shows the same work.
    """
    bar = Bar(description, total, done, shown)
    try:
        yield bar
    finally:
        bar.close()


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yields the items and shows how many of them are done."""
    with progress(description, total) as bar:
        for item in items:
            yield item
            bar.advance()
