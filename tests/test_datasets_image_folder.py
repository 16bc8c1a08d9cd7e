import hashlib
import itertools
import json
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from contexts import context
from own_folders import make_folder, rows_of, write_csv, write_jsonl, write_pictures
from PIL import Image

from unclip.config.errors import UserError
from unclip.data.prepared import Prepared
from unclip.datasets import own_folder
from unclip.datasets.attributes import MOST_VALUES, MOST_WORDS
from unclip.datasets.base import DatasetSource
from unclip.datasets.image_folder import ImageFolder
from unclip.datasets.own_folder import SHOWN, OwnFolder, read_folder
from unclip.datasets.prompts import default_prompts
from unclip.datasets.writer import write_prepared

SIDE = 10


def load(folder: Path, **changes: object) -> DatasetSource:
    told = context(folder.parent, image_size=SIDE, seed=changes.pop("seed", 0))
    params = {
        "folder": folder.name,
        "test_fraction": 0.5,
        "caption": "{}",
        "allow_flip": False,
    } | changes
    return ImageFolder(**params).load(told)


def read(folder: Path, text_length: int = 64) -> tuple[OwnFolder, list[str]]:
    problems: list[str] = []
    return read_folder(folder, text_length, problems), problems


def pictures(split) -> np.ndarray:
    return split.images[0 : split.images.shape[0]]


def on_disk(folder: Path, name: str) -> np.ndarray:
    with Image.open(folder / name) as image:
        return np.asarray(image).transpose(2, 0, 1)


# What is read


def test_every_picture_stands_beside_its_own_caption_and_attributes(tmp_path):
    captions = [f"a {c} {t}" for c, t in itertools.product("abc", ("cup", "hat"))]
    folder = make_folder(tmp_path / "own", 60, text=captions, kind=["x", "y", "z", "y"])
    source = load(folder)
    rows = {on_disk(folder, row["file_name"]).tobytes(): row for row in json_rows(folder)}
    seen = 0
    for split in (source.train, source.test):
        for pixels, caption, (kind,) in zip(
            pictures(split), split.caption_index, split.attributes, strict=True
        ):
            row = rows[pixels.tobytes()]
            assert source.captions[caption] == row["text"]
            assert source.attribute_values[0][kind] == row["kind"]
            seen += 1
    assert seen == 60
    assert source.attribute_names == ["kind"]


def json_rows(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_csv_says_the_same_as_jsonl(tmp_path):
    captions = ['a "red", round apple', "une pomme à gauche", "x, y"]
    rows = rows_of(45, text=captions, weight=[1, 2.5, 3])
    write_jsonl(tmp_path / "a", rows)
    write_csv(tmp_path / "b", rows)
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_pictures(folder, [str(row["file_name"]) for row in rows])
    one, other = load(tmp_path / "a"), load(tmp_path / "b")
    assert one.captions == other.captions == captions
    assert one.attribute_values == other.attribute_values == [["1", "2.5", "3"]]
    for name in ("train", "test"):
        mine, others = getattr(one, name), getattr(other, name)
        assert (pictures(mine) == pictures(others)).all()
        assert (mine.caption_index == others.caption_index).all()
        assert (mine.attributes == others.attributes).all()


def test_it_is_prepared_as_any_other_data_set(tmp_path):
    folder = make_folder(tmp_path / "own", 60)
    source = load(folder)
    write_prepared(tmp_path / "p", source, name="own", image_size=SIDE, val_fraction=0.2, seed=0)
    prepared = Prepared(tmp_path / "p")
    assert prepared.counts == {"train": 24, "val": 6, "test": 30}
    assert prepared.channels == 3
    everything = np.concatenate([prepared.split(name).images for name in prepared.counts])
    assert {p.tobytes() for p in everything} == {
        on_disk(folder, row["file_name"]).tobytes() for row in json_rows(folder)
    }
    assert not prepared.allow_flip


def test_pictures_are_decoded_when_their_slice_is_read(tmp_path, monkeypatch):
    source = load(make_folder(tmp_path / "own", 40))
    decoded = []
    monkeypatch.setattr(
        own_folder,
        "read_picture",
        lambda path, size, channels: (
            decoded.append(path.name) or np.zeros((channels, size, size), np.uint8)
        ),
    )
    assert source.train.images[3:5].shape == (2, 3, SIDE, SIDE)
    assert len(decoded) == 2


def test_a_picture_in_a_folder_below_is_found(tmp_path):
    rows = [row | {"file_name": f"deep/er/{row['file_name']}"} for row in rows_of(40)]
    write_jsonl(tmp_path / "own", rows)
    write_pictures(tmp_path / "own", [str(row["file_name"]) for row in rows])
    assert load(tmp_path / "own").train.images.shape[0] == 20


def test_space_around_values_and_a_byte_order_mark_are_no_part_of_them(tmp_path):
    folder = make_folder(tmp_path / "own", 40)
    rows = [f"{r['file_name']},  {r['text']} \r\n" for r in rows_of(40)]
    (folder / "metadata.jsonl").unlink()
    text = "\ufefffile_name, text\r\n" + "".join(rows)
    (folder / "metadata.csv").write_bytes(text.encode())
    assert load(folder).captions == ["a red thing", "a green thing", "a blue thing"]


def test_line_breaks_in_a_caption_are_spaces(tmp_path):
    folder = make_folder(tmp_path / "own", 40, text=["a red\n  thing", "a\tblue thing "])
    assert load(folder).captions == ["a red thing", "a blue thing"]


def test_the_nan_of_pandas_is_an_empty_cell(tmp_path):
    own, problems = read(make_folder(tmp_path / "own", 6, hue=["r", float("nan"), "g"]))
    assert problems == []
    assert own.attributes.of_pictures[:, 0].tolist() == [1, -1, 0] * 2


def test_a_column_that_cannot_name_a_figure_is_refused_where_it_would(tmp_path):
    columns = {"a/b": ["x", "y"], "width (px)": range(240)}
    _, problems = read(make_folder(tmp_path / "own", 240, **columns))
    (problem,) = problems
    assert "the column a/b cannot name a figure" in problem


def test_mirroring_is_the_users_to_allow(tmp_path):
    folder = make_folder(tmp_path / "own")
    assert load(folder, allow_flip=True).allow_flip
    assert not load(folder, allow_flip=False).allow_flip


# The test split


def names_of(split) -> list[str]:
    return list(split.images.names)


def test_the_share_of_the_test_is_that_of_the_params_and_its_choice_is_seeded(tmp_path):
    folder = make_folder(tmp_path / "own", 100)
    one, again, other = (load(folder, test_fraction=0.3, seed=seed) for seed in (0, 0, 1))
    assert len(names_of(one.test)) == 30
    assert sorted(names_of(one.test) + names_of(one.train)) == [f"{i:03}.png" for i in range(100)]
    assert names_of(one.test) == names_of(again.test) != names_of(other.test)


def test_a_folder_that_grows_keeps_most_of_its_test_pictures(tmp_path):
    folder = make_folder(tmp_path / "own", 100)
    before = set(names_of(load(folder, test_fraction=0.3).test))
    make_folder(folder, 120)
    write_jsonl(folder, json_rows(folder)[::-1])  # where a line stands must not matter
    after = set(names_of(load(folder, test_fraction=0.3).test))
    assert len(after) == 36
    assert len(before - after) <= 6


def test_a_column_split_decides_where_there_is_one(tmp_path):
    folder = make_folder(tmp_path / "own", 60, split=["train", "train", "test"])
    source = load(folder, test_fraction=0.1)
    assert sorted(names_of(source.test)) == [f"{i:03}.png" for i in range(2, 60, 3)]
    assert "split" not in source.attribute_names


def test_too_few_test_pictures_are_refused(tmp_path):
    folder = make_folder(tmp_path / "own", 100)
    with pytest.raises(UserError, match="10 of 100 pictures are for the test; expected at least 2"):
        load(folder, test_fraction=0.1)


def test_captions_of_their_own_are_nearly_all_trained_and_shared_ones_are_not(tmp_path):
    """A quarter of both fractions where every picture has its own caption, and at least 20."""
    texts = [f"picture {i}" for i in range(1000)]
    for count, text, expected in [
        (1000, texts, {"train": 934, "val": 41, "test": 25}),
        (200, texts, {"train": 160, "val": 20, "test": 20}),
        (1000, ["a", "b", "c"], {"train": 750, "val": 150, "test": 100}),
    ]:
        folder = tmp_path / f"{count} {text[0]}"
        source = load(make_folder(folder, count, text=text), test_fraction=0.1)
        told = {"name": "own", "image_size": SIDE, "val_fraction": 1 / 6, "seed": 0}
        write_prepared(tmp_path / "p", source, **told)
        assert Prepared(tmp_path / "p").counts == expected


def test_where_some_captions_are_shared_their_pictures_are_held_out_in_full(tmp_path):
    texts = [f"picture {i}" for i in range(400)] + ["a", "b", "c", "d"] * 100
    own, _ = read(make_folder(tmp_path / "own", 800, text=texts))
    test = own_folder.choose_test(own, 0.2, 0, [])
    alone = np.arange(800) < 400
    assert test.sum() == 100  # 0.2 of 400, and a quarter of it of the others
    assert 70 <= (test & ~alone).sum() <= 90


# Conventions


def test_class_folders_are_captions_and_an_attribute(tmp_path):
    names = [f"{kind}/{i}.png" for kind in ("tree_frog", "dog", "big-cat") for i in range(20)]
    write_pictures(tmp_path / "own", [*names, "preview.png", ".trash/1.png"])
    source = load(tmp_path / "own", caption="a photo of a {}")
    captions = [f"a photo of a {kind}" for kind in ("big cat", "dog", "tree frog")]
    assert source.captions == captions
    assert (source.attribute_names, stated(source)[captions[0]]) == (["class"], ["big cat"])
    assert sorted(names_of(source.train) + names_of(source.test)) == sorted(names)
    for name, caption in zip(names_of(source.test), source.test.caption_index, strict=True):
        word = name.split("/")[0].replace("_", " ").replace("-", " ")
        assert source.captions[caption].endswith(word)
    assert load(tmp_path / "own").captions == ["big cat", "dog", "tree frog"]


def test_folders_of_class_folders_are_splits_if_one_is_the_test(tmp_path):
    names = [
        f"{part}/{kind}/{i}.png" for part in ("test", "val") for kind in "ab" for i in range(9)
    ]
    write_pictures(tmp_path / "own", names)
    own, problems = read(tmp_path / "own")
    assert (problems, own.captions) == ([], ["a", "b"])
    assert own.is_test.tolist() == [name.startswith("test") for name in own.names]
    write_pictures(tmp_path / "other", names[18:])
    assert read(tmp_path / "other")[0].is_test is None
    write_pictures(tmp_path / "own", ["test/1.png"])  # a class called test
    assert read(tmp_path / "own")[0].is_test is None


def test_a_txt_beside_each_picture_is_its_caption(tmp_path):
    names = [f"10_dog/{i:02}.png" for i in range(40)]
    write_pictures(tmp_path / "own", names)
    for name in names:
        text = f"\ufeffA {('red', 'green')[int(name[7:9]) % 2]} dog,\n  asleep\n"
        (tmp_path / "own" / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    source = load(tmp_path / "own")
    assert source.captions == ["A red dog, asleep", "A green dog, asleep"]
    for name, caption in zip(names_of(source.train), source.train.caption_index, strict=True):
        assert caption == int(name[7:9]) % 2
    (tmp_path / "own" / "10_dog" / "07.txt").unlink()
    (tmp_path / "own" / "10_dog" / "09.txt").write_text(" ")
    _, problems = read(tmp_path / "own")
    assert [line.split(": ")[1:3] for line in problems] == [
        ["10_dog/07.txt", "text"],
        ["10_dog/09.txt", "text"],
    ]
    (tmp_path / "own" / "10_dog" / "11.txt").write_bytes(b"caf\xe9")
    assert "10_dog/11.txt: line 1: is not UTF-8" in read(tmp_path / "own")[1][-1]


def test_pictures_sorted_by_caption_are_shuffled_and_keep_their_captions(tmp_path):
    texts = [f"thing {i // 10}" for i in range(60)]
    source = load(make_folder(tmp_path / "own", 60, text=texts))
    captions = source.train.caption_index.tolist()
    assert captions != sorted(captions)
    for name, caption in zip(names_of(source.train), captions, strict=True):
        assert source.captions[caption] == texts[int(name[:3])]
    assert names_of(load(tmp_path / "own").train) == names_of(source.train)


def test_captions_that_differ_in_capital_letters_alone_are_one(tmp_path):
    own, problems = read(make_folder(tmp_path / "own", 6, text=["A Cat", "a cat", "a dog"]))
    assert problems == []
    assert own.captions == ["A Cat", "a dog"]
    assert own.caption_index.tolist() == [0, 0, 1, 0, 0, 1]


# Attributes


def stated(source: DatasetSource) -> dict[str, list[str | None]]:
    """Caption → the value that it states of each attribute."""
    return {
        caption: [
            None if code < 0 else values[code]
            for code, values in zip(row, source.attribute_values, strict=True)
        ]
        for caption, row in zip(source.captions, source.caption_attributes.tolist(), strict=True)
    }


def test_a_caption_states_what_all_of_its_pictures_have(tmp_path):
    columns = {"hue": ["r", "g", "b"], "size": ["small", "large"], "half": ["x", None, "x"]}
    source = load(make_folder(tmp_path / "own", 48, **columns, other=["x", "y"]))
    assert source.attribute_names == ["hue", "size", "other"]  # one value is none to tell apart
    assert stated(source) == {
        "a red thing": ["r", None, None],
        "a green thing": ["g", None, None],
        "a blue thing": ["b", None, None],
    }


def test_what_a_line_leaves_empty_is_unknown(tmp_path):
    source = load(make_folder(tmp_path / "own", 60, hue=["r", "", None, "g", " ", "b"]))
    split = source.train
    by_name = dict(zip(names_of(split), split.attributes[:, 0].tolist(), strict=True))
    expected = {0: 2, 1: -1, 2: -1, 3: 1, 4: -1, 5: 0}  # b, g, r in the order of the alphabet
    assert by_name == {name: expected[int(name[:3]) % 6] for name in by_name}


def test_a_column_that_comes_late_or_ends_early_is_unknown_elsewhere(tmp_path):
    rows = rows_of(60, text=["a b"])
    for row in rows[10:30]:
        row["hue"] = "r" if int(str(row["file_name"])[:3]) % 2 else "g"
    write_jsonl(tmp_path / "own", rows)
    write_pictures(tmp_path / "own", [str(row["file_name"]) for row in rows])
    own, problems = read(tmp_path / "own")
    assert problems == []
    assert own.attributes.of_pictures[:, 0].tolist() == [-1] * 10 + [0, 1] * 10 + [-1] * 30


def test_numbers_and_truth_values_are_classes_too(tmp_path):
    source = load(make_folder(tmp_path / "own", 60, n=[1, 2, 0], yes=[True, False]))
    assert source.attribute_values == [["0", "1", "2"], ["false", "true"]]


def test_a_column_of_too_many_values_is_left_out_with_a_note(tmp_path):
    many = [f"v{i}" for i in range(MOST_VALUES + 1)]
    folder = make_folder(tmp_path / "own", 300, most=many[:-1], many=many)
    own, problems = read(folder)
    assert problems == []
    assert own.attributes.names == ["most"]
    (note,) = own.notes
    assert note.startswith("column many: ")
    assert f"this has {MOST_VALUES + 1}: left out" in note


def test_without_columns_words_of_some_captions_are_the_attributes(tmp_path):
    captions = ["A red cup.", "a red hat", "a green cup", "a blue, blue hat"]
    source = load(make_folder(tmp_path / "own", 40, text=captions))
    # "a" stands in all of them, which is more than 90 %.
    assert source.attribute_names == [
        *("word_blue", "word_cup", "word_green", "word_hat", "word_red"),
    ]
    assert stated(source)["A red cup."] == ["absent", "present", "absent", "absent", "present"]
    rows = source.caption_attributes[source.train.caption_index]
    assert (source.train.attributes == rows).all()


def test_words_are_counted_by_pictures_and_not_by_captions(tmp_path):
    captions = ["one x"] * 95 + ["two x", "two y", "three z", "z", "z"]
    own, _ = read(make_folder(tmp_path / "own", 200, text=captions))
    # "one" stands in 95 % of the pictures' captions, "x" in 96, "y" and "three" in exactly 1.
    assert own.attributes.names == ["word_three", "word_two", "word_y", "word_z"]


def test_of_many_words_the_most_frequent_are_taken(tmp_path):
    frequent = [f"f{i:02} f{i:02}x" for i in range(MOST_WORDS // 2)]
    texts = [text for i, words in enumerate(frequent) for text in (words, f"{words} a{i}")]
    own, _ = read(make_folder(tmp_path / "own", len(texts), text=texts))
    assert len(own.attributes.names) == MOST_WORDS
    assert {f"word_{w}" for text in frequent for w in text.split()} == set(own.attributes.names)


@pytest.mark.parametrize(
    "captions",
    [["a cat"], [f"w{i}a w{i}b" for i in range(240)]],
    ids=["all alike", "all different"],
)
def test_where_no_word_tells_pictures_apart_there_are_no_attributes(tmp_path, captions, capsys):
    source = load(make_folder(tmp_path / "own", 240, text=captions))
    assert source.attribute_names == []
    assert source.train.attributes.shape == (source.train.images.shape[0], 0)
    assert source.caption_attributes.shape == (len(captions), 0)
    assert "no attributes: there is no column" in capsys.readouterr().err


# Prompts


def test_the_prompts_are_the_most_frequent_captions(tmp_path):
    captions = ["rare", *["b b"] * 3, *["a a"] * 5, "also rare"]
    assert load(make_folder(tmp_path / "own", 100, text=captions)).prompts[:2] == ["a a", "b b"]


def test_with_a_caption_for_each_picture_the_prompts_are_spread_and_two_were_never_trained(
    tmp_path,
):
    kinds = [f"kind {i // 40} number {i}" for i in range(240)]
    source = load(folder := make_folder(tmp_path / "own", 240, text=kinds), test_fraction=0.1)
    arguments = {"name": "own", "image_size": SIDE, "val_fraction": 0.1, "seed": 0}
    write_prepared(tmp_path / "prepared", source, **arguments)
    data = Prepared(tmp_path / "prepared")
    shown, tested = (
        {data.captions[i] for i in data.split(name).caption_index.tolist()}
        for name in ("train", "test")
    )
    own, _ = read(folder)
    test = own_folder.choose_test(own, 0.1, 0, [])
    trained = own_folder.choose_trained(own, test, 0.1, 0, [])
    assert {own.captions[i] for i in own.caption_index[trained]} == shown
    assert set(data.prompts[:6]) <= shown
    assert set(data.prompts[6:]) <= tested - shown
    assert {prompt.split()[1] for prompt in data.prompts[:6]} == set("012345")
    assert len(set(data.prompts)) == 8


def test_of_captions_equally_frequent_those_with_a_test_picture_come_first():
    captions = [f"caption {i}" for i in range(30)]
    trained = np.repeat(np.arange(30), 3)
    known, new = default_prompts(captions, trained, np.array([3, 9, 27, 27]))
    assert known[:3] == ["caption 3", "caption 9", "caption 27"]
    assert (len(set(known)), new) == (8, [])


# What is refused; tests/test_faults_own_pictures.py has more


def test_all_that_is_wrong_is_said_at_once_with_line_and_name(tmp_path):
    folder = make_folder(tmp_path / "own", 60)
    rows = json_rows(folder)
    rows[3]["text"] = "x" * 63
    rows[5]["file_name"] = "../../own.png"
    rows[7]["file_name"] = "none.png"
    rows[8] = {"file_name": "008.png"}
    rows[9]["file_name"] = "./010.png"
    rows[12]["split"] = "maybe"
    rows[14]["text"] = "  "
    write_jsonl(folder, rows)
    (tmp_path.parent / "own.png").touch()
    with pytest.raises(UserError) as caught:
        load(folder)
    lines = str(caught.value).splitlines()
    for number, line, what in [
        (0, "4 (003.png)", "is 63 bytes; expected at most 62"),
        (1, "6 (../../own.png)", "outside of the folder"),
        (2, "8 (none.png)", "no such file"),
        (3, "9", "text: missing"),
        (4, "11 (010.png)", "the same file as in line 10"),
        (5, "13", "split: 'maybe' is not allowed; expected 'train' or 'test'"),
        (6, "15", "text: is empty"),
    ]:
        assert lines[number].startswith(f"{folder}/metadata.jsonl: line {line}: ")
        assert what in lines[number]
    assert len(lines) == 7


def test_of_many_problems_the_first_are_shown_and_the_rest_is_counted(tmp_path):
    folder = make_folder(tmp_path / "own", 60, split=["train", ""])
    with pytest.raises(UserError) as caught:
        load(folder)
    lines = str(caught.value).splitlines()
    assert len(lines) == SHOWN + 1
    assert all("has no split" in line for line in lines[:SHOWN])
    assert "30 problems" in lines[SHOWN]  # and none about the test, which these lines may be for
    assert f"python cli.py data check {folder}" in lines[SHOWN]


def test_a_picture_that_cannot_be_read_stops_prepare_with_its_name(tmp_path):
    folder = make_folder(tmp_path / "own", 60)
    for name in ("030.png", "059.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:90])
    source = load(folder)
    old = tmp_path / "p" / "dataset.json"
    old.parent.mkdir()
    old.write_text("as it was")
    with pytest.raises(UserError) as caught:
        write_prepared(old.parent, source, name="own", image_size=SIDE, val_fraction=0.2, seed=0)
    (line,) = str(caught.value).splitlines()
    assert line.startswith((f"{folder}/030.png: cannot", f"{folder}/059.png: cannot"))
    assert line.endswith(f"`python cli.py data check {folder}` lists all that is wrong")
    assert old.read_text() == "as it was"


def test_a_refused_line_adds_nothing(tmp_path):
    """No caption, no cell, no attribute; and no complaint but its own."""
    columns = {"text": ["a cup", "a hat"], "kind": ["x", "y"]}
    rows = rows_of(60, **columns)
    (tmp_path / "x.png").touch()
    odd = {"text": "odd", "kind": "odd", "of its own": "odd"}
    refused = [
        ({"file_name": "059.png"}, "(059.png): the same file as in line NN"),
        ({"file_name": "./059.png"}, "(./059.png): the same file as in line NN"),
        ({"file_name": "../x.png"}, "(../x.png): the file lies outside"),
        ({"file_name": str(tmp_path / "x.png")}, f"({tmp_path}/x.png): the file lies outs"),
        ({"file_name": "none.png"}, "(none.png): no such file"),
        ({"file_name": "extra.png", "text": "x" * 63}, "(extra.png): caption 'xxx"),
        ({"file_name": "extra.png", "text": "\u200b"}, ": text: is empty"),
        ({"file_name": "extra.png", "split": "maybe"}, ": split: 'maybe'"),
    ]
    for name in ("jsonl", "csv"):
        folder = tmp_path / name
        whole = [row | {"split": "test", "of its own": ""} for row in rows]
        bad = [whole[0] | odd | change for change, _ in refused]
        (write_jsonl if name == "jsonl" else write_csv)(folder, [*whole, *bad])
        write_pictures(folder, [*(str(row["file_name"]) for row in rows), "extra.png"])
        own, problems = read(folder)
        first = 62 if name == "csv" else 61  # a header is line 1
        for line, (problem, (_, words)) in enumerate(zip(problems, refused, strict=True), first):
            assert problem.startswith(f"{folder}/metadata.{name}: line {line}")
            assert words.replace("NN", str(first - 1)) in problem
        assert own.names == [row["file_name"] for row in rows]
        assert own.captions == ["a cup", "a hat"]
        assert own.attributes.names == ["kind"]
        assert own.attributes.values == [["x", "y"]]
        assert own.attributes.of_pictures[:, 0].tolist() == [0, 1] * 30


@pytest.mark.parametrize(
    "metadata",
    [b"file_name;text\na.png;b\n", b"", b'file_name,text\n000.png,"a\n', b"\xff\xfea\0"],
    ids=["semicolons", "empty", "an open quote", "UTF-16"],
)
def test_a_fault_of_the_whole_file_is_one_line(tmp_path, metadata):
    folder = make_folder(tmp_path / "own")
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_bytes(metadata)
    with pytest.raises(UserError) as caught:
        load(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_where_dvc_has_put_links_to_its_cache_the_pictures_lie_in_the_folder(tmp_path):
    """A link stands for each file, and equal files have one; the folder and one below may too."""
    folder = make_folder(tmp_path / "real", 60)
    (folder / "001.png").write_bytes((folder / "000.png").read_bytes())
    write_jsonl(folder, [r | {"file_name": f"in/{r['file_name']}"} for r in json_rows(folder)])
    cache = tmp_path / "cache"
    cache.mkdir()
    for path in list(folder.iterdir()):
        kept = cache / hashlib.sha256(path.read_bytes()).hexdigest()
        path.replace(kept)
        (path.symlink_to if path.suffix == ".png" else path.hardlink_to)(kept)
    (folder / "in").symlink_to(folder)
    (tmp_path / "own").symlink_to(folder)
    own, problems = read(tmp_path / "own")
    assert problems == []
    assert own.names == [f"in/{number:03}.png" for number in range(60)]
    assert load(tmp_path / "own").train.images[0:30].shape[0] == 30


def test_a_link_in_a_folder_below_does_not_lead_out_of_the_folder(tmp_path):
    folder = make_folder(tmp_path / "own", 60)
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "other" / "out.png").touch()
    (folder / "in").symlink_to(tmp_path / "other" / "deep")
    rows = json_rows(folder)
    rows[0]["file_name"], rows[1]["file_name"] = "in/../out.png", "in/../001.png"
    write_jsonl(folder, rows)
    own, problems = read(folder)
    assert len(problems) == 1
    assert "line 1 (in/../out.png): " in problems[0]
    assert own.names[0] == "001.png"


# One form for what looks alike

NFC, NFD = "r\u00f6tlich", "ro\u0308tlich"


def test_captions_and_cells_that_look_alike_are_one(tmp_path):
    alike = [f"a {NFC} cup", f"A {NFD}\u00a0cup", f"\ufeffa\u2009{NFC}\u200b cup\u3000"]
    alike += ["a r\u00ad\u00f6t\u200clich\tcup\r\n", f"a\u202f{NFD} c\u2060u\u200dp\ufe0f\u200e"]
    folder = make_folder(tmp_path / "own", 60, text=alike, hue=[NFC, NFD, f"{NFC}\u200b", "b"])
    rows = [
        {normalize("NFD" if i % 2 else "NFC", "h\u00f6he\u00a01"): "x"} | row | {"n": i % 2}
        for i, row in enumerate(json_rows(folder))
    ]
    write_jsonl(folder, rows)
    own, problems = read(folder)
    assert problems == []
    assert own.captions == [f"a {NFC} cup"]
    assert dict(zip(own.attributes.names, own.attributes.values, strict=True)) == {
        **{"hue": ["b", NFC], "n": ["0", "1"]}
    }
    assert [note.split(":")[0] for note in own.notes] == ["column h\u00f6he 1"]


def test_what_joiners_make_one_of_is_no_other_emoji(tmp_path):
    family, three = "👨\u200d👩\u200d👧", "👨👩👧"
    folder = make_folder(tmp_path / "own", 60, text=[family, three, "❤", "❤\ufe0f"])
    assert load(folder).captions == [family, three, "❤"]


@pytest.mark.parametrize(("on_disk", "written"), [(NFC, NFD), (NFD, NFC)], ids=["NFC", "NFD"])
def test_a_name_finds_the_file_that_looks_like_it(tmp_path, on_disk, written):
    """As a Mac's zip file has it, or a copied name, or a screenshot's with its no-break space."""
    folder = tmp_path / "own"
    rows = rows_of(60)
    odd = {
        f"{on_disk}/1.png": f"{written}/1.png",
        f"{on_disk}/a b 50%#'(1).png": f"./{written}/a\u00a0b 50%#'(1)\u200b.png",
        "3.04\u202fPM.png": "3.04 PM.png",
        "two  spaces.png": "two  spaces.png",
    }
    write_pictures(folder, [*(str(row["file_name"]) for row in rows), *odd])
    rows += [{"file_name": name, "text": "odd"} for name in odd.values()]
    write_csv(folder, rows)
    own, problems = read(folder)
    assert problems == []
    assert own.names[60:] == list(odd)
    write_csv(folder, [*rows, {"file_name": f"{on_disk}/1.png", "text": "odd"}])
    _, (problem,) = read(folder)
    assert "the same file as in line 62" in problem


def test_names_that_look_alike_are_two_files_where_the_disk_has_both(tmp_path):
    folder, names = tmp_path / "own", [f"{NFC}.png", f"{NFD}.png"]
    write_pictures(folder, names)
    write_jsonl(folder, [{"file_name": name, "text": "a"} for name in names])
    own, problems = read(folder)
    assert (own.names, problems) == (names, [])


def test_the_form_of_a_name_does_not_choose_the_test_pictures(tmp_path):
    found = []
    for form in ("NFC", "NFD"):
        names = [normalize(form, f"\u00e4{number}.png") for number in range(60)]
        write_pictures(tmp_path / form, names)
        write_csv(tmp_path / form, [{"file_name": name, "text": "a"} for name in names])
        found.append(sorted(normalize("NFC", n) for n in names_of(load(tmp_path / form).test)))
    assert found[0] == found[1]
