"""The judge: a classifier, independent of CLIP and diffusion, that says what was painted."""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from unclip.models.sizes import MOST_FEATURES, num_features


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

    Args:
        image_size: height and width of a picture, in pixels.
        in_channels: channels of a picture.
        num_values: the number of values of each attribute.
        channels: width of the first stage; the third has 4·channels, the features.
    """

    def __init__(
        self, *, image_size: int, in_channels: int, num_values: list[int], channels: int
    ) -> None:
        super().__init__()
        assert num_features(channels) <= MOST_FEATURES, f"{channels} channels"
        self.image_size = image_size
        widths = [in_channels, channels, 2 * channels, num_features(channels)]
        self.stages = nn.Sequential(
            *(ResidualStage(width, wider) for width, wider in itertools.pairwise(widths))
        )
        self.heads = nn.ModuleList(nn.Linear(widths[-1], count) for count in num_values)

    def features(self, images: Tensor) -> Tensor:
        """Returns the features (B, 4·channels), all >= 0, that the heads read."""
        assert images.shape[-1] == self.image_size, (images.shape, self.image_size)
        return self.stages(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns logits (B, V_a) for each attribute a, from normalised images (B, C, H, W)."""
        features = self.features(images)
        return [head(features) for head in self.heads]
