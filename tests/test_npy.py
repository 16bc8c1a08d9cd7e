import numpy as np
import pytest

from unclip.npy import create_npy


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("shape", [(7, 3, 4, 4), (7,), (7, 0), (0, 2)])
def test_an_array_written_in_pieces_is_the_file_that_numpy_saves(tmp_path, shape, dtype):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    with create_npy(tmp_path / "pieces.npy", shape, dtype) as file:
        for start in range(0, len(array), 3):
            file.write(array[start : start + 3].tobytes())
    np.save(tmp_path / "whole.npy", array)
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
