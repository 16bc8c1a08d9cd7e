import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unclip.evaluation import bootstrap
from unclip.evaluation.bootstrap import jackknife_margin, margin_of_mean
from unclip.evaluation.distances import FrechetReference
from unclip.evaluation.manifold import overlap, radii


def features(count, width=6, seed=0, shift=0.0, scale=1.0):
    draws = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(99))
    return scale * torch.randn(count, width, generator=draws) @ mix + shift


# Margins by the bootstrap


@pytest.fixture
def many_resamples(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 4000)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_the_margin_of_a_mean_is_196_standard_errors(many_resamples, scale):
    values = features(500, width=1, scale=scale)[:, 0]
    expected = 1.96 * np.std(values.double().numpy()) / math.sqrt(500)
    assert margin_of_mean(values, seed=0) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("right", [50, 300, 900])
def test_the_margin_of_a_share_is_that_of_the_binomial(many_resamples, right):
    is_right = torch.arange(1000) < right
    share = right / 1000
    expected = 1.96 * math.sqrt(share * (1 - share) / 1000)
    assert margin_of_mean(is_right, seed=0) == pytest.approx(expected, rel=0.05)


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


@settings(deadline=None, max_examples=20)
@given(st.floats(-1e6, 1e6), st.integers(2, 30))
def test_items_that_are_all_alike_have_no_margin(value, count):
    found = margin_of_mean(torch.full((count,), value, dtype=torch.float64), seed=0)
    assert found <= 1e-12 * abs(value)


@pytest.mark.parametrize("count", [0, 1])
def test_too_little_for_a_margin_is_refused(count):
    with pytest.raises(AssertionError, match="items have no margin"):
        margin_of_mean(torch.zeros(count), seed=0)


# Margins by the jackknife


def test_the_jackknife_of_a_mean_of_single_items_is_196_standard_errors_exactly(monkeypatch):
    monkeypatch.setattr(bootstrap, "GROUPS", 80)
    values = features(80, width=1)[:, 0].double()
    found = jackknife_margin(lambda rows: float(values[rows].mean()), 80, seed=0)
    assert found == pytest.approx(1.96 * float(values.std()) / math.sqrt(80), rel=1e-12)


@pytest.mark.parametrize("count", [1000, 1003])
def test_the_jackknife_of_a_mean_by_groups_is_about_the_same(count):
    values = features(count, width=1)[:, 0].double()
    found = [
        jackknife_margin(lambda rows: float(values[rows].mean()), count, seed=seed)
        for seed in range(30)
    ]
    expected = 1.96 * float(values.std()) / math.sqrt(count)
    assert np.mean(found) == pytest.approx(expected, rel=0.05)


def test_the_jackknife_leaves_each_item_out_once_and_takes_none_twice(monkeypatch):
    monkeypatch.setattr(bootstrap, "GROUPS", 5)
    seen = []
    jackknife_margin(lambda rows: seen.append(rows) or 0.0, 23, seed=0)
    assert all(len(rows.unique()) == len(rows) for rows in seen)
    assert sorted(len(rows) for rows in seen) == [18, 18, 18, 19, 19]
    assert torch.cat(seen).bincount(minlength=23).tolist() == [4] * 23


def test_the_jackknife_is_a_function_of_its_seed_alone():
    values = features(80, width=1)[:, 0]

    def found(seed):
        return jackknife_margin(lambda rows: float(values[rows].mean()), 80, seed=seed)

    before = torch.random.get_rng_state()
    first = found(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert found(0) == first != found(1)


def test_one_item_is_refused():
    with pytest.raises(AssertionError, match="1 groups have no standard deviation"):
        jackknife_margin(lambda rows: 0.0, 1, seed=0)


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


def test_the_jackknife_of_a_frechet_distance_near_its_floor_covers_the_spread_of_fresh_draws():
    reference = FrechetReference.of(features(5000, 20, seed=999))
    fresh = [reference.distance(features(400, 20, seed=s)) for s in range(100)]
    margins = []
    for seed in range(5):
        one = features(400, 20, seed=seed)
        statistic = lambda rows, one=one: reference.distance(one[rows])  # noqa: E731
        margins.append(jackknife_margin(statistic, 400, seed=0))
    assert 0.9 < np.mean(margins) / (1.96 * np.std(fresh)) < 1.8
