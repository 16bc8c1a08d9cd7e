import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from contexts import context

from unclip.config.errors import UserError
from unclip.data.prepared import Normalisation, Prepared
from unclip.datasets import writer
from unclip.datasets.base import DatasetSource, Split
from unclip.datasets.shapes import Shapes
from unclip.datasets.writer import write_prepared

REPO = Path(__file__).resolve().parent.parent
SIZE = 4


def numbered_split(count: int, channels: int, first: int) -> Split:
    """Pictures that differ from each other and in every channel, to be known again anywhere."""
    random = np.random.default_rng(first)
    images = random.integers(0, 256, (count, channels, SIZE, SIZE), dtype=np.uint8)
    images = (images // np.arange(1, channels + 1)[:, None, None]).astype(np.uint8)
    captions = (np.arange(count) % 3).astype(np.int32)
    return Split(images, captions, np.stack([captions, captions % 2], axis=1).astype(np.int16))


def make_source(
    count: int = 60, channels: int = 3, judge: bool = False, **changes
) -> DatasetSource:
    fields = {
        "captions": ["zero", "one", "zwei é"],
        "attribute_names": ["digit", "parity"],
        "attribute_values": [["0", "1", "2"], ["even", "odd"]],
        "caption_attributes": np.array([[0, 0], [1, 1], [-1, 0]], dtype=np.int16),
        "held_out_captions": [2],
        "prompts": ["one", "zero"],
        "allow_flip": False,
        "train": numbered_split(count, channels, 1),
        "test": numbered_split(25, channels, 2),
        "judge": numbered_split(15, channels, 3) if judge else None,
    }
    return DatasetSource(**(fields | changes))


def write(
    folder: Path, source: DatasetSource, seed: int = 0, val_fraction: float = 0.25
) -> Prepared:
    write_prepared(
        folder, source, name="numbered", image_size=SIZE, val_fraction=val_fraction, seed=seed
    )
    return Prepared(folder)


def pictures(prepared: Prepared, split: str) -> list[bytes]:
    return [image.tobytes() for image in prepared.split(split).images]


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def prepared(tmp_path) -> Prepared:
    return write(tmp_path / "prepared", make_source())


# Writing


def test_train_and_val_are_disjoint_and_together_the_training_pictures(prepared):
    train, val = set(pictures(prepared, "train")), set(pictures(prepared, "val"))
    assert (len(train), len(val)) == (45, 15)
    assert not train & val
    assert train | val == {image.tobytes() for image in make_source().train.images[0:60]}


@pytest.mark.parametrize(("seed", "val_fraction"), [(0, 0.25), (7, 0.5)])
def test_the_test_split_is_the_sources_own_whatever_is_chosen(tmp_path, seed, val_fraction):
    source = make_source()
    prepared = write(tmp_path / "p", source, seed, val_fraction)
    split = prepared.split("test")
    assert (split.images == source.test.images[0:25]).all()
    assert split.caption_index.tolist() == source.test.caption_index.tolist()
    assert not set(pictures(prepared, "test")) & set(pictures(prepared, "val"))


def test_mean_and_std_do_not_look_at_val_or_test(tmp_path):
    first = write(tmp_path / "a", make_source(), seed=0)
    second = write(tmp_path / "b", make_source(test=numbered_split(9, 3, 8)), seed=0)
    assert (first.mean, first.std) == (second.mean, second.std)


def test_the_seed_chooses_the_validation_pictures(tmp_path, prepared):
    other = write(tmp_path / "other", make_source(), seed=1)
    assert pictures(other, "val") != pictures(prepared, "val")


def test_every_picture_keeps_its_caption_and_attributes(prepared):
    source = make_source().train
    truth = {
        image.tobytes(): (int(caption), attributes.tolist())
        for image, caption, attributes in zip(
            source.images[0:60], source.caption_index, source.attributes, strict=True
        )
    }
    for name in ("train", "val"):
        split = prepared.split(name)
        for image, caption, attributes in zip(
            split.images, split.caption_index, split.attributes, strict=True
        ):
            assert truth[image.tobytes()] == (int(caption), attributes.tolist())


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_std_are_those_of_the_float_pictures_in_each_channel(tmp_path, channels):
    prepared = write(tmp_path / "p", make_source(channels=channels))
    pixels = np.asarray(prepared.split("train").images, dtype=np.float64) / 255
    np.testing.assert_allclose(prepared.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(prepared.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)
    assert len(prepared.mean) == channels


def test_a_channel_of_one_value_has_a_std_to_divide_by(tmp_path):
    split = numbered_split(60, 3, 1)
    split.images[0:60][:, 1] = 77
    prepared = write(tmp_path / "p", make_source(train=split))
    assert prepared.std[1] == 1
    assert prepared.normalisation.normalise(prepared.split("train").gather([0])).isfinite().all()


def test_writing_twice_gives_the_same_bytes(tmp_path, prepared):
    write(tmp_path / "again", make_source())
    assert files(tmp_path / "again") == files(prepared.folder)


def test_the_size_of_the_chunks_changes_no_byte(tmp_path, prepared, monkeypatch):
    monkeypatch.setattr(writer, "CHUNK", 7)
    write(tmp_path / "again", make_source())
    assert files(tmp_path / "again") == files(prepared.folder)


def test_a_source_is_read_a_chunk_at_a_time_and_once(tmp_path, prepared, monkeypatch):
    class Watched:
        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape, self.read = array, array.shape, []

        def __getitem__(self, rows: slice) -> np.ndarray:
            self.read.append((rows.start, rows.stop))
            return self.array[rows]

    monkeypatch.setattr(writer, "CHUNK", 25)
    train = make_source().train
    watched = [Watched(a) for a in (train.images, train.caption_index, train.attributes)]
    write(tmp_path / "again", make_source(train=Split(*watched)))
    parts = [(0, 25), (25, 50), (50, 60)]
    images, captions, attributes = (array.read for array in watched)
    assert images == attributes == parts
    assert captions == parts * 2  # first to choose the validation split
    assert files(tmp_path / "again") == files(prepared.folder)


def test_progress_is_told_of_every_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "CHUNK", 25)
    told: list[int] = []
    write_prepared(
        tmp_path / "p",
        make_source(judge=True),
        name="numbered",
        image_size=SIZE,
        val_fraction=0.25,
        seed=0,
        advance=told.append,
    )
    assert told == [25, 25, 10, 25, 15]  # 60 of train and val, 25 of test, 15 of judge


def test_writing_replaces_all_of_what_was_there(tmp_path):
    write(tmp_path / "p", make_source(judge=True))
    write(tmp_path / "p", make_source())
    assert not (tmp_path / "p" / "judge").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_source_that_fails_leaves_the_old_folder(tmp_path, prepared):
    class Broken:
        shape = (60, 3, SIZE, SIZE)

        def __getitem__(self, rows: slice) -> np.ndarray:
            raise OSError("unreadable picture")

    before = files(prepared.folder)
    train = make_source().train
    broken = make_source(train=Split(Broken(), train.caption_index, train.attributes))
    with pytest.raises(OSError, match="unreadable"):
        write(prepared.folder, broken)
    assert files(prepared.folder) == before


@pytest.mark.parametrize("val_fraction", [0.001, 0.999])
def test_an_empty_split_is_an_error(tmp_path, val_fraction):
    with pytest.raises(UserError, match=r"data\.val_fraction: .* of 60 pictures"):
        write(tmp_path / "p", make_source(), val_fraction=val_fraction)


def test_the_description_has_sorted_keys_and_readable_captions(prepared):
    text = (prepared.folder / "dataset.json").read_text(encoding="utf-8")
    keys = list(json.loads(text))
    assert keys == sorted(keys)
    assert "zwei é" in text


def test_lazily_drawn_shapes_arrive_as_drawn_and_without_held_out_pairs(tmp_path):
    shapes = Shapes(num_objects=1, num_train=600, num_test=300, num_judge=300)
    source = shapes.load(context(image_size=16))
    write_prepared(tmp_path / "p", source, name="shapes", image_size=16, val_fraction=0.2, seed=0)
    prepared = Prepared(tmp_path / "p")
    assert prepared.counts == {"train": 480, "val": 120, "test": 300, "judge": 300}
    held_out = set(prepared.held_out_captions)
    for name, expected in (("train", False), ("val", False), ("test", True), ("judge", True)):
        split = prepared.split(name)
        assert bool(held_out & set(split.caption_index.tolist())) is expected
        expected = prepared.caption_attributes[split.caption_index]
        assert split.attributes.tolist() == expected.tolist()
    assert (prepared.split("judge").images == source.judge.images[0:300]).all()


# Reading


def test_the_description_comes_back_as_it_was(prepared):
    source = make_source()
    assert prepared.name == "numbered"
    for name in ("captions", "attribute_names", "attribute_values", "prompts"):
        assert getattr(prepared, name) == getattr(source, name)
    assert prepared.held_out_captions == [2]
    assert prepared.allow_flip is False
    assert prepared.caption_attributes.tolist() == source.caption_attributes.tolist()
    assert (prepared.image_size, prepared.channels) == (SIZE, 3)


def test_gather_reads_the_pictures_in_the_order_asked(prepared):
    split = prepared.split("train")
    indices = torch.tensor([5, 0, 44, 5])
    images = split.gather(indices)
    assert images.dtype == torch.uint8
    assert images.numpy().tobytes() == b"".join(split.images[i].tobytes() for i in indices.tolist())


def test_what_gather_gives_may_be_changed_without_changing_the_data(prepared):
    split = prepared.split("train")
    before = split.gather([3])
    split.gather([3]).zero_()
    assert torch.equal(split.gather([3]), before)
    assert before.any()


@pytest.mark.parametrize(("at_most", "expected"), [(None, 45), (7, 7), (45, 45), (100, 45)])
def test_a_split_of_at_most_so_many_pictures_is_its_beginning(prepared, at_most, expected):
    split, whole = prepared.split("train", at_most), prepared.split("train")
    assert len(split) == len(split.caption_index) == len(split.attributes) == expected
    assert (split.images == whole.images[:expected]).all()
    assert torch.equal(split.caption_index, whole.caption_index[:expected])
    assert torch.equal(split.attributes, whole.attributes[:expected])


def test_captions_that_are_changed_in_memory_stay_as_they_are_on_disk(prepared):
    before = files(prepared.folder)
    split = prepared.split("train")
    split.caption_index.zero_()
    split.attributes.zero_()
    assert files(prepared.folder) == before


def test_the_judge_learns_from_train_where_it_has_no_split_of_its_own(tmp_path, prepared):
    assert prepared.judge_split == "train"
    assert pictures(prepared, "judge") == pictures(prepared, "train")
    own = write(tmp_path / "own", make_source(judge=True))
    assert own.judge_split == "judge"
    assert len(own.split("judge")) == 15


def test_a_data_set_without_attributes_can_be_read(tmp_path):
    def bare(split: Split) -> Split:
        return Split(split.images, split.caption_index, split.attributes[:, :0])

    source = make_source()
    prepared = write(
        tmp_path / "p",
        make_source(
            attribute_names=[],
            attribute_values=[],
            caption_attributes=np.zeros((3, 0), dtype=np.int16),
            train=bare(source.train),
            test=bare(source.test),
        ),
    )
    assert prepared.split("train").attributes.shape == (45, 0)
    assert prepared.caption_attributes.shape == (3, 0)


def test_normalised_training_pictures_have_mean_0_and_std_1_in_each_channel(prepared):
    images = prepared.normalisation.normalise(prepared.split("train").gather(range(45)))
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    std = images.std((0, 2, 3), correction=0)
    torch.testing.assert_close(std, torch.ones(3), atol=1e-5, rtol=0)


def test_every_pixel_value_survives_normalisation_in_every_channel():
    normalisation = Normalisation((0.9, 0.02, 0.48), (0.05, 0.3, 1.0))
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(normalisation.to_uint8(normalisation.normalise(values)), values)


def test_values_beyond_the_range_are_clamped_and_others_rounded():
    normalisation = Normalisation((0.0,), (1.0,))
    images = torch.tensor([-3.0, 0.6 / 255, 1.4 / 255, 9.0]).view(1, 1, 2, 2)
    assert normalisation.to_uint8(images).flatten().tolist() == [0, 1, 1, 255]


def test_the_value_range_is_that_of_black_and_white(prepared):
    low, high = prepared.normalisation.value_range()
    assert low.shape == high.shape == (3, 1, 1)
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert torch.equal(torch.stack([low, high]), prepared.normalisation.normalise(black_and_white))
    mean, std = np.array(prepared.mean), np.array(prepared.std)
    np.testing.assert_allclose(low.flatten(), -mean / std, rtol=1e-6)
    np.testing.assert_allclose(high.flatten(), (1 - mean) / std, rtol=1e-6)


def test_pictures_are_not_read_whole(prepared):
    base = prepared.split("train").images
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_real_pictures_are_the_first_test_picture_of_each_caption(prepared):
    source = make_source().test
    rows = prepared.real_pictures(["one", "zero"])
    assert np.array_equal(rows, source.images[[1, 0]])
    assert prepared.real_pictures(["one", "a stranger"]) is None


def test_a_real_picture_of_a_caption_that_no_test_picture_has_is_a_training_picture(tmp_path):
    prepared = write(tmp_path / "p", make_source(test=numbered_split(2, 3, 2)))
    test, train = prepared.split("test"), prepared.split("train")
    row = train.caption_index.tolist().index(prepared.captions.index("zwei é"))
    rows = prepared.real_pictures(["zero", "zwei é"])
    assert np.array_equal(rows, [test.images[0], train.images[row]])


# Faults


def describe(prepared: Prepared, **changes) -> None:
    path = prepared.folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("name", None), ("image_size", 0), ("channels", 2), ("captions", []), ("prompts", [])),
        *(("attribute_values", [["0"], []]), ("held_out_captions", [-1]), ("allow_flip", 1)),
        *(("judge_split", "test"), ("counts", {"train": -1}), ("mean", [0.5, float("nan")])),
        *(("std", [0.5, 0.5, 0]), ("an_unknown_key", 1), ("format_version", 99)),
    ],
)
def test_a_description_of_another_version_is_named(prepared, key, value):
    describe(prepared, **{key: value})
    with pytest.raises(UserError, match=r"^.*dataset\.json: is damaged .*dvc repro .*$"):
        Prepared(prepared.folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_description_is_named(prepared, text):
    (prepared.folder / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json: is damaged"):
        Prepared(prepared.folder)


def test_a_missing_folder_says_what_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/dataset\.json: is missing.*dvc repro .*prepare"):
        Prepared(tmp_path / "nowhere")


@pytest.mark.parametrize("array", ["images", "caption_index", "attributes"])
def test_an_array_that_is_not_as_described_is_named(prepared, array):
    path = prepared.folder / "val" / f"{array}.npy"
    whole = np.load(path)
    for damaged in (whole.astype(np.int64), whole[1:]):
        np.save(path, damaged)
        with pytest.raises(UserError, match=rf"val/{array}\.npy: is damaged .*prepare"):
            prepared.split("val")
    path.unlink()
    with pytest.raises(UserError, match=rf"val/{array}\.npy: is missing"):
        prepared.split("val")


# One more data set


TOY = """
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from unclip.config.layout import Layout
from unclip.config.yaml12 import load_yaml
from unclip.datasets.base import Context, Dataset, DatasetSource, Split
from unclip.datasets.registry import DATASETS


class Toy(Dataset):
    num: Annotated[int, Field(ge=1)]

    def load(self, context: Context) -> DatasetSource:
        side = context.image_size
        images = np.arange(self.num, dtype=np.uint8)[:, None, None, None]
        images = np.broadcast_to(images, (self.num, 1, side, side))
        none = np.zeros((self.num, 0), dtype=np.int16)
        split = Split(images, np.zeros(self.num, dtype=np.int32), none)
        return DatasetSource(
            captions=["a grey"],
            attribute_names=[],
            attribute_values=[],
            caption_attributes=none[:1],
            held_out_captions=[],
            prompts=["a grey"],
            allow_flip=True,
            train=split,
            test=split,
        )

    def status(self, raw_dir: Path, root: Path) -> str:
        return f"{self.num} greys"


DATASETS["toy"] = Toy

from stages import prepare
from unclip.params.loading import validate_params

raw = load_yaml(Path("params.yaml").read_text(encoding="utf-8"))
raw["data"] |= {"dataset": "toy", "toy": {"num": int(sys.argv[1])}}
params = validate_params(raw)
print(params.data.chosen.status(Path(), Path()))
prepare.run(Layout(Path(sys.argv[2])), params.clip, params.data)
"""


def run_toy(num: int, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TOY, str(num), str(folder)],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_new_data_set_is_one_class_and_one_entry(tmp_path):
    done = run_toy(60, tmp_path)
    assert done.stdout == "60 greys\n", done.stderr
    prepared = Prepared(tmp_path / "data" / "prepared")
    assert prepared.name == "toy"
    assert prepared.counts == {"train": 50, "val": 10, "test": 60}
    assert [int(image.max()) for image in prepared.split("test").images] == list(range(60))


def test_the_params_of_a_new_data_set_are_validated_as_all_others(tmp_path):
    done = run_toy(0, tmp_path)
    assert "params.yaml: data.toy.num: 0 is not allowed; expected greater than" in done.stderr
