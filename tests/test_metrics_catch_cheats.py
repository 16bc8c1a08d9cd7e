"""Figures that a cheat can pass are worth little: here are three cheats, made of real pictures.

The judge is not here. Its place is taken by 32 principal components of the pixels, which need no
training and are the same everywhere. What counts as an alarm stands in `BOUNDS`; honest pictures,
real ones that no figure has seen, must raise none, or the tests of the cheats would say nothing.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from contexts import context
from torchvision.transforms.functional import gaussian_blur

from unclip.config.settings import raw_data_dir
from unclip.datasets.fashion_mnist import FashionMNIST
from unclip.evaluation.distances import FrechetReference
from unclip.evaluation.manifold import (
    Overlap,
    diversity_ratio,
    diversity_within_captions,
    nearest_pictures,
    overlap,
    radii,
    share_nearer,
)

K, COUNT, NUM_TRAIN, NUM_REFERENCE, WIDTH = 5, 1000, 10_000, 3000, 32
BOUNDS = {
    # Alarm: lower than that of the floor by more than this.
    **{"precision": 0.05, "recall": 0.1, "density": 0.15, "coverage": 0.1},
    "diversity": 0.1,  # lower than 1 by more than this
    "frechet": 3.0,  # more than so many times the floor
    "memorised": 0.05,  # a larger share; 0.01 is expected
}


@dataclass
class Pictures:
    images: np.ndarray  # (N, 1, 28, 28) uint8
    captions: torch.Tensor  # (N,)

    def __getitem__(self, rows):
        return Pictures(self.images[rows], self.captions[rows])


class Scene:
    """Training and test pictures; of the latter three honest thousands, a floor, a reference."""

    def __init__(self, source):
        train, test = (
            Pictures(split.images, torch.from_numpy(split.caption_index).long())
            for split in (source.train, source.test)
        )
        order = np.random.default_rng(0).permutation(len(test.images))
        self.honest = [test[order[i * COUNT : (i + 1) * COUNT]] for i in range(3)]
        self.train, self.reference = train[:NUM_TRAIN], test[order[-NUM_REFERENCE:]]
        pixels = torch.from_numpy(self.train.images).flatten(1) / 255
        self.mean = pixels.mean(dim=0)
        self.basis = torch.linalg.eigh((pixels - self.mean).T.cov()).eigenvectors[:, -WIDTH:]
        self.real = self.features(self.reference)
        self.radii = radii(self.real, K)
        self.diversity = diversity_within_captions(self.real, self.reference.captions)
        self.frechet = FrechetReference.of(self.real)
        self.yardstick = self.distances(self.reference[:COUNT])
        self.floor = self.figures(test[order[3 * COUNT : 4 * COUNT]])

    def features(self, pictures):
        return (torch.from_numpy(pictures.images).flatten(1) / 255 - self.mean) @ self.basis

    def distances(self, pictures):
        return nearest_pictures(pictures.images, self.train.images)[0]

    def figures(self, pictures):
        features = self.features(pictures)
        found: Overlap = overlap(features, self.real, k=K, reference_radii=self.radii)
        return found.figures() | {
            "diversity": diversity_ratio(
                diversity_within_captions(features, pictures.captions), self.diversity
            ),
            "frechet": self.frechet.distance(features),
            "memorised": share_nearer(self.distances(pictures), self.yardstick),
        }

    def alarms(self, pictures):
        """The figures of `BOUNDS` that say that something is wrong with these pictures."""
        found = self.figures(pictures)
        print(found, "floor", self.floor)  # pytest shows it where a test fails
        limits = {name: self.floor[name] - BOUNDS[name] for name in list(BOUNDS)[:4]}
        raised = {name for name, limit in limits.items() if found[name] < limit}
        raised |= {"diversity"} if found["diversity"] < 1 - BOUNDS["diversity"] else set()
        too_far = found["frechet"] > BOUNDS["frechet"] * self.floor["frechet"]
        raised |= {"frechet"} if too_far else set()
        return raised | ({"memorised"} if found["memorised"] > BOUNDS["memorised"] else set())


@pytest.fixture(scope="module")
def scene():
    raw = raw_data_dir()
    if not (raw / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip(f"no Fashion-MNIST in {raw}; UNCLIP_DATA_DIR names another folder")
    return Scene(FashionMNIST().load(context(raw, image_size=28)))


def as_pixels(values):
    return np.asarray(values).round().clip(0, 255).astype(np.uint8)


def noisy(pictures, strength):
    """Pictures with noise of so many grey levels."""
    noise = np.random.default_rng(1).normal(0, strength, pictures.images.shape)
    return Pictures(as_pixels(pictures.images + noise), pictures.captions)


def blurred(pictures, sigma):
    """Pictures blurred by a Gaussian of so many pixels."""
    images = gaussian_blur(torch.from_numpy(pictures.images).float(), [13, 13], [sigma, sigma])
    return Pictures(as_pixels(images), pictures.captions)


def collapsed(scene, per_caption):
    """As many different pictures per caption, each painted again and again; none was trained on."""
    wanted, pool = scene.honest[0].captions, scene.honest[1]
    seen, rows = [0] * 10, []
    for caption in wanted.tolist():
        choice = (pool.captions == caption).nonzero()[:, 0]
        rows.append(int(choice[seen[caption] % per_caption]))
        seen[caption] += 1
    return pool[np.array(rows)]


def means_of_captions(scene):
    """Of each caption the mean training picture, again and again."""
    train, wanted = scene.train, scene.honest[0].captions
    means = [train.images[(train.captions == each).numpy()].mean(axis=0) for each in range(10)]
    return Pictures(as_pixels(means)[wanted.numpy()], wanted)


# Honest pictures


@pytest.mark.parametrize("draw", [0, 1, 2])
def test_honest_pictures_raise_no_alarm(scene, draw):
    assert scene.alarms(scene.honest[draw]) == set()


# A collapsed model


def test_the_mean_picture_of_each_caption_is_caught(scene):
    # Each is amid its class: nothing about fidelity is amiss.
    alarms = scene.alarms(means_of_captions(scene))
    assert alarms == {"recall", "coverage", "diversity", "frechet"}


def test_one_picture_per_caption_is_caught(scene):
    alarms = scene.alarms(collapsed(scene, 1))
    assert alarms >= {"recall", "coverage", "diversity", "frechet"}


def test_ten_pictures_per_caption_are_caught_although_their_mean_distance_is_large(scene):
    assert scene.alarms(collapsed(scene, 10)) >= {"recall", "coverage"}


def test_pictures_half_way_to_their_mean_are_caught(scene):
    honest, means = scene.honest[0], means_of_captions(scene)
    images = as_pixels(0.5 * honest.images + 0.5 * means.images)
    assert scene.alarms(Pictures(images, honest.captions)) >= {"recall", "diversity"}


# A memorising model


def test_copies_of_training_pictures_are_caught_by_the_memorised_share_alone(scene):
    copies = scene.train[:COUNT]
    assert scene.alarms(copies) == {"memorised"}
    assert scene.figures(copies)["memorised"] == 1
    assert float(scene.distances(copies).max()) == 0


def test_copies_with_a_little_noise_are_caught(scene):
    assert scene.alarms(noisy(scene.train[:COUNT], 5)) == {"memorised"}


def test_one_copy_in_ten_is_caught(scene):
    copies, honest = scene.train[: COUNT // 10], scene.honest[0][COUNT // 10 :]
    images = np.concatenate([copies.images, honest.images])
    some = Pictures(images, torch.cat([copies.captions, honest.captions]))
    assert scene.alarms(some) == {"memorised"}


# Pictures of poor quality


@pytest.mark.parametrize("sigma", [1.0, 1.5])
def test_blurred_pictures_are_caught_by_distance_and_diversity(scene, sigma):
    alarms = scene.alarms(blurred(scene.honest[0], sigma))
    assert alarms >= {"recall", "diversity", "frechet"}
    # Blur draws pictures towards the middle, where the real ones are dense. Whoever looks at
    # precision and density alone takes it for quality.
    assert alarms.isdisjoint({"precision", "density", "memorised"})


def test_noisy_pictures_are_caught_by_precision_and_density(scene):
    assert scene.alarms(noisy(scene.honest[0], 60)) >= {"precision", "density", "frechet"}
