"""One training shared by several processes: whose part of a batch is what.

Every process draws the whole batch of a step, of `batch_size` rows whatever their number, and
computes its own rows of it. Their gradients are averaged, so that together they take the step that
one process would take alone, but for the rounding of sums.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """The part that one process has in a training.

    Attributes:
        index: of this process.
        count: of all processes.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def of(cls, accelerator: Any) -> "Share":
        """Returns this process's share, as Hugging Face's Accelerator knows it."""
        return cls(accelerator.process_index, accelerator.num_processes)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and shows."""
        return self.index == 0

    def rows(self, whole: Tensor) -> Tensor:
        """Returns this process's rows (B / count, ...) of what a whole batch has, (B, ...)."""
        size, rest = divmod(len(whole), self.count)
        assert rest == 0, f"{len(whole)} rows, {self.count} processes"
        return whole[self.index * size : (self.index + 1) * size]

    def some_of(self, length: int) -> Tensor:
        """Returns which of `length` items this process computes, as many as every other does.

        Indices (ceil(length / count),) int64. Where there are too few items, the last processes
        compute some of the first ones again; `gathered` gives them back behind all others.
        """
        most = -(-length // self.count) * self.count
        return self.rows(torch.arange(most) % length)

    def gathered(self, own: Tensor) -> Tensor:
        """Returns the rows of all processes in their order, (B, ...) from own (B / count, ...).

        Every process must then compute the same loss of them. The gradient of own rows is that of
        this loss, times `count`, since the processes' gradients are averaged afterwards.
        """
        if self.count == 1:
            return own
        rows: Tensor = _Gathered.apply(own, self)
        return rows

    def turns(self, items: Iterable[T]) -> Iterator[tuple[int, T]]:
        """Yields the items that are this process's turn, every count-th, each with its number."""
        return itertools.islice(enumerate(items), self.index, None, self.count)

    def total(self, own: float) -> float:
        """Returns the sum over all processes of what each has, the same in all of them."""
        return own if self.count == 1 else sum(gather_object([own]))


class _Gathered(torch.autograd.Function):
    """See `Share.gathered`."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, share: Share) -> Tensor:
        ctx.share = share
        parts = [torch.empty_like(own) for _ in range(share.count)]
        torch.distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.share.rows(gradients[0]) * ctx.share.count, None
