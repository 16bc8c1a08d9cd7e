"""Where a process's main thread spends its time, by category, none of it counted twice.

Knows only the standard library, so that loading it adds nothing to what it measures.
"""

import functools
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Exclusive seconds by category: what begins inside another interrupts it.

    Attributes:
        spent: category to seconds.
        laps: seconds of each item of a timed iterator.
    """

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.laps: list[float] = []
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def within(self, category: str) -> Iterator[None]:
        """Counts the time of a block, on the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._charge()
        self._open.append(category)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self) -> None:
        """Gives the time since the last change to the category that was open."""
        now = time.perf_counter()
        if self._open:
            self.spent[self._open[-1]] += now - self._since
        self._since = now

    def timed(self, category: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, its time counted."""

        @functools.wraps(function)
        def counted(*arguments: Any, **options: Any) -> Any:
            with self.within(category):
                return function(*arguments, **options)

        return counted

    def timed_iterator(self, category: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function whose iterator's items are counted, and each noted as a lap."""

        @functools.wraps(function)
        def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
            iterator = function(*arguments, **options)
            while True:
                start = time.perf_counter()
                with self.within(category):
                    item = next(iterator, None)
                if item is None:
                    return
                self.laps.append(time.perf_counter() - start)
                yield item

        return counted


def replace_attribute(target: str, wrap: Callable[[Callable[..., Any]], Any]) -> None:
    """Puts a wrapped function wherever the loaded modules of ours hold the original.

    Args:
        target: `module:function` or `module:Class.method`; nothing happens where the module is not
            loaded, since then nobody calls it.
        wrap: from the function to what takes its place.

    Raises:
        AttributeError: the module has no such name.
    """
    module_name, _, path = target.partition(":")
    module = sys.modules.get(module_name)
    if module is None:
        return
    owner_path, _, name = path.rpartition(".")
    if owner_path:
        owner = getattr(module, owner_path)
        setattr(owner, name, wrap(getattr(owner, name)))
        return
    original = getattr(module, name)
    wrapped = wrap(original)
    ours = [m for n, m in list(sys.modules.items()) if n.split(".")[0] in ("stages", "unclip")]
    for holder in (module, *ours):
        for key, value in list(vars(holder).items()):
            if value is original:
                setattr(holder, key, wrapped)
