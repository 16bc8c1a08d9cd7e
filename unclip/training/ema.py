"""The exponential moving average of a network's weights, which paints better than the last ones."""

import copy

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """A copy of a network that follows it as an exponential moving average.

    The decay at update n is min(decay, (1 + n) / (10 + n)), so that early weights are soon
    forgotten (as in TensorFlow's ExponentialMovingAverage). The first update copies the weights:
    the random initial ones leave no trace. torch's AveragedModel does the same, but copies its
    count to the device at every update, which stalls a GPU.

    Args:
        model: the network, on the device that trains it.
        decay: of the average, in [0, 1].
    """

    num_updates: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.register_buffer("num_updates", torch.tensor(0))  # stays on the CPU, to be read there

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards the network's weights; buffers are copied."""
        n = int(self.num_updates)
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(model.parameters())
        if n == 0:
            torch._foreach_copy_(averages, weights)
        else:
            rate = 1.0 - min(self.decay, (1.0 + n) / (10.0 + n))
            torch._foreach_lerp_(averages, weights, rate)
        for mine, current in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(current)
        self.num_updates += 1
