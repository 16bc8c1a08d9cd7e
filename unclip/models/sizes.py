"""Which sizes networks can have, for them and for who asks before any work: no torch in here.

Messages name the keys in params.yaml.
"""

from collections.abc import Sequence

MOST_FEATURES = 128  # the Fréchet distance needs more pictures than features, many times more


def feature_problem(channels: int) -> str | None:
    """Returns why a judge can not have so many channels, or None if it can."""
    features = 4 * channels
    if features <= MOST_FEATURES:
        return None
    return (
        f"judge.channels: {channels} makes {features} features, too many for a Fréchet distance; "
        f"at most {MOST_FEATURES // 4}"
    )


def size_divisor(patch_size: int, num_levels: int) -> int:
    """Returns what the side of a picture must be a multiple of."""
    return patch_size * 2 ** (num_levels - 1)


def level_resolutions(image_size: int, patch_size: int, num_levels: int) -> list[int]:
    """Returns the pixels of each level's feature map, the finest first.

    Raises:
        ValueError: the picture can not be halved so often.
    """
    divisor = size_divisor(patch_size, num_levels)
    if image_size % divisor:
        raise ValueError(
            f"image_size: {image_size} is not a multiple of {divisor}, which decoder.patch_size "
            f"{patch_size} and {num_levels} levels need"
        )
    return [image_size // patch_size // 2**i for i in range(num_levels)]


def attention_problems(
    *,
    widths: Sequence[int],
    resolutions: Sequence[int],
    attn_resolutions: Sequence[int],
    head_channels: int,
    caption_dim: int | None,
) -> list[str]:
    """Returns where a UNet can not have the attention that is asked for, a line each.

    Args:
        widths: the channels of each level.
        resolutions: the pixels of each level, as `level_resolutions` has them.
        attn_resolutions: the levels with attention, by their pixels; the bottleneck always has it.
        head_channels: width of an attention head.
        caption_dim: width of the caption encoder; None is no encoder.
    """
    problems = [
        f"decoder.attn_resolutions: {resolution} is not a level of this UNet "
        f"({', '.join(map(str, resolutions))})"
        for resolution in attn_resolutions
        if resolution not in resolutions
    ]
    attending = {
        f"the channels at {resolution} pixels": width
        for width, resolution in zip(widths, resolutions, strict=True)
        if resolution in attn_resolutions
    }
    attending["the width of the bottleneck"] = widths[-1]
    if caption_dim is not None:
        attending["decoder.caption_dim"] = caption_dim
    return problems + [
        f"decoder.head_channels: {head_channels} does not divide {what} ({width})"
        for what, width in attending.items()
        if width % head_channels
    ]
