"""Contenders in processes of their own: no setting of one (determinism, precision) meets another.

Processes wait on a pipe while it is another's turn, which costs nothing.
"""

import contextlib
import gc
import multiprocessing
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Work:
    """Something that can be done again and again.

    Attributes:
        run: does `count` units.
        facts: what is known of a unit: `pictures`, `flops`, `parameters` and the like.
    """

    run: Callable[[int], None]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Worker:
    """A process that builds and runs works; it starts when it is first needed."""

    def __init__(self) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._connection, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_serve, args=(theirs,), daemon=True)

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()
        self._connection.close()

    def forget(self) -> None:
        """Drops all works that were built, and their memory."""
        if self._process.is_alive():
            self._ask("forget", None, None)

    def build(self, factory: Callable[..., Work], *arguments: Any, **options: Any) -> "RemoteWork":
        """Returns the work that `factory(*arguments, **options)` makes in that process.

        Args:
            factory: a function of a module, so that the process can import it.
            *arguments: anything that can be pickled.
            **options: likewise.

        Raises:
            RuntimeError: it failed there; the message is the traceback.
        """
        key, facts = self._ask("build", factory, (arguments, options))
        return RemoteWork(self, key, facts)

    def time(self, key: int, count: int) -> float:
        """Returns the seconds that `count` units of a work take."""
        seconds: float = self._ask("time", key, count)
        return seconds

    def _ask(self, *question: Any) -> Any:
        if self._process.pid is None:
            self._process.start()
        self._connection.send(question)
        try:
            succeeded, answer = self._connection.recv()
        except EOFError:
            raise RuntimeError("a contender's process died (out of memory?)") from None
        if not succeeded:
            raise RuntimeError(f"a contender failed in its process:\n{answer}")
        return answer


class Workers:
    """The three processes of a run; a context manager.

    Attributes:
        ours: our own work at the precision that it ships with.
        fp32: our own work in float32; Accelerate allows a process one precision.
        theirs: what others do; no global setting of ours reaches it.
    """

    def __init__(self) -> None:
        self.ours, self.fp32, self.theirs = Worker(), Worker(), Worker()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in (self.ours, self.fp32, self.theirs):
            worker.close()

    def forget(self) -> None:
        """Drops the works of a section before the next one begins."""
        for worker in (self.ours, self.fp32, self.theirs):
            worker.forget()


@dataclass(frozen=True)
class RemoteWork:
    """A work in another process; a `timing.Contender`.

    Attributes:
        worker: where it is done.
        key: its number there.
        facts: as `Work.facts`.
    """

    worker: Worker
    key: int
    facts: Mapping[str, Any]

    def seconds(self, count: int) -> float:
        """Returns the seconds that `count` units take, measured in that process."""
        return self.worker.time(self.key, count)


def _serve(connection: Connection) -> None:
    """Answers the questions of a Worker until it ends this process."""
    import torch

    from unclip.config.settings import num_threads

    torch.set_num_threads(num_threads())
    works: list[Work] = []
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            question = connection.recv()
            try:
                connection.send((True, _answer(works, *question)))
            except Exception:
                connection.send((False, traceback.format_exc()))


def _answer(works: list[Work], kind: str, subject: Any, argument: Any) -> Any:
    if kind == "build":
        arguments, options = argument
        works.append(subject(*arguments, **options))
        return len(works) - 1, dict(works[-1].facts)
    if kind == "forget":
        works.clear()
        gc.collect()
        return None
    return _time(works[subject].run, argument)


def _time(run: Callable[[int], None], count: int) -> float:
    import torch

    start = time.perf_counter()
    run(count)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
