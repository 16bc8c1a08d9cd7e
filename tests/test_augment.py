import pytest
import torch

from unclip.training.augment import augment, drop_words, is_part_of


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(batch: int = 64, height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator(9)).to(torch.uint8)


def candidates(image: torch.Tensor, padding: int, flip: bool) -> dict[tuple, torch.Tensor]:
    """Every picture that may come of one, by real padding (in floats) and slicing."""
    _, height, width = image.shape
    found = {}
    for mirrored in (False, True) if flip else (False,):
        start = image.flip(-1) if mirrored else image
        padded = torch.nn.functional.pad(start[None].float(), (padding,) * 4, mode="replicate")[0]
        for y in range(2 * padding + 1):
            for x in range(2 * padding + 1):
                found[mirrored, y, x] = padded[:, y : y + height, x : x + width]
    return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_picture_is_a_flip_and_a_crop_of_its_edge_padded_self(dtype):
    images = random_images()
    augmented = augment(images.to(dtype), generator(), flip=True, crop_padding=2)
    assert augmented.dtype == dtype
    assert augmented.shape == images.shape
    seen = set()
    for before, after in zip(images, augmented, strict=True):
        options = candidates(before, 2, flip=True)
        matches = [key for key, option in options.items() if torch.equal(option, after.float())]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {mirrored for mirrored, _, _ in seen} == {False, True}
    assert {y for _, y, _ in seen} == {x for _, _, x in seen} == set(range(5))


def test_flips_are_for_half_of_the_pictures():
    images = random_images(2000, 2, 2)
    augmented = augment(images, generator(), flip=True, crop_padding=0)
    share = (augmented == images.flip(-1)).flatten(1).all(1).float().mean()
    assert 0.45 < share < 0.55


def test_without_flips_no_picture_is_mirrored():
    images = random_images()
    augmented = augment(images, generator(), flip=False, crop_padding=1)
    for before, after in zip(images, augmented, strict=True):
        options = candidates(before, 1, flip=False).values()
        assert any(torch.equal(option, after.float()) for option in options)


def test_with_everything_off_pictures_stay_as_they_are():
    images = random_images()
    assert torch.equal(augment(images, generator(), flip=False, crop_padding=0), images)


def test_the_result_is_a_function_of_the_generator_alone():
    images = random_images()
    torch.manual_seed(1)
    first = augment(images, generator(5), flip=True, crop_padding=2)
    torch.manual_seed(2)
    assert torch.equal(first, augment(images, generator(5), flip=True, crop_padding=2))
    assert not torch.equal(first, augment(images, generator(6), flip=True, crop_padding=2))


def test_switching_flips_off_leaves_the_crops_where_they_were():
    rows = torch.arange(6).float()[:, None].expand(64, 3, 6, 8)  # blind to left and right
    with_flips = augment(rows, generator(), flip=True, crop_padding=2)
    assert torch.equal(with_flips, augment(rows, generator(), flip=False, crop_padding=2))


def test_the_pictures_given_are_not_changed():
    images = random_images()
    before = images.clone()
    augment(images, generator(), flip=True, crop_padding=2)
    assert torch.equal(images, before)


# Captions

LARGE = "a large red circle"


def test_words_are_left_out_as_often_as_asked_and_stay_in_order():
    found = drop_words([LARGE] * 4000, 0.3, generator())
    assert all(is_part_of([part], [LARGE]).item() for part in found)
    whole = 0.3**4  # nothing would remain, so nothing is left out
    expected = 4 * 0.7 + 4 * whole
    assert sum(len(part.split()) for part in found) / 4000 == pytest.approx(expected, abs=0.06)
    assert len(set(found)) == 2**4 - 1


def test_without_chance_captions_stay_as_they_are():
    assert drop_words([LARGE, "one"], 0.0, generator()) == [LARGE, "one"]


def test_a_caption_never_loses_all_its_words():
    assert set(drop_words(["sneaker"] * 50, 0.9, generator())) == {"sneaker"}


def test_the_words_left_out_depend_on_the_generator_alone():
    one, again, other = (drop_words([LARGE] * 20, 0.5, generator(seed)) for seed in (1, 1, 2))
    assert one == again != other


def test_a_part_describes_every_caption_that_it_can_come_of():
    captions = [LARGE, "a small red circle", "a red circle above a blue square"]
    parts = ["red circle", "large", "circle red", "a blue square", "blue a"]
    assert is_part_of(parts, captions).tolist() == [
        [True, True, False, False, False],
        [True, False, False, False, False],
        [True, False, False, True, False],
    ]


def test_a_word_twice_is_no_part_of_a_caption_that_has_it_once():
    assert is_part_of(["a a"], ["a circle", "a a circle"]).tolist() == [[False], [True]]
