"""Random flips and shifted crops of pictures, and words left out of captions, for training only."""

from collections.abc import Sequence

import torch
from torch import Tensor


def augment(images: Tensor, generator: torch.Generator, *, flip: bool, crop_padding: int) -> Tensor:
    """Returns images of the same shape and type, each flipped and shifted by draws of its own.

    A shift is a crop of the picture padded by `crop_padding` on every side. The padding repeats the
    border pixels: black or zero would draw frames that no real picture has.

    Both kinds of draw are always made, so that switching flips off changes no crop.

    Args:
        images: (B, C, H, W), any type.
        generator: on the CPU; the only source of randomness.
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


def drop_words(captions: Sequence[str], drop_prob: float, generator: torch.Generator) -> list[str]:
    """Returns captions with each word left out with some probability; whole where none remains.

    "A large red circle" may become "a red circle", a caption in its own right. So each word learns
    to mean something by itself, for which a caption always seen whole gives no reason: CLIP then
    recognises most pairs of colour and shape that training never shows together.
    (Random deletion of Wei & Zou 2019, "EDA", §2; there against overfitting of classifiers.)

    Args:
        captions: N of them.
        drop_prob: of each word.
        generator: on the CPU; the only source of randomness.
    """
    found = []
    for caption in captions:
        words = caption.split()
        is_kept = torch.rand(len(words), generator=generator) >= drop_prob
        kept = [word for word, keep in zip(words, is_kept.tolist(), strict=True) if keep]
        found.append(" ".join(kept or words))
    return found


def is_part_of(parts: Sequence[str], captions: Sequence[str]) -> torch.Tensor:
    """Returns whether each part is a caption with any words left out, (captions, parts) bool.

    A part says no more of a picture than its caption does, so it describes the picture too.
    """
    divided = [(frozenset(words), words) for words in (part.split() for part in parts)]
    rows = {}
    for caption in set(captions):
        whole = caption.split()
        among = frozenset(whole)  # rules out most parts at once
        rows[caption] = [words <= among and _in_order(part, whole) for words, part in divided]
    return torch.tensor([rows[caption] for caption in captions])


def _in_order(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(word in rest for word in part)
