"""Fashion-MNIST, 70,000 grey pictures of clothes (Xiao et al. 2017, arXiv:1708.07747)."""

import http.client
import math
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from torch.nn.functional import interpolate

from unclip.config.errors import UserError
from unclip.datasets.base import DatasetSource, Split

# In the order of the labels 0 to 9: the word for the judge, and the caption.
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
_PREFIXES = ("train", "t10k")  # of the files' names


def load(*, image_size: int, seed: int, raw_dir: Path) -> DatasetSource:
    """Returns the data set, read from `raw_dir` and downloaded to it where it is not there.

    Flips are not allowed: the shoes, three classes of ten, all point one way, and a decoder that
    learns their mirror images spends itself on pictures that the test split does not have.

    Args:
        image_size: height and width; see `fit`.
        seed: not used, since nothing is drawn.
        raw_dir: the folder that holds, or will hold, FashionMNIST/raw (torchvision's layout).

    Raises:
        UserError: a file is damaged, or missing and the network does not answer (in 20 seconds).
    """
    raw = raw_dir / "FashionMNIST" / "raw"
    missing = [path for prefix in _PREFIXES for path in _paths(raw, prefix) if not path.is_file()]
    if missing:
        _download(raw_dir, missing[0])
    for prefix in _PREFIXES:
        _check_files(*_paths(raw, prefix))
    captions = list(CLASSES.values())
    return DatasetSource(
        name="fashion_mnist",
        captions=captions,
        attribute_names=["class"],
        attribute_values=[list(CLASSES)],
        caption_attributes=np.arange(len(captions), dtype=np.int16)[:, None],
        held_out_captions=[],
        prompts=captions,
        allow_flip=False,
        train=_read_split(raw_dir, "train", image_size),
        test=_read_split(raw_dir, "test", image_size),
    )


def fit(images: npt.NDArray[np.uint8], image_size: int) -> npt.NDArray[np.uint8]:
    """Returns pictures (N, 1, image_size, image_size) from pictures (N, 28, 28).

    The ground of these pictures is black, so a larger picture is a wider black border: every pixel
    stays as it was, where resizing 28 to 32 would blur all of them. A smaller one is resized, with
    anti-aliasing.
    """
    if image_size >= SIDE:
        before = (image_size - SIDE) // 2
        border = (before, image_size - SIDE - before)
        return np.pad(images, ((0, 0), border, border))[:, None]
    resized = interpolate(
        torch.from_numpy(images)[:, None].float(),
        size=(image_size, image_size),
        mode="bilinear",
        antialias=True,
    )
    return resized.round().clamp(0, 255).to(torch.uint8).numpy()


def _read_split(raw_dir: Path, split: str, image_size: int) -> Split:
    from torchvision.datasets import FashionMNIST  # slow to import, and no other data set needs it

    data = FashionMNIST(str(raw_dir), train=split == "train", download=False)
    labels = data.targets.numpy()
    return Split(
        images=fit(data.data.numpy(), image_size),
        caption_index=labels.astype(np.int32),
        attributes=labels.astype(np.int16)[:, None],
    )


def _paths(raw: Path, prefix: str) -> tuple[Path, Path]:
    """Returns the files of pictures and of labels."""
    return raw / f"{prefix}-images-idx3-ubyte", raw / f"{prefix}-labels-idx1-ubyte"


def _check_files(images: Path, labels: Path) -> None:
    """Raises the UserError that torchvision does not: it names no file, and skips short labels."""
    cure = "delete it and run again to download it"
    count, *side = _check_idx(images, 3, cure)
    if side != [SIDE, SIDE] or count == 0:
        raise UserError(f"{images}: holds {count} pictures of {side}; expected 28 × 28; {cure}")
    (num_labels,) = _check_idx(labels, 1, cure)
    if num_labels != count:
        raise UserError(f"{labels}: holds {num_labels} labels for {count} pictures; {cure}")
    largest = max(labels.read_bytes()[8:])
    if largest >= len(CLASSES):
        raise UserError(f"{labels}: holds the label {largest}; expected 0 to 9; {cure}")


def _check_idx(path: Path, num_dims: int, cure: str) -> list[int]:
    """Returns the sizes in an idx file's header, after comparing them with the file's length."""
    header = 4 + 4 * num_dims
    with path.open("rb") as file:
        numbers = np.frombuffer(file.read(header), dtype=np.uint8)
    magic = bytes([0, 0, 8, num_dims])  # 8: unsigned bytes
    if len(numbers) < header or numbers[:4].tobytes() != magic:
        raise UserError(f"{path}: is not an idx file of {num_dims} dimensions; {cure}")
    sizes = [int(size) for size in numbers[4:].view(">u4")]
    expected, found = header + math.prod(sizes), path.stat().st_size
    if found != expected:
        raise UserError(f"{path}: is {found} bytes long; expected {expected}; {cure}")
    return sizes


def _download(raw_dir: Path, missing: Path) -> None:
    """Downloads all files, or raises one UserError soon, about the file `missing`."""
    from torchvision.datasets import FashionMNIST

    archives = [missing.parent / name for name, _ in FashionMNIST.resources]  # by hand, perhaps
    try:
        with _socket_timeout(TIMEOUT):
            if not all(path.is_file() for path in archives):
                _probe(FashionMNIST.mirrors[0] + FashionMNIST.resources[0][0])
            raw_dir.mkdir(parents=True, exist_ok=True)
            # Two experiments may prepare at once; the second waits and then finds the files.
            with FileLock(raw_dir / "fashion_mnist.lock"):
                FashionMNIST(str(raw_dir), download=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{missing}: is missing, and downloading Fashion-MNIST failed ({reason}); set "
            "UNCLIP_DATA_DIR to a folder that holds FashionMNIST/raw, or connect to the internet "
            "and run again"
        ) from error


def _probe(url: str) -> None:
    """Raises OSError unless the mirror answers within TIMEOUT.

    In a thread, because looking up a host name heeds no socket timeout: it can take minutes.
    """
    failures: list[Exception] = [TimeoutError(f"no answer in {TIMEOUT:g} seconds")]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")):
                failures.clear()
        except Exception as error:
            failures[0] = error

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    if failures:
        raise OSError(f"{url}: {failures[0]}")


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bounds each wait for the network; urllib, which torchvision uses, sets no bound itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
