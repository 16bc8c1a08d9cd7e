import io

import numpy as np
import pytest

from unclip.config.errors import UserError
from unclip.core.npy import create_npy, open_npy

ARRAY = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("shape", [(7, 3, 4, 4), (7,), (7, 0), (0, 2)])
def test_an_array_written_in_pieces_is_the_file_that_numpy_saves(tmp_path, shape, dtype):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    with create_npy(tmp_path / "pieces.npy", shape, dtype) as file:
        for start in range(0, len(array), 3):
            file.write(array[start : start + 3].tobytes())
    np.save(tmp_path / "whole.npy", array)
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.fixture
def saved(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY)
    return tmp_path / "a.npy"


def refusal(path, dtype=np.float32, shape=(4, 3)) -> str:
    with pytest.raises(UserError) as caught:
        open_npy(path, dtype, shape, made_by="bake")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ")
    assert "dvc repro --force bake" in line
    return line


@pytest.mark.parametrize("shape", [(4, 3), (None, 3), (None, None)])
def test_an_array_is_opened_as_a_map_of_the_file(saved, shape):
    array = open_npy(saved, np.float32, shape, made_by="bake")
    assert type(array) is np.ndarray
    assert isinstance(array.base, np.memmap)
    assert np.array_equal(array, ARRAY)


def test_what_is_written_to_a_copy_is_not_written_to_the_file(saved):
    before = saved.read_bytes()
    open_npy(saved, np.float32, (4, 3), made_by="bake", mode="c")[:] = 0
    assert saved.read_bytes() == before


@pytest.mark.parametrize("shape", [(0, 2), (7, 0)])
def test_an_array_of_nothing_can_be_opened(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, dtype=np.int16))
    assert open_npy(tmp_path / "a.npy", np.int16, shape, made_by="bake").shape == shape


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (ARRAY.astype(np.float64), "(4, 3) of float64"),
        (ARRAY.astype(">f4"), "(4, 3) of >f4"),
        (ARRAY[:2], "(2, 3) of float32"),
        (ARRAY[0], "(3,) of float32"),
    ],
    ids=["type", "byte order", "shape", "dimensions"],
)
def test_another_array_is_refused(saved, array, found):
    np.save(saved, array)
    assert f"{found}, not (4, 3) of float32" in refusal(saved)


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("damage", ["empty", "no array", "cut", "pickle", "missing", "folder"])
def test_what_is_no_such_file_is_a_line_for_the_user(saved, damage):
    content = saved.read_bytes()
    saved.unlink()
    if damage == "folder":
        saved.mkdir()
    elif damage != "missing":
        kinds = {"empty": b"", "no array": b"[" * 500, "cut": content[:-1], "pickle": pickled()}
        saved.write_bytes(kinds[damage])
    assert ("is missing" if damage == "missing" else "is damaged") in refusal(saved)
