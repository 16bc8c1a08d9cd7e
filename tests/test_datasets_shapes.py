import colorsys
import hashlib

import numpy as np
import pytest
from contexts import context

from unclip.core.seeding import derive_seed
from unclip.datasets import shapes
from unclip.datasets.base import DatasetSource, Split
from unclip.datasets.shapes import Shapes

SPLITS = ("train", "test", "judge")


def load(num: int = 300, seed: int = 0, image_size: int = 32) -> DatasetSource:
    params = Shapes(num_objects=1, num_train=num, num_test=num, num_judge=num)
    return params.load(context(image_size=image_size, seed=seed))


@pytest.fixture(scope="module")
def source() -> DatasetSource:
    return load()


@pytest.fixture(scope="module")
def judge(source) -> tuple[np.ndarray, list[list[str]]]:
    """Pictures with all pairs, and the words of their captions."""
    return source.judge.images[0:300], words(source, source.judge)


def words(source: DatasetSource, split: Split) -> list[list[str]]:
    return [source.captions[i].split() for i in split.caption_index[:]]


def ink(image: np.ndarray) -> np.ndarray:
    """(H, W) share of the shape in each pixel, by distance from the corner's colour."""
    distance = np.abs(image.astype(float) - image[:, :1, :1]).sum(0)
    return distance / distance.max()


def see_colour(image: np.ndarray) -> str:
    red, green, blue = image[:, ink(image) > 0.97].mean(1) / 255
    hue = 360 * colorsys.rgb_to_hsv(red, green, blue)[0]
    edges = {14: "red", 40: "orange", 66: "yellow", 170: "green", 250: "blue", 320: "purple"}
    return next((name for edge, name in edges.items() if hue < edge), "red")


def see_shape(image: np.ndarray) -> str:
    """By the symmetry of the mass around its centre: 3-, 4- or 5-fold, or none."""
    mass = ink(image)
    y, x = np.mgrid[: mass.shape[0], : mass.shape[1]]
    x, y = x - (mass * x).sum() / mass.sum(), y - (mass * y).sum() / mass.sum()
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    power = {
        name: abs((mass * radius**6 * np.exp(1j * n * angle)).sum()) / (mass * radius**6).sum()
        for n, name in ((3, "triangle"), (4, "square"), (5, "star"))
    }
    best = max(power, key=power.__getitem__)
    return best if power[best] > 0.25 else "circle"


def test_the_colour_is_the_one_that_the_caption_says(judge):
    images, captions = judge
    assert [see_colour(image) for image in images] == [colour for _, _, colour, _ in captions]


def test_the_size_is_the_one_that_the_caption_says(judge):
    images, captions = judge
    seen = ["small" if ink(image).sum() < 160 else "large" for image in images]
    assert seen == [size for _, size, _, _ in captions]


def test_the_shape_is_the_one_that_the_caption_says(judge):
    images, captions = judge
    assert [see_shape(image) for image in images] == [shape for _, _, _, shape in captions]


@pytest.mark.parametrize("image_size", [16, 32, 48])
def test_no_shape_touches_the_border(image_size):
    images = load(200, image_size=image_size).train.images[0:200].astype(int)
    ring = np.ones((image_size, image_size), dtype=bool)
    ring[1:-1, 1:-1] = False
    border = images[:, :, ring]
    assert (border == border[:, :, :1]).all()


def test_shapes_stand_at_many_places(source):
    centres = [np.argwhere(ink(image) > 0.5).mean(0) for image in source.train.images[0:300]]
    assert (np.std(centres, axis=0) > 3).all()


def test_held_out_pairs_are_four_and_leave_every_colour_and_shape_in_training(source):
    pairs = {tuple(source.captions[i].split()[2:]) for i in source.held_out_captions}
    assert (
        len(pairs)
        == len({colour for colour, _ in pairs})
        == len({shape for _, shape in pairs})
        == 4
    )
    assert len(source.held_out_captions) == 8
    seen = {tuple(w[2:]) for w in words(source, source.train)}
    assert not pairs & seen
    assert len({colour for colour, _ in seen}) == 6
    assert len({shape for _, shape in seen}) == 4


def test_no_training_picture_is_held_out_and_all_other_captions_are_drawn():
    source = load(2000)
    expected = set(range(48)) - set(source.held_out_captions)
    assert set(source.train.caption_index[:].tolist()) == expected


@pytest.mark.parametrize("split", ["test", "judge"])
def test_other_splits_hold_every_caption(split):
    assert set(getattr(load(2000), split).caption_index[:].tolist()) == set(range(48))


@pytest.mark.parametrize("split", SPLITS)
def test_attributes_are_the_words_of_the_caption(source, split):
    values = source.attribute_values
    pictures = getattr(source, split)
    told = [
        ["a", *(values[a][v] for a, v in enumerate(row))] for row in pictures.attributes[:].tolist()
    ]
    assert told == words(source, pictures)


def test_the_table_of_captions_says_what_the_captions_say(source):
    assert source.caption_attributes.shape == (48, 3)
    for caption, row in zip(source.captions, source.caption_attributes, strict=True):
        told = [source.attribute_values[a][v] for a, v in enumerate(row)]
        assert caption == "a " + " ".join(told)


def test_a_small_split_is_the_beginning_of_a_large_one():
    few, many = load(64).train, load(300).train
    assert (few.images[0:64] == many.images[0:64]).all()
    assert (few.caption_index[:] == many.caption_index[:64]).all()


def test_a_picture_is_the_same_in_whatever_slice_it_is_read(source):
    images = source.train.images
    assert (images[0:300][130:150] == images[130:150]).all()
    assert images[290:400].shape == (10, 3, 32, 32)


def test_captions_and_attributes_are_the_same_in_whatever_slice_they_are_read(source):
    for array in (source.train.caption_index, source.train.attributes):
        whole = array[:]
        assert whole.shape == array.shape
        for start in range(9):
            assert (array[start : start + 5] == whole[start : start + 5]).all()
        assert (array[290:400] == whole[290:]).all()


def test_slices_are_drawn_from_one_stream_of_random_numbers(source):
    stream = np.random.Generator(np.random.Philox(derive_seed(0, "shapes judge")))
    drawn = (stream.random((300, shapes.NUM_DRAWS))[:, 0] * 48).astype(int)
    assert source.judge.caption_index[:].tolist() == drawn.tolist()
    assert source.judge.caption_index[131:140].tolist() == drawn[131:140].tolist()


def test_equal_seeds_draw_equal_pictures_and_others_do_not(source):
    images = source.train.images[0:50]
    assert (load().train.images[0:50] == images).all()
    assert (load(seed=1).train.images[0:50] != images).any(axis=(1, 2, 3)).all()


def test_pictures_are_those_that_they_were_when_this_was_written(source):
    pixels = b"".join(getattr(source, split).images[0:64].tobytes() for split in SPLITS)
    assert hashlib.sha256(pixels).hexdigest() == (
        "355d043a10a6a924c2dba870472c5ca27f8e13d460b5096473f195ae6979d87f"
    )


def test_no_picture_is_in_two_splits(source):
    pictures = [
        image.tobytes() for split in SPLITS for image in getattr(source, split).images[0:300]
    ]
    assert len(set(pictures)) == 900


def test_prompts_are_eight_captions_that_training_shows(source):
    assert len(set(source.prompts)) == 8
    shown = [c for i, c in enumerate(source.captions) if i not in source.held_out_captions]
    assert set(source.prompts) <= set(shown)
