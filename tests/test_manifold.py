import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unclip.evaluation import manifold
from unclip.evaluation.manifold import (
    diversity_ratio,
    diversity_within_captions,
    nearest_pictures,
    overlap,
    radii,
    share_nearer,
)

FIGURES = ("precision", "recall", "density", "coverage")


def features(count, width=5, seed=0, shift=0.0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=draws) + shift


# Overlap


def naive_radii(rows, k):
    found = []
    for i, row in enumerate(rows):
        others = sorted(math.dist(row, other) for j, other in enumerate(rows) if j != i)
        found.append(others[k - 1])
    return found


def naive_overlap(painted, real, k):
    """Kynkäänniemi et al. 2019, eq. 1 and 2; Naeem et al. 2020, section 3; a pair at a time."""
    painted, real = painted.double().tolist(), real.double().tolist()
    painted_radii, real_radii = naive_radii(painted, k), naive_radii(real, k)
    precision, recall = [False] * len(painted), [False] * len(real)
    density, coverage = [0.0] * len(painted), [False] * len(real)
    for i, one in enumerate(painted):
        for j, other in enumerate(real):
            distance = math.dist(one, other)
            if distance <= real_radii[j]:
                precision[i], coverage[j] = True, True
                density[i] += 1 / k
            if distance <= painted_radii[i]:
                recall[j] = True
    return {"precision": precision, "recall": recall, "density": density, "coverage": coverage}


def assert_naive(painted, real, k):
    found, expected = overlap(painted, real, k=k), naive_overlap(painted, real, k)
    for name in ("precision", "recall", "coverage"):
        assert getattr(found, name).tolist() == expected[name], name
    assert found.density.tolist() == pytest.approx(expected["density"], rel=1e-12)
    means = {name: sum(expected[name]) / len(expected[name]) for name in FIGURES}
    assert found.figures() == pytest.approx(means, rel=1e-12)


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize(("num_painted", "num_real"), [(40, 40), (25, 60), (60, 25)])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_overlap_equals_a_naive_double_loop(num_painted, num_real, k, shift):
    painted, real = features(num_painted, seed=1, shift=shift), features(num_real, seed=2)
    assert sum(naive_overlap(painted, real, k)["precision"]) > 0  # there is something to compare
    assert_naive(painted, real, k)


@pytest.mark.parametrize("k", [1, 3])
def test_the_overlap_with_duplicates_equals_a_naive_double_loop(k):
    one, real = features(20, seed=1), features(30, seed=2)
    painted = torch.cat([one, one[:9], one[:4], one[:4], real[5:11]])
    assert_naive(painted, torch.cat([real, real[:12], real[:3], one[:2]]), k)


def on_a_grid(min_size, max_size):
    """Points with small whole coordinates: many are equal, and more are equally far apart."""
    point = st.tuples(*[st.integers(0, 3)] * 2)
    points = st.lists(point, min_size=min_size, max_size=max_size)
    return points.map(lambda found: torch.tensor(found, dtype=torch.float32))


@settings(deadline=None, max_examples=200)
@given(on_a_grid(4, 12), on_a_grid(4, 12), st.integers(1, 3), st.integers(1, 13))
def test_ties_are_counted_as_a_naive_double_loop_counts_them(painted, real, k, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifold, "CHUNK", chunk)
        assert_naive(painted, real, k)


@pytest.mark.parametrize("k", [1, 5])
def test_of_identical_sets_all_is_perfect(k):
    one = features(50)
    figures = overlap(one, one[torch.randperm(50)], k=k).figures()
    assert figures["precision"] == figures["recall"] == figures["coverage"] == 1
    assert figures["density"] >= 1


def test_copies_lie_on_the_edge_and_that_is_inside():
    # Every picture twice, k = 1: all balls are points.
    one = torch.cat([features(30)] * 2)
    figures = overlap(one, one, k=1).figures()
    assert figures == {"precision": 1, "recall": 1, "density": 2, "coverage": 1}


def test_of_sets_far_apart_nothing_overlaps():
    figures = overlap(features(50), features(40, seed=1, shift=100.0), k=5).figures()
    assert figures == dict.fromkeys(FIGURES, 0)


def test_two_draws_of_one_distribution_have_a_density_of_one():
    # Naeem et al. 2020, section 3.3: both expectations are known, whatever the distribution.
    found = [overlap(features(400, seed=s), features(400, seed=s + 50), k=5) for s in range(8)]
    density = sum(each.figures()["density"] for each in found) / 8
    coverage = sum(each.figures()["coverage"] for each in found) / 8
    misses = math.prod((400 - 1 - i) / (2 * 400 - 1 - i) for i in range(5))
    assert density == pytest.approx(1, abs=0.03)
    assert coverage == pytest.approx(1 - misses, abs=0.01)


def test_precision_and_recall_change_places_with_the_sets():
    one, other = features(50, seed=1), features(40, seed=2, shift=1.0)
    there, back = overlap(one, other, k=3), overlap(other, one, k=3)
    assert torch.equal(there.precision, back.recall)
    assert torch.equal(there.recall, back.precision)


def test_one_outlier_among_the_real_ones_inflates_precision_but_not_density():
    # The reason for density (Naeem et al. 2020, figure 1): one wide ball takes in everything.
    real = torch.cat([features(100), torch.full((1, 5), 20.0)])
    figures = overlap(features(100, seed=1, shift=8.0), real, k=3).figures()
    assert figures["precision"] == 1
    assert figures["density"] < 0.5


def test_a_mode_that_is_missing_lowers_recall_and_coverage_alone():
    real = torch.cat([features(100), features(100, seed=1, shift=50.0)])
    figures = overlap(features(200, seed=2), real, k=5).figures()
    assert figures["precision"] > 0.9
    assert 0.4 < figures["recall"] <= 0.5
    assert 0.4 < figures["coverage"] <= 0.5


def test_the_shapes_are_those_of_what_is_averaged():
    found = overlap(features(20), features(30, seed=1), k=2)
    sizes = {name: tuple(getattr(found, name).shape) for name in FIGURES}
    assert sizes == {"precision": (20,), "recall": (30,), "density": (20,), "coverage": (30,)}
    assert found.density.dtype == torch.float64
    assert {getattr(found, name).dtype for name in FIGURES if name != "density"} == {torch.bool}


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_chunk_changes_nothing(monkeypatch, chunk):
    painted, real = features(60, width=96, seed=1), features(70, width=96, seed=2)
    expected, reach = overlap(painted, real, k=3), radii(real, 3)
    monkeypatch.setattr(manifold, "CHUNK", chunk)
    found = overlap(painted, real, k=3)
    for name in FIGURES:
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(radii(real, 3), reach)


def test_the_overlap_of_some_painted_pictures_keeps_the_balls_of_all():
    painted, real = features(40, seed=1), features(50, seed=2)
    rows = torch.tensor([3, 3, 9, 30])
    some, whole = overlap(painted, real, k=3).of(rows), overlap(painted, real, k=3)
    assert torch.equal(some.precision, whole.precision[rows])
    assert torch.equal(some.density, whole.density[rows])
    distances = torch.cdist(painted[rows].double(), real.double())
    reach = radii(painted, 3)[rows, None]
    assert torch.equal(some.coverage, (distances <= radii(real, 3)).any(dim=0))
    assert torch.equal(some.recall, (distances <= reach).any(dim=0))


def test_radii_that_are_known_already_change_nothing():
    painted, real = features(40, seed=1), features(50, seed=2)
    found = overlap(painted, real, k=3, reference_radii=radii(real, 3))
    for name in FIGURES:
        assert torch.equal(getattr(found, name), getattr(overlap(painted, real, k=3), name)), name
    with pytest.raises(AssertionError, match="40"):
        overlap(painted, real, k=3, reference_radii=radii(painted, 3))


def test_features_far_from_the_origin_lose_nothing():
    one, other = features(60, seed=1), features(70, seed=2)
    found, expected = (
        overlap(one.double() + 1e6, other.double() + 1e6, k=3),
        overlap(one, other, k=3),
    )
    assert found.figures() == pytest.approx(expected.figures(), abs=0.02)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells")
def test_the_whole_table_of_distances_is_never_in_memory():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    rows, before = features(8000, width=2), resident()
    radii(rows, 5)
    assert resident() - before < 150  # MiB; the table has 488, and its pieces once stayed


def test_a_radius_is_that_of_a_naive_loop():
    rows = torch.cat([features(30), features(30)[:5]])
    expected = naive_radii(rows.double().tolist(), 2)
    assert radii(rows, 2).tolist() == pytest.approx(expected, rel=1e-6)


def test_more_neighbours_than_pictures_are_refused():
    with pytest.raises(AssertionError, match="5 neighbours of 5 pictures"):
        overlap(features(5), features(50), k=5)


# Diversity


def ratio_of(painted, captions, real, real_captions):
    return diversity_ratio(
        diversity_within_captions(painted, captions), diversity_within_captions(real, real_captions)
    )


def naive_diversity(rows, captions, caption):
    chosen = [
        row for row, each in zip(rows.double().tolist(), captions, strict=True) if each == caption
    ]
    pairs = [math.dist(a, b) for i, a in enumerate(chosen) for b in chosen[:i]]
    return sum(pairs) / len(pairs)


def test_the_diversity_within_captions_equals_a_naive_double_loop():
    rows, captions = features(40), [7, 3, 3, 9, 5] * 8
    captions[0] = 1  # has one picture alone, and so no diversity
    found = diversity_within_captions(rows, torch.tensor(captions))
    assert found.keys() == {3, 5, 7, 9}
    for caption, value in found.items():
        assert value == pytest.approx(naive_diversity(rows, captions, caption), rel=1e-6)


def test_the_diversity_ratio_is_that_of_the_captions_which_both_have():
    painted, captions = features(12, seed=1), [0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 5, 5]
    real, real_captions = 3 * features(13, seed=2), [0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 4, 4, 0]
    shared = (0, 1)  # 2 has one painted picture, 3 one real one
    expected = sum(naive_diversity(painted, captions, each) for each in shared)
    expected /= sum(naive_diversity(real, real_captions, each) for each in shared)
    found = ratio_of(painted, torch.tensor(captions), real, torch.tensor(real_captions))
    assert found == pytest.approx(expected, rel=1e-6)


def test_equal_sets_are_equally_diverse():
    rows, captions = features(40), torch.arange(40) % 4
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    found = ratio_of(rows[order], captions[order], rows, captions)
    assert found == pytest.approx(1, abs=1e-12)


def test_the_diversity_ratio_scales_with_the_painted_features():
    rows, captions = features(40), torch.arange(40) % 4
    assert ratio_of(rows / 2 + 7, captions, rows, captions) == pytest.approx(0.5, rel=1e-6)


def test_one_picture_per_caption_has_no_diversity():
    captions = torch.arange(40) % 4
    assert ratio_of(features(4)[captions], captions, features(40), captions) == 0


def test_a_difference_between_captions_is_no_diversity():
    rows, captions = features(40), torch.arange(40) % 4
    apart = rows + 100 * captions[:, None]
    assert ratio_of(apart, captions, rows, captions) == pytest.approx(1, rel=1e-4)


def test_a_handful_of_real_pictures_leaves_the_ratio_about_right():
    # Many captions of three real pictures each, all of one distribution. Their mean of ratios is
    # far above 1; that is why it is not what is computed.
    captions, real_captions = torch.arange(900) % 300, torch.arange(600) % 300
    painted, real = features(900, width=1, seed=1), features(600, width=1, seed=2)
    ratio = ratio_of(painted, captions, real, real_captions)
    one = diversity_within_captions(painted, captions)
    other = diversity_within_captions(real, real_captions)
    assert ratio == pytest.approx(1, abs=0.15)
    assert sum(one[each] / other[each] for each in one) / 300 > 2


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_diversity_is_the_same_in_chunks_of_any_size(monkeypatch, chunk):
    rows, captions = features(40), torch.arange(40) % 3
    expected = diversity_within_captions(rows, captions)
    monkeypatch.setattr(manifold, "CHUNK", chunk)
    assert diversity_within_captions(rows, captions) == pytest.approx(expected, rel=1e-12)


def test_without_a_shared_caption_there_is_no_ratio():
    assert math.isnan(diversity_ratio({0: 1.0, 1: 2.0}, {2: 1.0}))


# Copies


def pictures(count, shape=(3, 6, 7), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def naive_nearest(wanted, training):
    found = []
    for one in wanted:
        # Whole numbers first, so that equal distances are equal; the earliest of them is kept.
        squares = [int(((one.astype(int) - each.astype(int)) ** 2).sum()) for each in training]
        index = squares.index(min(squares))
        difference = one / 255 - training[index] / 255
        found.append((math.sqrt((difference**2).mean()), index))
    return tuple(zip(*found, strict=True))


def assert_nearest(wanted, training):
    distances, indices = nearest_pictures(wanted, training)
    expected, expected_indices = naive_nearest(wanted, training)
    assert indices.tolist() == list(expected_indices)
    assert distances.tolist() == pytest.approx(list(expected), rel=1e-6)
    assert (distances.dtype, indices.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 6, 7), (3, 32, 32)])  # the last has three blocks
def test_the_nearest_pictures_equal_a_naive_double_loop(shape):
    assert_nearest(pictures(8, shape, seed=1), pictures(30, shape, seed=2))


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_nearest_among_duplicates_is_the_first(monkeypatch, chunk):
    monkeypatch.setattr(manifold, "CHUNK_PICTURES", chunk)
    training = pictures(20, seed=2)
    training[[3, 9, 15]] = training[12]
    wanted = np.concatenate([training[[15, 12, 7]], training[[12]] ^ 1])
    assert_nearest(wanted, training)
    assert nearest_pictures(wanted, training)[1].tolist() == [3, 3, 7, 3]


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 9), st.integers(1, 9), st.integers(1, 10))
def test_ties_between_pictures_go_to_the_first(data, num_wanted, num_training, chunk):
    pixel = st.sampled_from([0, 1, 127, 128, 255])

    def draw(count):
        values = data.draw(st.lists(pixel, min_size=3 * count, max_size=3 * count))
        return np.array(values, dtype=np.uint8).reshape(count, 1, 1, 3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifold, "CHUNK_PICTURES", chunk)
        assert_nearest(draw(num_wanted), draw(num_training))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 254, 255])
def test_a_copy_is_at_distance_zero_and_a_step_of_one_pixel_is_not(value):
    # Pictures of the largest sums there are: float32 must still hold each of them exactly.
    training = np.full((3, 3, 40, 40), value, dtype=np.uint8)
    training[0, 0, 0, 0] ^= 1
    wanted = training[[0, 2]].copy()
    distances, indices = nearest_pictures(wanted, training)
    assert distances.tolist() == [0, 0]
    assert indices.tolist() == [0, 1]
    distances, _ = nearest_pictures(wanted[:1], training[1:])
    assert float(distances) == pytest.approx(1 / 255 / math.sqrt(4800), rel=1e-6)


def test_black_and_white_are_at_distance_one():
    black = np.zeros((1, 3, 64, 64), dtype=np.uint8)
    assert nearest_pictures(black, 255 - black)[0].tolist() == [1]


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
def test_the_nearest_pictures_are_the_same_in_chunks_of_any_size(monkeypatch, chunk):
    wanted, training = pictures(20, seed=1), pictures(50, seed=2)
    expected = nearest_pictures(wanted, training)
    monkeypatch.setattr(manifold, "CHUNK_PICTURES", chunk)
    found = nearest_pictures(wanted, training)
    assert all(torch.equal(*each) for each in zip(found, expected, strict=True))


def test_a_memory_map_is_read_a_chunk_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(manifold, "CHUNK_PICTURES", 20)
    training = pictures(50, seed=2)
    np.save(tmp_path / "train.npy", training)

    class Watched:
        """A memory map that notes how much is asked of it."""

        rows = np.load(tmp_path / "train.npy", mmap_mode="r")
        shape, asked = rows.shape, []

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, part):
            self.asked.append(len(self.rows[part]))
            return self.rows[part]

    found, _ = nearest_pictures(training[::-1], Watched())
    assert found.tolist() == [0] * 50
    assert Watched.asked == [20, 20, 10]


def test_pictures_of_another_size_are_refused():
    with pytest.raises(AssertionError, match=r"3, 6, 7\).*3, 8, 8\)"):
        nearest_pictures(pictures(2), pictures(2, (3, 8, 8)))


def test_the_memorised_share_equals_a_count():
    yardstick = torch.arange(1, 1001).float()  # its quantile 0.01 is 10.99
    assert share_nearer(torch.tensor([0.0, 10.9, 11.0, 50.0]), yardstick) == 0.5


def test_of_honest_pictures_one_in_a_hundred_is_memorised():
    distances, yardstick = features(4000, width=1)[:, 0], features(4000, width=1, seed=1)[:, 0]
    error = 4 * math.sqrt(2 * 0.01 * 0.99 / 4000)
    assert share_nearer(distances, yardstick) == pytest.approx(0.01, abs=error)


def test_copies_are_memorised_even_where_some_test_pictures_are_copies_too():
    yardstick = torch.cat([torch.zeros(20), torch.ones(980)])
    assert share_nearer(torch.zeros(50), yardstick) == 1
    assert share_nearer(yardstick, yardstick) == pytest.approx(0.02)
