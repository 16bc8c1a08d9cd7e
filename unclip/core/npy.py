"""NumPy files written piece by piece and read by memory map, never whole in memory."""

from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from unclip.config.errors import reading

Mode = Literal["r", "c"]  # read only, or copy on write


def create_npy(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> BinaryIO:
    """Returns a new .npy file with its header, ready for the values as bytes in C order.

    The file is written to, not mapped: a memory map on a full disk kills the process silently.
    """
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    file = path.open("wb")
    np.lib.format.write_array_header_1_0(file, header)
    return file


def open_npy(
    path: Path,
    dtype: npt.DTypeLike,
    shape: tuple[int | None, ...],
    *,
    made_by: str,
    mode: Mode = "r",
) -> npt.NDArray[Any]:
    """Returns a memory-mapped array as a plain ndarray, which is indexed faster than a memmap.

    Args:
        path: the file.
        dtype: the expected type.
        shape: the expected shape; None is any length.
        made_by: the stage that makes the file.
        mode: "r" for reading, "c" if the copy in memory may be changed.

    Raises:
        UserError: the file is missing, damaged or contains another array.
    """
    with reading(path, made_by):
        array = np.load(path, mmap_mode=mode)
        fits = len(shape) == array.ndim and all(
            wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype != np.dtype(dtype):
            raise ValueError(f"{array.shape} of {array.dtype}, not {shape} of {np.dtype(dtype)}")
        return np.asarray(array)
