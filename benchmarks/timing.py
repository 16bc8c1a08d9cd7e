"""Fair timing: contenders take turns, so that a busy moment of the machine falls on all of them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

WARM_UP = 2  # units in which kernels are chosen and memory is first touched
MAX_UNITS = 100_000


class Contender(Protocol):
    """Something whose units of work can be timed."""

    def seconds(self, count: int) -> float:
        """Returns the seconds that `count` units take."""
        ...


@dataclass(frozen=True)
class Timing:
    """Seconds a unit of work took, in each turn.

    Attributes:
        samples: one for each turn, at least one.
    """

    samples: Sequence[float]

    @property
    def median(self) -> float:
        """Returns the median, in seconds: what is usual here."""
        return statistics.median(self.samples)

    @property
    def minimum(self) -> float:
        """Returns the minimum, in seconds: what the machine can do undisturbed."""
        return min(self.samples)


def ratio(slower: Timing, faster: Timing) -> float:
    """Returns how many times as long `slower` takes: the ratio of medians."""
    return slower.median / faster.median


def take_turns(
    contenders: Mapping[str, Contender], *, rounds: int, turn_seconds: float
) -> dict[str, Timing]:
    """Returns the timing of each contender; they run A B C A B C …

    Args:
        contenders: by name; each is warmed up first.
        rounds: turns of each contender.
        turn_seconds: about how long a turn lasts; never less than one unit.
    """
    counts = {name: _units_a_turn(c, turn_seconds) for name, c in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            samples[name].append(contender.seconds(counts[name]) / counts[name])
    return {name: Timing(found) for name, found in samples.items()}


def _units_a_turn(contender: Contender, turn_seconds: float) -> int:
    """Returns how many units fill a turn, after warming the contender up."""
    for _ in range(WARM_UP):
        a_unit = contender.seconds(1)
        if a_unit > turn_seconds:  # so long a unit is its own warm-up
            return 1
    return max(1, min(MAX_UNITS, round(turn_seconds / max(a_unit, 1e-9))))
