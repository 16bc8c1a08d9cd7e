"""NumPy files that are written piece by piece, so that an array need never be whole in memory."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt


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
