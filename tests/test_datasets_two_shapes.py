"""The built-in set with two shapes a picture, seen by eyes that share no code with the drawing."""

from itertools import pairwise

import numpy as np
import pytest
from contexts import context
from test_datasets_shapes import ink, see_colour, see_shape

from unclip.data.tokenizer import tokenize
from unclip.datasets.base import DatasetSource
from unclip.datasets.shapes import Shapes

SPLITS = ("train", "test", "judge")
HELD_OUT = {"purple circle", "yellow square", "blue triangle", "green star"}
LENGTH = 64  # bytes of a caption, as params.yaml has it


def load(num: int = 300, seed: int = 0, image_size: int = 32) -> DatasetSource:
    params = Shapes(num_objects=2, num_train=num, num_test=num, num_judge=num)
    return params.load(context(image_size=image_size, seed=seed))


@pytest.fixture(scope="module")
def source() -> DatasetSource:
    return load()


def parts(image: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """The relation, and the two halves of the picture that an empty line of pixels divides."""
    mass = np.abs(image.astype(float) - image[:, :1, :1]).sum(0) > 30
    found = []
    for axis, relation in ((0, "above"), (1, "left of")):
        filled = np.flatnonzero(mass.any(axis=1 - axis))
        gaps = [(a + b + 1) // 2 for a, b in pairwise(filled.tolist()) if b > a + 1]
        found += [(relation, *np.split(image, [gap], axis=1 + axis)) for gap in gaps]
    assert len(found) == 1, f"{len(found)} empty lines between two shapes"
    return found[0]


def see_thing(image: np.ndarray) -> str:
    colour, shape = see_colour(image), see_shape(image)
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}"


def test_each_picture_shows_what_its_caption_says(source):
    told = [source.captions[i] for i in source.judge.caption_index[:]]
    seen = []
    for image in source.judge.images[0:300]:
        relation, first, second = parts(image)
        seen.append(f"{see_thing(first)} {relation} {see_thing(second)}")
    assert seen == told


@pytest.mark.parametrize("image_size", [16, 32, 48])
def test_no_shape_touches_the_border_or_the_other_shape(image_size):
    images = load(400, image_size=image_size).train.images[0:400].astype(int)
    ring = np.ones((image_size, image_size), dtype=bool)
    ring[1:-1, 1:-1] = False
    border = images[:, :, ring]
    assert (border == border[:, :, :1]).all()
    middle = slice(image_size // 2 - 1, image_size // 2 + 1)  # two lines on the way between them
    for image in images:
        between = (image[:, middle], image[:, :, middle])
        assert any((lines == image[:, :1, :1].reshape(3, 1, 1)).all() for lines in between)


def test_one_stands_beside_the_other_and_never_askew(source):
    for image in source.train.images[0:300]:
        mass = ink(image) > 0.1
        relation, first, _ = parts(image)
        axis = 0 if relation == "above" else 1
        edge = first.shape[1 + axis]
        one, other = np.split(mass, [edge], axis=axis)
        offset = np.argwhere(other).mean(0) - np.argwhere(one).mean(0)
        offset[axis] += edge
        assert offset[axis] > 2 * abs(offset[1 - axis])


def test_shapes_stand_at_many_places(source):
    centres = [np.argwhere(ink(image) > 0.3).mean(0) for image in source.train.images[0:300]]
    assert (np.std(centres, axis=0) > 1).all()


def test_the_two_differ_in_colour_and_in_shape_in_every_way_there_is(source):
    colours, kinds = source.attribute_values[0], source.attribute_values[1]
    named = {
        f"{'an' if c1 == 'orange' else 'a'} {c1} {s1} {relation} "
        f"{'an' if c2 == 'orange' else 'a'} {c2} {s2}"
        for c1 in colours
        for s1 in kinds
        for relation in ("above", "left of")
        for c2 in colours
        for s2 in kinds
        if c1 != c2 and s1 != s2
    }
    assert len(source.captions) == len(named) == 720
    assert set(source.captions) == named


def test_held_out_are_the_captions_that_name_a_held_out_pair(source):
    expected = [
        i for i, caption in enumerate(source.captions) if any(p in caption for p in HELD_OUT)
    ]
    assert source.held_out_captions == expected
    assert len(expected) == 216


def test_no_training_picture_is_held_out_and_all_other_captions_are_drawn():
    source = load(8000)
    expected = set(range(720)) - set(source.held_out_captions)
    assert set(source.train.caption_index[:].tolist()) == expected


@pytest.mark.parametrize("split", ["test", "judge"])
def test_other_splits_hold_every_caption(split):
    assert set(getattr(load(12_000), split).caption_index[:].tolist()) == set(range(720))


def test_attributes_are_the_words_of_the_caption_in_their_order(source):
    assert source.attribute_names == ["colour_1", "shape_1", "relation", "colour_2", "shape_2"]
    for split in SPLITS:
        pictures = getattr(source, split)
        for row, caption in zip(
            pictures.attributes[:].tolist(), pictures.caption_index[:].tolist(), strict=True
        ):
            words = [source.attribute_values[a][v] for a, v in enumerate(row)]
            plain = source.captions[caption].replace("an orange", "a orange")
            assert "a {} {} {} a {} {}".format(*words) == plain
            assert source.caption_attributes[caption].tolist() == row


def test_a_mirrored_picture_is_none_of_this_set(source):
    assert source.allow_flip is False
    told = [source.captions[i] for i in source.judge.caption_index[:]]
    for image, caption in zip(source.judge.images[0:300], told, strict=True):
        relation, first, second = parts(image[:, :, ::-1])
        seen = f"{see_thing(first)} {relation} {see_thing(second)}"
        assert (seen == caption) is (relation == "above")


def test_every_caption_fits_the_text_length_that_ships(source):
    tokens, _ = tokenize(source.captions, LENGTH)
    assert len(tokens) == 720


def test_a_small_split_is_the_beginning_of_a_large_one():
    few, many = load(64).train, load(300).train
    assert (few.images[0:64] == many.images[0:64]).all()
    assert (few.caption_index[:] == many.caption_index[:64]).all()


def test_a_picture_is_the_same_in_whatever_slice_it_is_read(source):
    images = source.train.images
    assert (images[0:300][130:150] == images[130:150]).all()
    assert images[290:400].shape == (10, 3, 32, 32)
    for array in (source.train.caption_index, source.train.attributes):
        for start in range(9):
            assert (array[start : start + 5] == array[:][start : start + 5]).all()


def test_equal_seeds_draw_equal_pictures_and_others_do_not(source):
    images = source.train.images[0:50]
    assert (load().train.images[0:50] == images).all()
    assert (load(seed=1).train.images[0:50] != images).any(axis=(1, 2, 3)).all()


def test_no_picture_is_in_two_splits(source):
    pictures = [
        image.tobytes() for split in SPLITS for image in getattr(source, split).images[0:300]
    ]
    assert len(set(pictures)) == 900


def test_prompts_are_captions_that_training_shows_and_tell_the_same_words_apart(source):
    shown = {c for i, c in enumerate(source.captions) if i not in source.held_out_captions}
    assert len(set(source.prompts)) == 8
    assert set(source.prompts) <= shown
    words = [tuple(sorted(prompt.split())) for prompt in source.prompts]
    assert len(set(words)) < len(words)
