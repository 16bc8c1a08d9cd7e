"""What data sets are told, in tests."""

from pathlib import Path

from unclip.datasets.base import Context


def context(
    folder: Path = Path("nowhere"), *, image_size: int = 32, seed: int = 0, text_length: int = 64
) -> Context:
    """Returns a context whose downloads and workspace are both in `folder`."""
    return Context(image_size, seed, 0.1, text_length, raw_dir=folder, root=folder)
