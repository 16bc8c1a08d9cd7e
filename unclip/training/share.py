"""One training shared by several processes: which rows of a batch each of them computes.

Every process draws the whole batch of a step, `batch_size` rows, and computes its own rows of it.
Their gradients are averaged, so that together they take the step that one process would take
alone, except for the rounding of sums.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor


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
        """Returns this process's rows (B / count, ...) of a whole batch, (B, ...)."""
        size, rest = divmod(len(whole), self.count)
        assert rest == 0, f"{len(whole)} rows, {self.count} processes"
        return whole[self.index * size : (self.index + 1) * size]

    def some_of(self, length: int) -> Tensor:
        """Returns which of `length` items this process computes, (ceil(length / count),) int64.

        Every process computes as many. If count does not divide length, the last ones repeat some
        of the first items, and `gathered` puts these behind all others.
        """
        most = -(-length // self.count) * self.count
        return self.rows(torch.arange(most) % length)

    def gathered(self, own: Tensor) -> Tensor:
        """Returns the rows of all processes in order, (B, ...), from own ones (B / count, ...).

        Every process must then compute the same loss from them. The gradient of the own rows is
        multiplied by `count`, since the processes' gradients are averaged afterwards.
        """
        if self.count == 1:
            return own
        rows: Tensor = _Gathered.apply(own, self)
        return rows

    def mean_loss(
        self, loss_of: Callable[[int, Tensor], Tensor], num_items: int, batch_size: int
    ) -> float:
        """Returns the mean loss of items, each process computing every count-th batch.

        Args:
            loss_of: (number of the batch, indices of its items) -> mean loss, a scalar.
            num_items: in all.
            batch_size: the last batch may be smaller.
        """
        batches = enumerate(torch.arange(num_items).split(batch_size))
        own = itertools.islice(batches, self.index, None, self.count)
        total = sum(float(loss_of(i, index)) * len(index) for i, index in own)
        return (total if self.count == 1 else sum(gather_object([total]))) / num_items


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
