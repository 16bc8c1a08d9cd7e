"""The texture distance, against scipy and on real pictures that something is done to."""

import numpy as np
import pytest
import torch
from contexts import context
from PIL import Image
from scipy.ndimage import convolve1d
from scipy.stats import wasserstein_distance

from unclip.config.settings import raw_data_dir
from unclip.core.seeding import generator
from unclip.datasets.fashion_mnist import FashionMNIST
from unclip.evaluation import texture
from unclip.evaluation.bootstrap import jackknife_groups, margin_of_parts
from unclip.evaluation.texture import TextureReference, pyramid


def pictures(count, seed, side=16, channels=3):
    """Smooth noise, so that every scale has some contrast."""
    draws = np.random.default_rng(seed)
    coarse = draws.integers(0, 256, (count, channels, side // 4, side // 4))
    fine = coarse.repeat(4, axis=2).repeat(4, axis=3)
    return (fine + draws.integers(-20, 21, fine.shape)).clip(0, 255).astype(np.uint8)


def pyramid_of_scipy(picture):
    """The pyramid of one channel (H, W) by scipy's convolution and Pillow's resizing."""
    levels, fine = [], picture.astype(np.float32)
    for _ in range(3):
        kernel = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
        blurred = convolve1d(
            convolve1d(fine, kernel, axis=0, mode="mirror"), kernel, axis=1, mode="mirror"
        )
        coarse = blurred[::2, ::2]
        again = Image.fromarray(coarse).resize(fine.shape[::-1], Image.Resampling.BILINEAR)
        levels.append(fine - np.asarray(again))
        fine = coarse
    return levels


def test_the_pyramid_is_that_of_scipy_and_pillow():
    images = pictures(2, 0, side=32)
    ours = pyramid(torch.from_numpy(images))
    for row, channel in np.ndindex(2, 3):
        for level, theirs in zip(ours, pyramid_of_scipy(images[row, channel]), strict=True):
            np.testing.assert_allclose(level[row, channel], theirs, atol=1e-3)


def test_the_distance_is_scipys_of_the_same_projections():
    painted, real = pictures(30, 1), pictures(40, 2)
    found, _ = TextureReference.of(real, seed=5).distances(painted)

    def projections(images, scale):
        level = pyramid(torch.from_numpy(images))[scale]
        return texture._contrasts(level, generator(5, "texture", scale)).flatten(0, 1).numpy()

    apart = [
        wasserstein_distance(mine, theirs)
        for scale in range(3)
        for mine, theirs in zip(
            projections(painted, scale).T, projections(real, scale).T, strict=True
        )
    ]
    assert found == pytest.approx(np.mean(apart), abs=16 / 2048)


def test_a_projection_is_the_nearly_logarithmic_contrast_of_a_patch():
    level = torch.zeros(1, 1, 3, 3)
    level[0, 0, 1, 1] = 100.0  # the only patch: each projection is 100 · the direction's middle
    contrasts = texture._contrasts(level, generator(0, "texture", 0))[0, 0]
    middles = np.sinh(contrasts.numpy()) / 100
    assert np.abs(middles).max() <= 1
    assert np.square(middles).mean() == pytest.approx(1 / 9, rel=0.5)


def test_pictures_are_at_no_distance_from_themselves():
    real = pictures(60, 3)
    distance, without = TextureReference.of(real, seed=0).distances(real)
    assert distance == 0
    assert without.shape == (50,)
    assert without.min() > 0


def test_batches_change_nothing(monkeypatch):
    painted, real = pictures(60, 4), pictures(70, 5)
    whole = TextureReference.of(real, seed=0).distances(painted)
    monkeypatch.setattr(texture, "BATCH", 7)
    parts = TextureReference.of(real, seed=0).distances(painted)
    assert parts[0] == whole[0]
    assert torch.equal(parts[1], whole[1])


def test_a_part_is_the_distance_without_its_pictures():
    painted, reference = pictures(100, 6), TextureReference.of(pictures(70, 7), seed=0)
    _, without = reference.distances(painted)
    order, group = jackknife_groups(100, seed=0)
    rest = painted[order[group != 3].sort().values.numpy()]
    assert reference.distances(rest)[0] == pytest.approx(float(without[3]))


# On Fashion-MNIST


@pytest.fixture(scope="module")
def real():
    raw = raw_data_dir()
    if not (raw / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip(f"no Fashion-MNIST in {raw}; UNCLIP_DATA_DIR names another folder")
    images = FashionMNIST().load(context(raw, image_size=32)).test.images
    return images[np.random.default_rng(0).permutation(len(images))]


def grainy(images):
    return images + np.random.default_rng(1).integers(-4, 5, images.shape)


def with_a_checkerboard(images):
    return images + 6 * (np.indices((32, 32)).sum(axis=0) % 2) - 3


def with_the_lower_half_shifted(images):
    moved = images.copy()
    moved[:, :, 16:] = np.roll(images[:, :, 16:], 2, axis=3)
    return moved


def blurred(images):
    kernel = np.array([1, 2, 1]) / 4
    return convolve1d(convolve1d(images.astype(float), kernel, axis=2), kernel, axis=3)


def with_one_garment(images):
    return images[:1].repeat(len(images), axis=0)


@pytest.mark.parametrize(
    "damage",
    [grainy, with_a_checkerboard, with_the_lower_half_shifted, blurred, with_one_garment],
)
def test_damage_moves_the_distance_beyond_its_margin(real, damage):
    reference = TextureReference.of(real[2000:], seed=0)
    floor, without = reference.distances(real[:1000])
    damaged = damage(real[1000:2000].astype(int)).round().clip(0, 255).astype(np.uint8)
    distance, without_of_damaged = reference.distances(damaged)
    margin = max(margin_of_parts(each.tolist()) for each in (without, without_of_damaged))
    assert distance - floor > 2 * margin
