"""Data sets by name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from unclip.config.errors import UserError
from unclip.datasets import fashion_mnist, image_folder, shapes
from unclip.datasets.base import DatasetSource

DATASETS: dict[str, Callable[..., DatasetSource]] = {
    "fashion_mnist": fashion_mnist.load,
    "image_folder": image_folder.load,
    "shapes": shapes.load,
}


def load_dataset(
    name: str, *, image_size: int, seed: int, raw_dir: Path, options: Mapping[str, object]
) -> DatasetSource:
    """Returns the data set called `name`.

    Every loader is handed the same arguments and takes what it needs.

    Args:
        name: a key of `DATASETS`.
        image_size: height and width of its pictures.
        seed: for data sets that are drawn.
        raw_dir: the machine's folder of raw data, for data sets that are read.
        options: further arguments of this one data set's loader.

    Raises:
        UserError: the name is unknown, or the data set can not be read.
    """
    if name not in DATASETS:
        known = ", ".join(sorted(DATASETS))
        raise UserError(f"data.dataset: {name!r} is unknown; expected one of {known}; choose one")
    return DATASETS[name](image_size=image_size, seed=seed, raw_dir=raw_dir, **options)
