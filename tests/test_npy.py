import io

import numpy as np
import pytest

from unclip.config.errors import UserError
from unclip.core.npy import create_npy, open_npy


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("shape", [(7, 3, 4, 4), (7,), (7, 0), (0, 2)])
def test_an_array_written_in_pieces_is_the_file_that_numpy_saves(tmp_path, shape, dtype):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    with create_npy(tmp_path / "pieces.npy", shape, dtype) as file:
        for start in range(0, len(array), 3):
            file.write(array[start : start + 3].tobytes())
    np.save(tmp_path / "whole.npy", array)
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


REMEDY = "bake it again"
ARRAY = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def saved(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY)
    return tmp_path / "a.npy"


def refusal(path, dtype=np.float32, shape=(4, 3)) -> str:
    with pytest.raises(UserError) as caught:
        open_npy(path, dtype, shape, remedy=REMEDY)
    (line,) = str(caught.value).splitlines()
    assert line.isprintable()
    assert line.startswith(f"{path}: ")
    assert line.endswith(f"; {REMEDY}")
    return line.removeprefix(f"{path}: ").removesuffix(f"; {REMEDY}")


@pytest.mark.parametrize("shape", [(4, 3), (None, 3), (None, None)])
def test_an_array_is_opened_as_a_map_of_the_file(saved, shape):
    array = open_npy(saved, np.float32, shape, remedy=REMEDY)
    assert type(array) is np.ndarray
    assert isinstance(array.base, np.memmap)
    assert np.array_equal(array, ARRAY)


def test_what_is_written_to_a_copy_is_not_written_to_the_file(saved):
    before = saved.read_bytes()
    open_npy(saved, np.float32, (4, 3), remedy=REMEDY, mode="c")[:] = 0
    assert saved.read_bytes() == before


@pytest.mark.parametrize("shape", [(0, 2), (7, 0)])
def test_an_array_of_nothing_can_be_opened(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, dtype=np.int16))
    assert open_npy(tmp_path / "a.npy", np.int16, shape, remedy=REMEDY).shape == shape


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (ARRAY.astype(np.float64), "has the shape (4, 3) of float64; expected (4, 3) of float32"),
        (ARRAY.astype(">f4"), "has the shape (4, 3) of >f4; expected (4, 3) of float32"),
        (ARRAY[:2], "has the shape (2, 3) of float32; expected (4, 3) of float32"),
        (ARRAY[0], "has the shape (3,) of float32; expected (4, 3) of float32"),
        (np.asfortranarray(ARRAY), "is damaged"),
    ],
    ids=["type", "byte order", "shape", "dimensions", "order"],
)
def test_another_array_is_refused(saved, array, expected):
    np.save(saved, array)
    assert refusal(saved) == expected


def test_any_length_is_called_so(saved):
    assert refusal(saved, shape=(None, 4)).endswith("expected (any, 4) of float32")


def changed_header(old: bytes, new: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, ARRAY)
    assert old in buffer.getvalue()
    return buffer.getvalue().replace(old, new, 1)


def zipped() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=ARRAY)
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"PK\x03\x04" + bytes(64), b"\x93NUMPY\x01\x00", bytes(1000), b"[" * 5000),
        *(zipped(), pickled(), changed_header(b"}", b"("), changed_header(b"{", b"'")),
        changed_header(b"(4, 3)", b"(9999999999999999999, 3)"),
        changed_header(b"(4, 3)", b"(-4, 3)"),
        changed_header(b"(4, 3)", b"(2, 3)"),
        changed_header(b"<f4", b"|O4"),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_damaged_file_is_a_line_for_the_user(saved, content):
    saved.write_bytes(content)
    assert refusal(saved) == "is damaged"


def test_a_missing_file_and_a_folder_are_a_line_for_the_user(tmp_path):
    assert refusal(tmp_path / "a.npy") == "is missing"
    (tmp_path / "b.npy").mkdir()
    assert refusal(tmp_path / "b.npy") == "is damaged"
