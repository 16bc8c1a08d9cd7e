"""Fair timing: contenders take turns, so that a busy moment of the machine falls on all of them.

They work in processes of their own, so that no setting of one (determinism, precision) meets
another. A process that waits for its turn costs nothing.
"""

import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

from unclip.config.settings import num_threads

WARM_UP = 2  # units in which kernels are chosen and memory is first touched
MAX_UNITS = 100_000


@dataclass(frozen=True)
class Work:
    """Something that can be done again and again.

    Attributes:
        run: does `count` units.
        facts: what is known of a unit: `pictures`, `flops`, `parameters` and the like.
    """

    run: Callable[[int], None]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Contender(NamedTuple):
    """A work, and where it is done.

    Attributes:
        process: its name; contenders of one name share a process.
        build: makes the work there; it can be pickled.
    """

    process: str
    build: Callable[[], Work]


@dataclass(frozen=True)
class Timing:
    """Seconds that a unit of a work took, in each turn.

    Attributes:
        seconds: one for each turn, at least one.
        facts: as of the work.
    """

    seconds: Sequence[float]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Returns the median, in seconds: what is usual here."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Returns the minimum, in seconds: what the machine can do undisturbed."""
        return min(self.seconds)


def take_turns(
    contenders: Mapping[str, Contender], *, rounds: int, turn_seconds: float
) -> dict[str, Timing]:
    """Returns the timing of each contender, by name; arguments as of `alternate`.

    Raises:
        Exception: what a contender raised in its process, with its traceback.
    """
    with ExitStack() as stack:
        pools = {
            process: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _start))
            for process in {contender.process for contender in contenders.values()}
        }
        place = {name: pools[contender.process] for name, contender in contenders.items()}
        facts = {
            name: place[name].submit(_build, name, contender.build).result()
            for name, contender in contenders.items()
        }

        def time_in_its_process(name: str, count: int) -> float:
            return place[name].submit(_time, name, count).result()

        timers = {name: partial(time_in_its_process, name) for name in contenders}
        seconds = alternate(timers, rounds=rounds, turn_seconds=turn_seconds)
    return {name: Timing(seconds[name], facts[name]) for name in contenders}


def alternate(
    timers: Mapping[str, Callable[[int], float]], *, rounds: int, turn_seconds: float
) -> dict[str, list[float]]:
    """Returns the seconds of a unit in each turn, by name; the turns are A B C A B C …

    Args:
        timers: give the seconds that so many units take.
        rounds: turns of each, after it is warmed up.
        turn_seconds: about how long a turn lasts; never less than one unit.
    """
    counts = {name: _units_a_turn(timer, turn_seconds) for name, timer in timers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            seconds[name].append(timer(counts[name]) / counts[name])
    return seconds


def _units_a_turn(timer: Callable[[int], float], turn_seconds: float) -> int:
    """Returns how many units fill a turn, after a warm-up."""
    for _ in range(WARM_UP):
        a_unit = timer(1)
        if a_unit > turn_seconds:  # so long a unit is its own warm-up
            return 1
    return max(1, min(MAX_UNITS, round(turn_seconds / max(a_unit, 1e-9))))


_works: dict[str, Work] = {}  # of this process


def _start() -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's
    torch.set_num_threads(num_threads())


def _build(name: str, build: Callable[[], Work]) -> Mapping[str, Any]:
    _works[name] = build()
    return _works[name].facts


def _time(name: str, count: int) -> float:
    import torch

    start = time.perf_counter()
    _works[name].run(count)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
