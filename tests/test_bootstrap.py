import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unclip.evaluation.bootstrap import FrechetReference, jackknife_margin, margin, margin_of_mean
from unclip.evaluation.distances import frechet_distance
from unclip.evaluation.manifold import overlap, radii


def features(count, width=6, seed=0, shift=0.0, scale=1.0):
    draws = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(99))
    return scale * torch.randn(count, width, generator=draws) @ mix + shift


# Margins


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_the_margin_of_a_mean_is_196_standard_errors(scale):
    values = features(500, width=1, scale=scale)[:, 0]
    expected = 1.96 * np.std(values.double().numpy()) / math.sqrt(500)
    assert margin_of_mean(values, seed=0, resamples=4000) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("right", [50, 300, 900])
def test_the_margin_of_a_share_is_that_of_the_binomial(right):
    is_right = torch.arange(1000) < right
    share = right / 1000
    expected = 1.96 * math.sqrt(share * (1 - share) / 1000)
    assert margin_of_mean(is_right, seed=0, resamples=4000) == pytest.approx(expected, rel=0.05)


def test_the_margin_holds_the_truth_in_95_of_100_experiments():
    hits = 0
    for seed in range(300):
        values = features(100, width=1, seed=seed)[:, 0]
        hits += abs(float(values.mean())) <= margin_of_mean(values, seed=seed)
    assert 0.90 <= hits / 300 <= 0.98  # 0.95, less a little for 100 items; 2.5 standard errors


def test_200_resamples_know_the_margin_to_some_5_percent():
    values = features(200, width=1)[:, 0]
    found = torch.tensor([margin_of_mean(values, seed=seed) for seed in range(40)])
    assert 0.03 < float(found.std() / found.mean()) < 0.08


def test_the_margin_of_any_statistic_equals_a_loop_over_its_resamples():
    values = features(50, width=1)[:, 0].tolist()
    seen = []

    def median(rows):
        seen.append(rows.tolist())
        return sorted(values[row] for row in rows.tolist())[25]

    found = margin(median, 50, seed=3, resamples=30)
    medians = [sorted(values[row] for row in rows)[25] for rows in seen]
    mean = sum(medians) / 30
    expected = 1.96 * math.sqrt(sum((each - mean) ** 2 for each in medians) / 29)
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_resample_draws_as_many_items_with_replacement_and_every_item_as_often():
    seen = []
    margin(lambda rows: seen.append(rows) or 0.0, 20, seed=0, resamples=2000)
    assert {(tuple(rows.shape), rows.dtype) for rows in seen} == {((20,), torch.int64)}
    assert all(len(rows.unique()) < 20 for rows in seen)
    counts = torch.cat(seen).bincount(minlength=20)
    assert len(counts) == 20
    assert (counts - 2000).abs().max() < 5 * math.sqrt(2000)


def test_a_margin_is_a_function_of_its_seed_alone():
    values = features(80, width=1)[:, 0]
    before = torch.random.get_rng_state()
    first = margin_of_mean(values, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert margin_of_mean(values, seed=0) == first
    assert margin_of_mean(values, seed=1) != first


def test_figures_of_the_same_items_meet_the_same_resamples():
    values = features(80, width=1)[:, 0]
    assert margin_of_mean(values + 5, seed=0) == pytest.approx(margin_of_mean(values, seed=0))
    assert margin_of_mean(-3 * values, seed=0) == pytest.approx(3 * margin_of_mean(values, seed=0))


@settings(deadline=None, max_examples=50)
@given(st.floats(-1e6, 1e6), st.integers(2, 30))
def test_items_that_are_all_alike_have_no_margin(value, count):
    found = margin_of_mean(torch.full((count,), value, dtype=torch.float64), seed=0, resamples=5)
    assert found <= 1e-12 * abs(value)


def test_four_times_the_items_halve_the_margin():
    few, many = (torch.arange(count) % 2 for count in (200, 800))
    ratio = margin_of_mean(few, seed=0, resamples=2000) / margin_of_mean(
        many, seed=0, resamples=2000
    )
    assert ratio == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(("count", "resamples"), [(1, 10), (0, 10), (10, 1)])
def test_too_little_for_a_margin_is_refused(count, resamples):
    with pytest.raises(AssertionError, match=r"margin|deviation"):
        margin_of_mean(torch.zeros(count), seed=0, resamples=resamples)


# Margins by the jackknife


def test_the_jackknife_of_a_mean_of_single_items_is_196_standard_errors_exactly():
    values = features(80, width=1)[:, 0].double()
    found = jackknife_margin(lambda rows: float(values[rows].mean()), 80, seed=0, groups=80)
    assert found == pytest.approx(1.96 * float(values.std()) / math.sqrt(80), rel=1e-12)


@pytest.mark.parametrize(("count", "groups"), [(1000, 50), (1003, 50), (1000, 200)])
def test_the_jackknife_of_a_mean_by_groups_is_about_the_same(count, groups):
    values = features(count, width=1)[:, 0].double()
    found = [
        jackknife_margin(lambda rows: float(values[rows].mean()), count, seed=seed, groups=groups)
        for seed in range(30)
    ]
    expected = 1.96 * float(values.std()) / math.sqrt(count)
    assert np.mean(found) == pytest.approx(expected, rel=0.05)


def test_the_jackknife_leaves_each_item_out_once_and_takes_none_twice():
    seen = []
    jackknife_margin(lambda rows: seen.append(rows) or 0.0, 23, seed=0, groups=5)
    assert all(len(rows.unique()) == len(rows) for rows in seen)
    assert sorted(len(rows) for rows in seen) == [18, 18, 18, 19, 19]
    assert torch.cat(seen).bincount(minlength=23).tolist() == [4] * 23


def test_the_jackknife_is_a_function_of_its_seed_alone():
    values = features(80, width=1)[:, 0]

    def found(seed):
        return jackknife_margin(lambda rows: float(values[rows].mean()), 80, seed=seed, groups=10)

    before = torch.random.get_rng_state()
    first = found(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert found(0) == first != found(1)


def test_one_group_is_refused():
    with pytest.raises(AssertionError, match="1 groups have no standard deviation"):
        jackknife_margin(lambda rows: 0.0, 5, seed=0, groups=1)


def test_of_few_items_each_is_a_group():
    values = torch.tensor([1.0, 4.0, 2.0, 8.0])
    found = jackknife_margin(lambda rows: float(values[rows].mean()), 4, seed=0)
    assert found == pytest.approx(1.96 * float(values.std()) / 2, rel=1e-6)


@pytest.mark.parametrize("name", ["recall", "coverage"])
def test_the_jackknife_of_an_overlap_covers_the_spread_of_fresh_draws_and_a_mean_does_not(name):
    real = features(800, 8, seed=999)
    reach = radii(real, 5)
    found = [overlap(features(300, 8, seed=s), real, k=5, reference_radii=reach) for s in range(60)]
    spread = 1.96 * np.std([each.figures()[name] for each in found])
    margins = [
        jackknife_margin(lambda rows, each=each: each.of(rows).figures()[name], 300, seed=0)
        for each in found[:10]
    ]
    assert 0.9 * spread < np.mean(margins) < 1.8 * spread
    # Resamples of the real pictures know nothing of which others might have been painted.
    assert np.mean([margin_of_mean(getattr(each, name), seed=0) for each in found[:10]]) < spread


# Fréchet distance


@pytest.mark.parametrize(
    ("count", "width", "shift", "scale"),
    [(200, 6, 0.0, 1.0), (300, 6, 1.5, 1.0), (150, 6, -3.0, 0.5), (1000, 96, 0.1, 1.0)],
)
def test_the_frechet_distance_is_that_of_torchmetrics(count, width, shift, scale):
    one = features(count, width, seed=1, shift=shift, scale=scale)
    real = features(2000, width, seed=2)
    expected = frechet_distance(one.double(), real.double())  # else it rounds to float32
    assert FrechetReference.of(real).distance(one) == pytest.approx(expected, rel=1e-6)


def test_features_that_are_always_off_are_no_trouble():
    # What a ReLU gives: columns of zeros, so that both covariances are singular.
    one, real = features(300, 20, seed=1).relu(), features(400, 20, seed=2).relu()
    one[:, [3, 7]] = real[:, [3, 11]] = 0
    expected = frechet_distance(one.double(), real.double())
    assert FrechetReference.of(real).distance(one) == pytest.approx(expected, rel=1e-5)


def test_fewer_pictures_than_features_are_no_trouble():
    one, real = features(10, 20, seed=1), features(400, 20, seed=2)
    expected = frechet_distance(one.double(), real.double())
    assert FrechetReference.of(real).distance(one) == pytest.approx(expected, rel=1e-5)


def test_the_frechet_distance_of_gaussians_on_axes_is_closed_form():
    # Eight points, so that mean and covariance are exact: ±a on each axis has variance 2a²/7.
    axes = torch.eye(4, dtype=torch.float64)
    one, other = torch.cat([axes, -axes]), torch.cat([3 * axes, -3 * axes]) + 5
    expected = 4 * 25 + 4 * (3 - 1) ** 2 * 2 / 7
    assert FrechetReference.of(other).distance(one) == pytest.approx(expected, rel=1e-12)


def test_identical_sets_have_no_frechet_distance():
    one = features(200)
    assert FrechetReference.of(one).distance(one.clone()) == pytest.approx(0, abs=1e-9)


def test_features_far_from_the_origin_lose_nothing():
    one, real = features(150, seed=1).double(), features(150, seed=2, shift=0.1).double()
    expected = FrechetReference.of(real).distance(one)
    assert FrechetReference.of(real + 1e4).distance(one + 1e4) == pytest.approx(expected, rel=1e-6)


def test_the_margin_of_a_frechet_distance_is_the_spread_of_fresh_draws():
    reference = FrechetReference.of(features(5000, 4, seed=999))
    fresh = [reference.distance(features(400, 4, seed=s, shift=0.5)) for s in range(200)]
    one = features(400, 4, seed=1000, shift=0.5)
    found = margin(lambda rows: reference.distance(one[rows]), 400, seed=0)
    assert found == pytest.approx(1.96 * np.std(fresh), rel=0.3)


def test_near_the_floor_the_jackknife_is_nearer_to_that_spread_than_the_bootstrap():
    reference = FrechetReference.of(features(5000, 20, seed=999))
    fresh = [reference.distance(features(400, 20, seed=s)) for s in range(100)]
    spread, found = 1.96 * np.std(fresh), {margin: [], jackknife_margin: []}
    for each, margins in found.items():
        for seed in range(5):
            one = features(400, 20, seed=seed)
            margins.append(each(lambda rows, one=one: reference.distance(one[rows]), 400, seed=0))
    jackknife, bootstrap = np.mean(found[jackknife_margin]), np.mean(found[margin])
    assert 0.9 * spread < jackknife < 1.8 * spread
    assert jackknife < bootstrap
