"""300 hostile pictures and metadata files: a line for each, or the right thing; never a traceback.

What a damaged file must not be is another picture: it is refused, or it is what it was before.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from contexts import context
from hostile_pictures import FORMATS, REFUSED, encoded, random_rgb
from own_folders import make_folder, rows_of, write_jsonl, write_pictures

from unclip.config.errors import UserError
from unclip.datasets.image_folder import ImageFolder
from unclip.datasets.metadata import find_metadata
from unclip.datasets.own_folder import OwnFolder, read_folder
from unclip.pictures.files import read_picture

NUM_PICTURES, NUM_METADATA = 150, 150
SIDE, GOOD = 10, 40


def lines_of(error: UserError) -> list[str]:
    lines = str(error).split("\n")
    assert all(line.isprintable() and line.strip() for line in lines), lines
    return lines


# Pictures


@pytest.mark.parametrize("seed", range(NUM_PICTURES))
def test_a_hostile_picture_is_refused_by_its_name_and_nothing_else_is(tmp_path, seed):
    kinds = sorted(REFUSED)
    kind = kinds[seed % len(kinds)]
    rows = rows_of(GOOD)
    write_jsonl(tmp_path, rows)
    write_pictures(tmp_path, [str(row["file_name"]) for row in rows])
    (tmp_path / "007.png").unlink()
    REFUSED[kind](tmp_path / "007.png", np.random.default_rng(seed))
    with pytest.raises(UserError) as caught:
        read_all(tmp_path)
    (line,) = lines_of(caught.value)
    assert line.startswith(str(tmp_path))
    assert "007.png" in line
    assert line.count(";") >= 1, "it says what to do"


def read_all(folder: Path) -> None:
    params = ImageFolder(folder=folder.name, test_fraction=0.5, caption="{}", allow_flip=False)
    source = params.load(context(folder.parent, image_size=SIDE))
    for split in (source.train, source.test):
        split.images[0 : split.images.shape[0]]


@pytest.mark.extra
@pytest.mark.parametrize("kind", FORMATS)
def test_wherever_a_file_ends_it_is_refused_or_whole(tmp_path, kind):
    data = encoded(random_rgb(np.random.default_rng(0), 23, 19), kind)
    path = tmp_path / "p"
    path.write_bytes(data)
    whole = read_picture(path, 16, 3)
    refused = 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            assert (read_picture(path, 16, 3) == whole).all(), length
        except UserError as error:
            refused += 1
            lines_of(error)
    assert refused > 0.9 * len(data)


@pytest.mark.extra
def test_whatever_bit_of_a_png_flips_it_is_refused_or_the_same(tmp_path):
    data = encoded(random_rgb(np.random.default_rng(0), 9, 8), "PNG")
    path = tmp_path / "p"
    path.write_bytes(data)
    whole = read_picture(path, 16, 3)
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            assert (read_picture(path, 16, 3) == whole).all(), position
        except UserError as error:
            lines_of(error)


# Metadata

HEADER = b"file_name,text\n"
CSV = HEADER + b"".join(f"{i:03}.png,a thing {i % 3}\n".encode() for i in range(GOOD))
JSONL = b"".join(json.dumps(row).encode() + b"\n" for row in rows_of(GOOD))
LINE = b'{"file_name": "000.png", "text": "a cup"}\n'


def row(**changes: object) -> bytes:
    return json.dumps({"file_name": "000.png", "text": "a cup"} | changes).encode() + b"\n"


# Name of the file, its content, and what its first complaints say.
CASES: list[tuple[str, bytes, str]] = [
    ("metadata.jsonl", b"", "0 of 0 pictures are for the test"),
    ("metadata.csv", b"", "line 1: has no column file_name among []"),
    ("metadata.csv", HEADER, "0 of 0 pictures are for the test"),
    ("metadata.csv", b"file_name;text\na.png;b\n", "has no column file_name among ['file_name;te"),
    ("metadata.csv", b"file,text\n000.png,b\n", "has no column file_name among ['file', 'text']"),
    ("metadata.csv", b"file_name,caption\n000.png,b\n", "has no column text among"),
    ("metadata.csv", HEADER + b"000.png,a, b\n", "line 2: has more fields than the header; put"),
    ("metadata.csv", HEADER + b"000.png\n", "line 2: text: is empty; correct the line or remove"),
    ("metadata.csv", HEADER + b'000.png,"a\n', "is not CSV (unexpected end of data)"),
    ("metadata.csv", HEADER + b'000.png,"a"b\n', "line 2: is not CSV (',' expected after '\"')"),
    ("metadata.csv", HEADER + b"000.png,\n", "line 2: text: is empty"),
    ("metadata.csv", HEADER + b"000.png,   \n", "line 2: text: is empty"),
    ("metadata.csv", HEADER + b",a cup\n", "line 2: file_name: is empty"),
    ("metadata.csv", HEADER + b"000.png,caf\xe9\n", "line 2: is not UTF-8; save the file in that"),
    ("metadata.csv", CSV.decode().encode("utf-16"), "line 1: is not UTF-8"),
    ("metadata.csv", HEADER + b"000.png,\0a\n", "is the control character 0"),
    ("metadata.csv", HEADER + b"000.png," + b"y" * 200_000, "is not CSV (field larger than field"),
    ("metadata.csv", HEADER + b"/etc/hostname,a cup\n", "the file lies outside of the folder"),
    ("metadata.csv", HEADER + b"../000.png,a cup\n", "no such file; expected a picture; check the"),
    ("metadata.csv", HEADER + b".,a cup\n", "no such file"),
    ("metadata.csv", HEADER + b"000.png,a\n000.png,b\n", "the same file as in line 2; expected a"),
    ("metadata.csv", HEADER + b"000.png,a\n./000.png,b\n", "the same file as in line 2"),
    ("metadata.csv", b"file_name,text,split\n000.png,a,val\n", "line 2: split: 'val' is not allow"),
    ("metadata.jsonl", b"000.png a cup\n", "line 1: is not JSON (Extra data at column 2); correct"),
    ("metadata.jsonl", LINE + LINE[:-9], "line 2: is not JSON (Expecting value at column 34)"),
    ("metadata.jsonl", b"[\n" + LINE + b"]", "line 1: is not JSON (Expecting"),
    ("metadata.jsonl", b'["000.png", "a cup"]\n', "line 1: is ['000.png', 'a cup']; expected {"),
    ("metadata.jsonl", b"{}\n", "line 1: file_name: missing; correct the line or remove it"),
    ("metadata.jsonl", b"null\n", "line 1: is null; expected {"),
    ("metadata.jsonl", row(text=None), "line 1: text: is empty"),
    ("metadata.jsonl", row(text=["a", "b"]), "line 1: text: ['a', 'b'] is not allowed; expected a"),
    ("metadata.jsonl", row(objects={"bbox": [1]}), "line 1: objects: {'bbox': [1]} is not allowed"),
    ("metadata.jsonl", row(tags=["a"]), "line 1: tags: ['a'] is not allowed; expected a word or"),
    ("metadata.jsonl", row(text="\ud800"), "which UTF-8"),
    ("metadata.jsonl", row(file_name="a\x00b"), "no such file"),
    ("metadata.jsonl", row(file_name="x" * 9999), "no such file; expected a picture; check the n"),
    ("metadata.jsonl", row(file_name="000.png/x"), "no such file; expected a picture; check the"),
    ("metadata.jsonl", row(file_name="a\\000.png"), "no such file; expected a picture; check the"),
    ("metadata.jsonl", row(text="x" * 63), "is 63 bytes; expected at most 62 (clip.text_length 6"),
    ("metadata.jsonl", row(text="é" * 32), "is 64 bytes; expected at most 62 (clip.text_length 6"),
    ("metadata.jsonl", row(text="\u200b" * 90), "text: is empty"),
    ("metadata.jsonl", row(split="validation"), "split: 'validation' is not allowed; expected 'tr"),
]


def write_metadata(folder: Path, name: str, content: bytes) -> None:
    write_pictures(folder, [f"{i:03}.png" for i in range(GOOD)])
    (folder / name).write_bytes(content)


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: CASES[case][2][:40])
def test_metadata_that_can_not_be_honoured_are_a_line_that_says_why(tmp_path, case):
    name, content, words = CASES[case]
    write_metadata(tmp_path, name, content)
    with pytest.raises(UserError) as caught:
        read_all(tmp_path)
    lines = lines_of(caught.value)
    assert words in lines[0] or any(words in line for line in lines[:3])
    assert all(line.startswith(f"{tmp_path}/") for line in lines)


@pytest.mark.parametrize("seed", range(NUM_METADATA - len(CASES)))
def test_metadata_with_random_damage_are_lines_or_what_they_say(tmp_path, seed):
    draws = np.random.default_rng(seed)
    name, content = [("metadata.csv", CSV), ("metadata.jsonl", JSONL)][seed % 2]
    damaged = bytearray(content)
    for _ in range(int(draws.integers(1, 4))):
        start = int(draws.integers(len(damaged)))
        stop = start + int(draws.integers(0, 12))
        how = int(draws.integers(4))
        pieces = [b"", draws.bytes(3), b'"', b",\n{}[]:\\\0\xff"[: int(draws.integers(11))]]
        damaged[start:stop] = pieces[how]
    write_metadata(tmp_path, name, bytes(damaged))
    problems: list[str] = []
    own = read_folder(tmp_path, 64, problems)
    if problems:
        assert all(line.isprintable() for line in problems), problems
        assert all(line.startswith(f"{tmp_path}/{name}: ") for line in problems)
    else:
        assert_honest(own, bytes(damaged).decode("utf-8-sig"))


def assert_honest(own: OwnFolder, text: str) -> None:
    """What was read stands in the file, caption beside name."""
    for name, caption in zip(own.names, own.caption_index.tolist(), strict=True):
        assert (own.folder / name).resolve().is_relative_to(own.folder.resolve())
        read = json.dumps(own.captions[caption])[1:-1], own.captions[caption]
        own_lines = [line for line in text.splitlines() if name in line]
        assert any(each in line for line in own_lines for each in read), name


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "metadata.csv").write_bytes(CSV), "has both metadata.jsonl and metadata.c"),
        (lambda f: (f / "metadata.jsonl").unlink(), "has neither metadata.jsonl nor metadata.csv;"),
        (lambda f: f.rename(f.with_name("elsewhere")), "no such folder; expected one with pictur"),
    ],
)
def test_a_folder_without_one_metadata_file_is_one_line(
    tmp_path, spoil: Callable[[Path], object], words: str
):
    folder = make_folder(tmp_path / "own")
    spoil(folder)
    with pytest.raises(UserError) as caught:
        find_metadata(folder)
    (line,) = lines_of(caught.value)
    assert line.startswith(f"{folder}: {words}")
