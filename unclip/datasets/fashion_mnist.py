"""Fashion-MNIST: 70,000 grey pictures of clothes (Xiao et al. 2017, arXiv:1708.07747)."""

import http.client
import socket
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from unclip.config.errors import UserError, first_line
from unclip.datasets.base import Context, Dataset, DatasetSource, Split

# In the order of the labels 0 to 9: the judge's word and the caption.
CLASSES = {
    "t-shirt/top": "An image of a t-shirt/top",
    "trousers": "An image of trousers",
    "pullover": "An image of a pullover",
    "dress": "An image of a dress",
    "coat": "An image of a coat",
    "sandal": "An image of a sandal",
    "shirt": "An image of a shirt",
    "sneaker": "An image of a sneaker",
    "bag": "An image of a bag",
    "ankle boot": "An image of an ankle boot",
}
SIDE = 28  # pixels
TIMEOUT = 8.0  # seconds without a byte from the network


class FashionMNIST(Dataset):
    """Ten classes, each with one caption.

    Flips are not allowed: the shoes, three classes of ten, all point the same way, and mirrored
    shoes would teach the decoder pictures that the test split does not have.
    """

    def load(self, context: Context) -> DatasetSource:
        """Returns the data set, downloaded if it is missing; `fit` adapts the pictures."""
        _download(context.raw_dir)
        captions = list(CLASSES.values())
        return DatasetSource(
            captions=captions,
            attribute_names=["class"],
            attribute_values=[list(CLASSES)],
            caption_attributes=np.arange(len(captions), dtype=np.int16)[:, None],
            held_out_captions=[],
            prompts=captions,
            allow_flip=False,
            train=_read_split(context, is_train=True),
            test=_read_split(context, is_train=False),
        )

    def status(self, raw_dir: Path, root: Path) -> str:
        """Returns where the files are, all of which are read, or will be."""
        if not _is_complete(raw_dir):
            return f"{_raw(raw_dir)} is not there yet; prepare downloads it"
        _read_files(raw_dir, is_train=True)
        _read_files(raw_dir, is_train=False)
        return f"{_raw(raw_dir)} is there"


def fit(images: npt.NDArray[np.uint8], image_size: int) -> npt.NDArray[np.uint8]:
    """Returns pictures (N, 1, image_size, image_size) from pictures (N, 28, 28).

    The background is black, so a larger picture gets a black border: resizing 28 to 32 would blur
    every pixel. A smaller picture is resized with anti-aliasing.
    """
    if image_size >= SIDE:
        before = (image_size - SIDE) // 2
        border = (before, image_size - SIDE - before)
        return np.pad(images, ((0, 0), border, border))[:, None]
    import torch
    from torch.nn.functional import interpolate

    pixels, size = torch.from_numpy(images)[:, None].float(), (image_size, image_size)
    resized = interpolate(pixels, size, mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8).numpy()


def _raw(raw_dir: Path) -> Path:
    """Returns the folder where torchvision keeps the files."""
    return raw_dir / "FashionMNIST" / "raw"


def _read_split(context: Context, *, is_train: bool) -> Split:
    images, labels = _read_files(context.raw_dir, is_train=is_train)
    return Split(
        images=fit(images, context.image_size),
        caption_index=labels.astype(np.int32),
        attributes=labels.astype(np.int16)[:, None],
    )


def _read_files(raw_dir: Path, *, is_train: bool) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns pictures (N, 28, 28) and labels (N,); torchvision does not say which is damaged."""
    from torchvision import datasets

    try:
        data = datasets.FashionMNIST(str(raw_dir), train=is_train)
        images, labels = data.data.numpy(), data.targets.numpy()
        assert images.shape == (len(labels), SIDE, SIDE), images.shape
        assert labels.max() < len(CLASSES), labels.max()
        return images, labels
    except Exception as error:  # damaged files fail in any way
        raise UserError(
            f"{_raw(raw_dir)}: holds damaged files ({first_line(error)}); delete it and "
            "run again to download them"
        ) from error


def _is_complete(raw_dir: Path) -> bool:
    from torchvision import datasets

    resources = datasets.FashionMNIST.resources
    return all((_raw(raw_dir) / Path(name).stem).is_file() for name, _ in resources)


def _download(raw_dir: Path) -> None:
    """Downloads the files that are missing.

    Raises:
        UserError: the download fails, or no byte arrives for `TIMEOUT`, which torchvision ignores.
    """
    from torchvision import datasets

    if _is_complete(raw_dir):
        return
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        raw_dir.mkdir(parents=True, exist_ok=True)
        # Two experiments may prepare at once: the second waits, then finds the files.
        with FileLock(raw_dir / "fashion_mnist.lock"):
            datasets.FashionMNIST(str(raw_dir), download=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise UserError(
            f"{_raw(raw_dir)}: downloading Fashion-MNIST failed ({first_line(error)}); set "
            "UNCLIP_DATA_DIR to a folder that contains FashionMNIST/raw, or connect to the "
            "internet and run again"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
