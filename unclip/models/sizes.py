"""Sizes that networks can have. It imports no torch, so that params are validated quickly."""


def size_divisor(patch_size: int, num_levels: int) -> int:
    """Returns the number that the side of a picture must be a multiple of."""
    return patch_size * 2 ** (num_levels - 1)


def level_resolutions(image_size: int, patch_size: int, num_levels: int) -> list[int]:
    """Returns the side of each level's feature map, the finest first."""
    divisor = size_divisor(patch_size, num_levels)
    assert image_size % divisor == 0, f"image_size {image_size}, a multiple of {divisor}"
    return [image_size // patch_size // 2**i for i in range(num_levels)]
