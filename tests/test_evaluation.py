import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.image.fid import FrechetInceptionDistance

from unclip.evaluation.accuracy import accuracy_figures, binding
from unclip.evaluation.distances import (
    FrechetReference,
    kernel_distance,
    paired_cosine,
    split_real,
)
from unclip.evaluation.judging import Verdict, accuracies, judge_pictures
from unclip.models.judge import Judge


def features(count, width=6, seed=0, shift=0.0, scale=1.0):
    draws = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(99))
    return scale * torch.randn(count, width, generator=draws) @ mix + shift


def naive_frechet(one, other):
    """Heusel et al. 2017, with the root of the product by eigenvectors of symmetric matrices."""
    one, other = one.double().numpy(), other.double().numpy()
    means, covs = (one.mean(0), other.mean(0)), (np.cov(one.T), np.cov(other.T))
    values, vectors = np.linalg.eigh(covs[0])
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ covs[1] @ root)
    trace = np.trace(covs[0]) + np.trace(covs[1]) - 2 * np.sqrt(product.clip(0)).sum()
    return ((means[0] - means[1]) ** 2).sum() + trace


# Fréchet distance


def frechet_distance(features, reference):
    return FrechetReference.of(reference).distance(features)


def torchmetrics_frechet(features, reference):
    """By another implementation, whose network is left out: the features are there already."""
    network = torch.nn.Identity()
    network.num_features = features.shape[1]
    metric = FrechetInceptionDistance(feature=network).set_dtype(torch.float64)
    metric.update(reference.double(), real=True)
    metric.update(features.double(), real=False)
    return float(metric.compute())


@pytest.mark.parametrize(
    ("count", "width", "shift", "scale"),
    [(200, 6, 0.0, 1.0), (300, 6, 1.5, 1.0), (150, 6, -3.0, 0.5), (1000, 96, 0.1, 1.0)],
)
def test_the_frechet_distance_is_that_of_the_definition_and_of_torchmetrics(
    count, width, shift, scale
):
    one, real = features(count, width, 1, shift, scale), features(2000, width, 2)
    found = frechet_distance(one, real)
    assert found == pytest.approx(naive_frechet(one, real), rel=1e-7)
    assert found == pytest.approx(torchmetrics_frechet(one, real), rel=1e-6)


def test_features_that_are_always_off_are_no_trouble():
    # What a ReLU gives: columns of zeros, so that both covariances are singular.
    one, real = features(300, 20, seed=1).relu(), features(400, 20, seed=2).relu()
    one[:, [3, 7]] = real[:, [3, 11]] = 0
    expected = torchmetrics_frechet(one, real)
    assert frechet_distance(one, real) == pytest.approx(expected, rel=1e-5)


def test_fewer_pictures_than_features_are_no_trouble():
    one, real = features(10, 20, seed=1), features(400, 20, seed=2)
    expected = torchmetrics_frechet(one, real)
    assert frechet_distance(one, real) == pytest.approx(expected, rel=1e-5)


def test_the_frechet_distance_of_gaussians_on_axes_is_closed_form():
    # Eight points, so that mean and covariance are exact: ±a on each axis has variance 2a²/7.
    axes = torch.eye(4, dtype=torch.float64)
    one, other = torch.cat([axes, -axes]), torch.cat([3 * axes, -3 * axes]) + 5
    expected = 4 * 25 + 4 * (3 - 1) ** 2 * 2 / 7
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-12)


def test_identical_sets_have_no_frechet_distance():
    one = features(200)
    assert frechet_distance(one, one.clone()) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_is_symmetric_and_heeds_no_order():
    one, other = features(150, seed=1), features(120, seed=2, shift=1.0)
    distance = frechet_distance(one, other)
    assert frechet_distance(other, one) == pytest.approx(distance)
    assert frechet_distance(one.flip(0), other) == pytest.approx(distance)


def test_features_far_from_the_origin_lose_nothing():
    one, real = features(150, seed=1).double(), features(150, seed=2, shift=0.1).double()
    expected = frechet_distance(one, real)
    assert frechet_distance(one + 1e4, real + 1e4) == pytest.approx(expected, rel=1e-6)


# Kernel distance


def naive_kernel(one, other):
    """The unbiased estimate of Bińkowski et al. 2018, a pair of rows at a time."""

    def k(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def within(rows):
        n = len(rows)
        return sum(k(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j) / (n * n - n)

    between = sum(k(x, y) for x in one for y in other) / (len(one) * len(other))
    return within(one) + within(other) - 2 * between


def test_the_kernel_distance_is_that_of_the_definition():
    one, other = features(20, seed=1), features(20, seed=2, shift=0.5)
    expected = naive_kernel(one.double().tolist(), other.double().tolist())
    found = kernel_distance(one, other, subsets=3, subset_size=20, seed=0)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_kernel_distance_of_real_from_real_is_about_nothing():
    one, other = (features(400, seed=seed, scale=0.3) for seed in (1, 2))
    options = {"subsets": 20, "subset_size": 100, "seed": 0}
    same = kernel_distance(one, other, **options)
    far = kernel_distance(one, other + 1.0, **options)
    assert abs(same) < 0.02 * far


def test_the_kernel_distance_is_a_function_of_its_seed_alone():
    one, other = features(60, seed=1), features(60, seed=2)
    options = {"subsets": 4, "subset_size": 20}
    before = torch.random.get_rng_state()
    first = kernel_distance(one, other, seed=0, **options)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert kernel_distance(one, other, seed=0, **options) == first
    assert kernel_distance(one, other, seed=1, **options) != first


def test_the_kernel_distance_warns_of_nothing(recwarn):
    kernel_distance(features(20), features(20, seed=1), subsets=1, subset_size=20, seed=0)
    assert not recwarn.list


# Real against real


@pytest.mark.parametrize(("count", "floor", "size"), [(100, 30, 30), (100, 80, 50), (7, 5, 3)])
def test_reference_and_floor_share_no_picture_and_leave_none_out(count, floor, size):
    rows = torch.arange(count) * 3 + 1
    split = split_real(rows, floor, seed=0)
    assert len(split.floor) == size
    assert sorted([*split.floor.tolist(), *split.reference.tolist()]) == rows.tolist()


def test_the_floor_is_drawn_and_not_taken_from_the_front():
    floors = [split_real(torch.arange(100), 30, seed).floor.tolist() for seed in (0, 0, 1)]
    assert floors[0] == floors[1] != floors[2]
    assert sorted(floors[0]) != list(range(30))


# Embeddings of the prior


def unit(count, seed):
    draws = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 5, generator=draws) + 0.3, dim=1)


def test_the_paired_cosine_equals_a_naive_double_loop():
    embeds, captions = unit(9, 1), torch.tensor([0, 0, 0, 2, 2, 3, 3, 3, 3])
    real, real_captions = unit(11, 2), torch.tensor([3, 2, 2, 0, 0, 0, 0, 1, 1, 3, 0])
    means = []
    for caption in (0, 2, 3):
        cosines = [
            float(torch.dot(embeds[i], real[j]))
            for i in range(9)
            for j in range(11)
            if captions[i] == caption and real_captions[j] == caption
        ]
        means.append(sum(cosines) / len(cosines))
    expected = sum(means) / 3
    assert paired_cosine(embeds, captions, real, real_captions) == pytest.approx(expected, abs=1e-6)


def test_a_caption_without_real_pictures_is_left_out():
    embeds, real = unit(4, 1), unit(3, 2)
    with_it = paired_cosine(embeds, torch.tensor([0, 0, 1, 1]), real, torch.tensor([0, 0, 0]))
    assert with_it == pytest.approx(
        paired_cosine(embeds[:2], torch.tensor([0, 0]), real, torch.tensor([0, 0, 0]))
    )


def test_without_a_common_caption_there_is_no_paired_cosine():
    assert math.isnan(
        paired_cosine(unit(2, 1), torch.tensor([0, 1]), unit(1, 2), torch.tensor([2]))
    )


# What the judge says


def test_accuracies_equal_a_naive_loop():
    draws = torch.Generator().manual_seed(0)
    predictions = torch.randint(0, 3, (50, 3), generator=draws)
    wanted = torch.randint(-1, 3, (50, 3), generator=draws)
    names = ["size", "colour", "shape"]
    found = accuracies(predictions, wanted, names)
    right = [[p == w or w == -1 for p, w in zip(*rows, strict=True)]
             for rows in zip(predictions.tolist(), wanted.tolist(), strict=True)]  # fmt: skip
    assert found["joint_accuracy"] == pytest.approx(sum(all(row) for row in right) / 50)
    for i, name in enumerate(names):
        stated = [row[i] for row, w in zip(right, wanted.tolist(), strict=True) if w[i] != -1]
        assert found[f"{name}_accuracy"] == pytest.approx(sum(stated) / len(stated))


def test_what_a_caption_does_not_state_can_not_be_wrong():
    found = accuracies(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0, -1], [0, -1]]), ["a", "b"])
    assert found == {"joint_accuracy": 0.5, "a_accuracy": 0.5}


def test_one_attribute_needs_no_accuracy_beside_the_joint_one():
    found = accuracies(torch.tensor([[0], [1]]), torch.tensor([[0], [0]]), ["class"])
    assert found == {"joint_accuracy": 0.5}


def test_the_prediction_is_the_likeliest_value_of_each_attribute():
    logits = [torch.tensor([[0.0, 2.0], [3.0, 1.0]]), torch.tensor([[0.0, 1.0, 9.0], [1.0, 0, 0]])]
    assert Verdict(torch.zeros(2, 4), logits).predictions.tolist() == [[1, 2], [0, 0]]


class Halves:
    """A data set whose normalisation is as simple as can be."""

    @property
    def normalisation(self):
        return self

    def normalise(self, images):
        return images.float() / 255 - 0.5


def test_a_verdict_does_not_depend_on_how_pictures_are_batched(monkeypatch):
    torch.manual_seed(0)
    judge = Judge(image_size=8, in_channels=3, num_values=[2, 3], channels=4).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (7, 3, 8, 8), dtype=np.uint8)
    whole = judge_pictures(judge, Halves(), pictures, "cpu")
    monkeypatch.setattr("unclip.evaluation.judging.BATCH", 3)
    parts = judge_pictures(judge, Halves(), pictures, "cpu")
    torch.testing.assert_close(parts.features, whole.features)
    torch.testing.assert_close(parts.logits, whole.logits)


def test_a_verdict_is_what_the_network_says_of_normalised_pictures():
    torch.manual_seed(0)
    judge = Judge(image_size=8, in_channels=3, num_values=[2, 3], channels=4).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    verdict = judge_pictures(judge, Halves(), pictures, "cpu")
    with torch.no_grad():
        logits = judge(torch.from_numpy(pictures).float() / 255 - 0.5)
    torch.testing.assert_close(verdict.logits, logits)
    assert verdict.features.shape == (4, 256)


# Pictures of several things

NAMES = ["colour_1", "shape_1", "relation", "colour_2", "shape_2"]
VALUES = [["red", "blue", "green"], ["circle", "star"], ["above", "left"]]
VALUES += VALUES[:2]


def naive_binding(predictions, wanted):
    """By comparing what stands in the pictures as sorted lists of words."""
    spelt, bound, tied = [], [], []
    for seen, asked in zip(predictions.tolist(), wanted.tolist(), strict=True):
        if -1 in (*asked[:2], *asked[3:]):
            continue
        same = all(
            sorted((seen[i], seen[i + 3])) == sorted((asked[i], asked[i + 3])) for i in (0, 1)
        )
        spelt.append(same)
        bound.append(sorted((seen[:2], seen[3:])) == sorted((asked[:2], asked[3:])))
        if same and asked[0] != asked[3] and asked[1] != asked[4]:
            tied.append(bound[-1])
    return {
        "words_accuracy": sum(spelt) / len(spelt),
        "objects_accuracy": sum(bound) / len(bound),
        "binding_accuracy": sum(tied) / len(tied),
    }


def test_binding_equals_a_naive_loop():
    draws = torch.Generator().manual_seed(0)
    counts = [len(words) for words in VALUES]
    wanted = torch.stack(
        [
            torch.randint(-1 if i == 0 else 0, n, (400,), generator=draws)
            for i, n in enumerate(counts)
        ],
        dim=1,
    )
    others = torch.stack([torch.randint(0, n, (400,), generator=draws) for n in counts], dim=1)
    kept = torch.rand(400, 5, generator=draws) < 0.7
    predictions = torch.where(kept & (wanted != -1), wanted, others)
    found = binding(predictions, wanted.short(), NAMES, VALUES)
    assert found == pytest.approx(naive_binding(predictions, wanted))
    assert 0 < found["objects_accuracy"] < found["words_accuracy"] < 1


def test_exchanged_colours_are_right_words_in_wrong_objects():
    wanted = torch.tensor([[0, 0, 0, 1, 1]])  # a red circle above a blue star
    found = binding(torch.tensor([[1, 0, 0, 0, 1]]), wanted, NAMES, VALUES)
    assert found == {"words_accuracy": 1, "objects_accuracy": 0, "binding_accuracy": 0}


def test_exchanged_places_are_right_objects():
    wanted = torch.tensor([[0, 0, 0, 1, 1]])
    found = binding(torch.tensor([[1, 1, 1, 0, 0]]), wanted, NAMES, VALUES)
    assert found == {"words_accuracy": 1, "objects_accuracy": 1, "binding_accuracy": 1}


def test_objects_of_one_colour_can_not_be_bound_wrongly():
    wanted = torch.tensor([[0, 0, 0, 0, 1]])
    found = binding(wanted, wanted, NAMES, VALUES)
    assert found == {"words_accuracy": 1, "objects_accuracy": 1}


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (["size", "colour", "shape"], [["small"], ["red"], ["star"]]),
        (["colour_1", "colour_2"], [["red", "blue"]] * 2),
        (["colour_1", "shape_1", "colour_2"], [["red"], ["star"], ["red"]]),
        (["a_1", "b_1", "a_2", "b_2"], [["red"], ["star"], ["red", "blue"], ["star"]]),
        ([], []),
    ],
)
def test_without_several_objects_of_the_same_attributes_there_is_no_binding(names, values):
    wanted = torch.zeros(3, len(names), dtype=torch.int64)
    assert binding(wanted, wanted, names, values) == {}


def scene_of_two_captions(painted, real, real_attributes) -> SimpleNamespace:
    """A scene whose captions state the first of two attributes and leave the second open."""
    data = SimpleNamespace(
        captions=["a cat", "a dog"],
        attribute_names=["thing", "weather"],
        attribute_values=[["cat", "dog"], ["rain", "sun"]],
        caption_attributes=torch.tensor([[0, -1], [1, -1]]),
    )
    captions = torch.tensor([0, 1] * (len(real) // 2))
    return SimpleNamespace(
        data=data,
        captions=captions,
        painted=SimpleNamespace(predictions=painted),
        controls={},
        seen=torch.ones(len(captions), dtype=torch.bool),
        held_out=torch.zeros(2, dtype=torch.bool),
        real=SimpleNamespace(predictions=real),
        real_captions=captions.int(),
        real_attributes=real_attributes,
    )


def test_real_pictures_are_judged_on_what_their_captions_state_as_painted_ones_are():
    things, rain, sun = torch.tensor([0, 1] * 10), torch.zeros(20), torch.ones(20)
    seen = torch.stack([things, rain], dim=1).long()
    real_attributes = torch.stack([things, sun], dim=1).short()
    figures = accuracy_figures(scene_of_two_captions(seen, seen, real_attributes), seed=0)
    assert figures["joint_accuracy"] == figures["judge_real_accuracy"] == 1
    assert "judge_real_weather_accuracy" not in figures
    wrong = seen.clone()
    wrong[:5, 0] = 1 - wrong[:5, 0]
    figures = accuracy_figures(scene_of_two_captions(seen, wrong, real_attributes), seed=0)
    assert figures["judge_real_accuracy"] == 0.75
