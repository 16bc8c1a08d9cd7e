"""NumPy files written piece by piece and read by memory map: no array need be whole in memory."""

from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from unclip.config.errors import reading


def create_npy(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> BinaryIO:
    """Returns a new .npy file, open behind its header: what `np.save` writes, but for the values.

    The caller writes them, as bytes in C order, and closes the file. By plain writes: a memory map
    that meets a full disk kills the process without a word.

    Args:
        path: the file, in a folder that exists.
        shape: of the whole array.
        dtype: of its values.
    """
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    file = path.open("wb")
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return file


def open_npy(
    path: Path,
    dtype: npt.DTypeLike,
    shape: tuple[int | None, ...],
    *,
    made_by: str,
    mode: Literal["r", "c"] = "r",
) -> npt.NDArray[Any]:
    """Returns a memory-mapped array as a plain ndarray, whose look-ups are faster.

    Args:
        path: the file.
        dtype: of its values.
        shape: None stands for any length.
        made_by: the stage that makes the file.
        mode: "r" to read, "c" to write to the copy in memory too.

    Raises:
        UserError: it is missing, damaged or holds another array.
    """
    with reading(path, made_by):
        array = np.load(path, mmap_mode=mode)
        fits = len(shape) == array.ndim and all(
            wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype != np.dtype(dtype):
            raise ValueError(f"{array.shape} of {array.dtype}, not {shape} of {np.dtype(dtype)}")
        return np.asarray(array)
