"""The judge: a classifier, independent of CLIP and diffusion, that says what was painted."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLACES = 4  # features are told apart on a grid of so many places each way
PLACE_FEATURES = 16  # at each place: 256 in all, few enough for the covariance of 1,000 pictures


class ResidualStage(nn.Module):
    """Halves height and width, then adds a residual pair of convs (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.enter_norm = nn.BatchNorm2d(out_channels)
        self.conv1 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, out_channels, H/2, W/2) from x (B, in_channels, H, W)."""
        h = F.relu(self.enter_norm(self.enter(x)))  # (B, out, H/2, W/2)
        branch = F.relu(self.norm1(self.conv1(h)))
        return F.relu(h + self.norm2(self.conv2(branch)))


class Judge(nn.Module):
    """A small residual CNN with one head for each attribute.

    Its features keep places: averaged over the picture they would hardly see a displaced part,
    nor grain.

    Args:
        image_size: height and width of a picture, in pixels.
        in_channels: channels of a picture.
        num_values: the number of values of each attribute.
        channels: width of the first stage; the third has 4·channels.
    """

    def __init__(
        self, *, image_size: int, in_channels: int, num_values: list[int], channels: int
    ) -> None:
        super().__init__()
        self.image_size = image_size
        widths = [in_channels, channels, 2 * channels, 4 * channels]
        self.stages = nn.Sequential(
            *(ResidualStage(width, wider) for width, wider in itertools.pairwise(widths))
        )
        self.squeeze = nn.Conv2d(widths[-1], PLACE_FEATURES, 1, bias=False)
        self.squeeze_norm = nn.BatchNorm2d(PLACE_FEATURES)
        num_features = PLACES**2 * PLACE_FEATURES
        self.heads = nn.ModuleList(nn.Linear(num_features, count) for count in num_values)
        self.to(memory_format=torch.channels_last)  # a third faster on a processor

    def features(self, images: Tensor) -> Tensor:
        """Returns the features (B, 256), all >= 0, that the heads read."""
        assert images.shape[-1] == self.image_size, (images.shape, self.image_size)
        maps = F.adaptive_avg_pool2d(self.stages(images), PLACES)  # (B, 4·channels, 4, 4)
        return F.relu(self.squeeze_norm(self.squeeze(maps))).flatten(1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns logits (B, V_a) for each attribute a, from normalised images (B, C, H, W)."""
        features = self.features(images)
        return [head(features) for head in self.heads]
