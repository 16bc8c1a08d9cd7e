"""Random flips and shifted crops, for training only."""

import torch
from torch import Tensor


def augment(images: Tensor, generator: torch.Generator, *, flip: bool, crop_padding: int) -> Tensor:
    """Returns images of the same shape and type, each flipped and shifted by draws of its own.

    A shift is a crop out of the picture padded by `crop_padding` on every side. The padding repeats
    the border pixels: black or zero would draw frames that no real picture has.

    Both kinds of draw are made whatever is switched on, so that switching flips off leaves every
    crop where it was.

    Args:
        images: (B, C, H, W), any type.
        generator: on the CPU; the one source of chance.
        flip: mirror left and right with probability 1/2.
        crop_padding: largest shift in pixels, each way; 0 is off.
    """
    batch, channels, height, width = images.shape
    flipped = torch.rand(batch, 1, generator=generator) < 0.5
    shifts = torch.randint(-crop_padding, crop_padding + 1, (batch, 2, 1), generator=generator)

    rows = (torch.arange(height) + shifts[:, 0]).clamp(0, height - 1)  # (B, H)
    columns = (torch.arange(width) + shifts[:, 1]).clamp(0, width - 1)  # (B, W)
    if flip:
        columns = torch.where(flipped, columns.flip(1), columns)

    rows, columns = rows.to(images.device), columns.to(images.device)
    picture = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return images[picture, channel, rows[:, None, :, None], columns[:, None, None, :]]
