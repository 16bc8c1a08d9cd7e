"""Which items make the batch of a step, as a function of (seed, purpose, step)."""

import torch
from torch import Tensor

from unclip.core.seeding import generator


class ShuffledBatches:
    """Batches from a stream of seeded permutations, each of which is one epoch.

    The batch of a step depends on nothing that happened before, so training can resume at any step.
    A batch may span two epochs: no item is left out.
    """

    def __init__(self, num_items: int, batch_size: int, seed: int, purpose: str) -> None:
        assert min(num_items, batch_size) > 0, (num_items, batch_size)
        self.num_items, self.batch_size = num_items, batch_size
        self.seed, self.purpose = seed, purpose
        self._epoch = -1
        self._order = torch.empty(num_items, dtype=torch.int32)  # the permutation of that epoch

    def __call__(self, step: int) -> Tensor:
        """Returns the indices of a step, shape (batch_size,) int64, each in 0..num_items-1."""
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.num_items)
            parts.append(self._permutation(epoch)[offset : offset + stop - start].long())
            start += len(parts[-1])
        return torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        """Returns the permutation of an epoch, (num_items,) int32, valid until the next call."""
        if epoch != self._epoch:
            draw = generator(self.seed, f"{self.purpose} order", epoch)
            torch.randperm(self.num_items, generator=draw, out=self._order)
            self._epoch = epoch
        return self._order
