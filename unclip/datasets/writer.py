"""Writes the prepared folder that `unclip.data.prepared` reads.

It is separate from the reader, so that a change here reruns only prepare: as long as the bytes stay
the same, nothing is trained again.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from unclip.config.errors import UserError
from unclip.core.artifacts import write_json
from unclip.core.files import replaced
from unclip.core.npy import create_npy
from unclip.core.seeding import generator
from unclip.data.prepared import FORMAT_VERSION
from unclip.datasets.base import DatasetSource, Rows, Split
from unclip.datasets.splits import Chosen, hold_out

CHUNK = 512  # pictures in memory at a time
DTYPES = {"images": np.uint8, "caption_index": np.int32, "attributes": np.int16}


def write_prepared(
    folder: Path,
    source: DatasetSource,
    *,
    name: str,
    image_size: int,
    val_fraction: float,
    seed: int,
    advance: Callable[[int], object] = lambda count: None,
) -> None:
    """Writes `source` to `folder` and replaces what was there, completely or not at all.

    Equal arguments give equal bytes. Pictures keep the order of the source; a seeded permutation
    chooses the validation split.

    Args:
        folder: the prepared folder.
        source: the data set.
        name: its name in `data.dataset`.
        image_size: the height and width of its pictures.
        val_fraction: in (0, 1), the share of the training pictures that becomes the validation
            split; less where captions have few pictures (`hold_out`).
        seed: chooses them.
        advance: called with the number of pictures just written, to show progress.

    Raises:
        UserError: the validation or the training split would be empty.
    """
    num_pictures, channels, *size = source.train.images.shape
    assert size == [image_size, image_size], f"{name} draws {size}, not {image_size}"
    starts = range(0, num_pictures, CHUNK)
    captions = [
        source.train.caption_index[start : min(start + CHUNK, num_pictures)] for start in starts
    ]
    chosen = choose_validation(np.concatenate(captions), val_fraction, seed)
    with replaced(folder) as temporary:
        members = {"train": ~chosen, "val": chosen}
        histogram = _write_splits(temporary, source.train, members, advance)["train"]
        counts = {"train": int((~chosen).sum()), "val": int(chosen.sum())}
        for kind, split in (("test", source.test), ("judge", source.judge)):
            if split is not None:
                every = np.ones(split.images.shape[0], dtype=np.bool_)
                _write_splits(temporary, split, {kind: every}, advance)
                counts[kind] = len(every)
        mean, std = mean_and_std(histogram)
        about = {
            "format_version": FORMAT_VERSION,
            "name": name,
            "image_size": image_size,
            "channels": channels,
            "caption_attributes": source.caption_attributes.tolist(),
            "judge_split": "train" if source.judge is None else "judge",
            "counts": counts,
            "mean": mean,
            "std": std,
        }
        write_json(temporary / "dataset.json", source.described() | about, indent=1)


def mean_and_std(histogram: npt.NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Returns each channel's mean and (population) standard deviation, for pixels in [0, 1].

    The sums are integers, so neither the order nor the size of the chunks can change a bit. The
    std of a constant channel is given as 1.

    Args:
        histogram: (C, 256), how often each value occurs.
    """
    means, stds = [], []
    for counts in histogram.tolist():
        n = sum(counts)
        total = sum(value * count for value, count in enumerate(counts))
        squares = sum(value * value * count for value, count in enumerate(counts))
        means.append(total / (255 * n))
        stds.append(math.sqrt(n * squares - total * total) / (255 * n) or 1.0)
    return means, stds


def choose_validation(
    caption_index: npt.NDArray[np.int32], val_fraction: float, seed: int
) -> Chosen:
    """Returns which of the N training pictures are for validation, (N,) bool.

    Args:
        caption_index: (N,), the caption of each picture.
        val_fraction: see `hold_out`.
        seed: the seed of the draws.

    Raises:
        UserError: none or all of them would be.
    """
    total = len(caption_index)
    draw = generator(seed, "validation split")
    order = torch.randperm(total, generator=draw, dtype=torch.int32).numpy()
    chosen = hold_out(np.argsort(order), caption_index, val_fraction)
    if not 0 < (count := int(chosen.sum())) < total:
        raise UserError(
            f"data.val_fraction: {val_fraction:g} of {total} pictures leaves {count} for "
            f"validation and {total - count} for training; expected at least 1 of each; "
            "change it or take more pictures"
        )
    return chosen


def _write_splits(
    folder: Path, split: Split, members: dict[str, Chosen], advance: Callable[[int], object]
) -> dict[str, npt.NDArray[np.int64]]:
    """Writes the chosen rows of each member as a separate split, in one pass over `split`.

    Returns:
        how often each value occurs in each channel, (C, 256) int64, for each member.
    """
    num_pictures, channels = split.images.shape[:2]
    histograms = {name: np.zeros((channels, 256), dtype=np.int64) for name in members}
    with ExitStack() as stack:
        files = {}
        for name, rows in members.items():
            (folder / name).mkdir(parents=True)
            for array, dtype in DTYPES.items():
                shape = (int(rows.sum()), *getattr(split, array).shape[1:])
                file = create_npy(folder / name / f"{array}.npy", shape, dtype)
                files[name, array] = stack.enter_context(file)
        for start in range(0, num_pictures, CHUNK):
            part = slice(start, min(start + CHUNK, num_pictures))
            for array, dtype in DTYPES.items():
                source: Rows = getattr(split, array)
                chunk = source[part]
                expected = (part.stop - start, *source.shape[1:])
                assert chunk.dtype == dtype, f"{array}: {chunk.dtype}, expected {dtype}"
                assert chunk.shape == expected, f"{array}: {chunk.shape}, expected {expected}"
                for name, rows in members.items():
                    mine = chunk[rows[part]]
                    files[name, array].write(mine.tobytes())
                    if array == "images":
                        for counts, values in zip(
                            histograms[name], mine.swapaxes(0, 1), strict=True
                        ):
                            counts += np.bincount(values.ravel(), minlength=256)
            advance(part.stop - start)
    return histograms
