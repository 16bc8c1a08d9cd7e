import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from numpy.testing import assert_allclose

from unclip.diffusion.process import Diffusion
from unclip.diffusion.schedules import (
    SCHEDULES,
    alpha_and_sigma,
    karras_timesteps,
    make_betas,
    sampling_timesteps,
)

SMALL_AND_FULL = [1, 2, 5, 10, 1000]


def cosine_betas_of_the_paper(num_timesteps, s):
    def f(t):
        return math.cos((t / num_timesteps + s) / (1 + s) * math.pi / 2) ** 2

    alpha_bar = [f(t) / f(0) for t in range(num_timesteps + 1)]
    return [min(1 - alpha_bar[t] / alpha_bar[t - 1], 0.999) for t in range(1, num_timesteps + 1)]


@pytest.mark.parametrize("num_timesteps", SMALL_AND_FULL)
@pytest.mark.parametrize("offset", [0.0, 0.008, 0.1])
def test_cosine_betas_are_those_of_equation_17(num_timesteps, offset):
    betas = make_betas("cosine", num_timesteps, offset)
    assert_allclose(betas, cosine_betas_of_the_paper(num_timesteps, offset), rtol=1e-9)


def test_cosine_betas_are_those_of_diffusers():
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").betas
    assert_allclose(make_betas("cosine", 1000, 0.008), theirs, rtol=1e-6)


@pytest.mark.parametrize("num_timesteps", [2, 5, 10, 100, 1000])
def test_linear_betas_are_those_of_guided_diffusion_capped(num_timesteps):
    scale = 1000 / num_timesteps
    theirs = np.linspace(scale * 0.0001, scale * 0.02, num_timesteps, dtype=np.float64)
    ours = make_betas("linear", num_timesteps, 0.008)
    assert_allclose(ours, np.minimum(theirs, 0.999), rtol=1e-12)


def test_linear_betas_of_a_thousand_timesteps_are_those_of_ho():
    betas = make_betas("linear", 1000, 0.0)
    assert_allclose(betas[[0, -1]], [1e-4, 0.02], rtol=1e-12)


def test_the_offset_leaves_linear_alone():
    assert torch.equal(make_betas("linear", 50, 0.0), make_betas("linear", 50, 0.3))


def test_a_larger_offset_makes_the_first_cosine_timestep_noisier():
    first = [make_betas("cosine", 1000, s)[0].item() for s in (0.0, 0.008, 0.1)]
    assert first == sorted(set(first))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("num_timesteps", SMALL_AND_FULL)
def test_every_length_of_every_schedule_descends_to_noise(name, num_timesteps):
    alpha, sigma = (each.numpy() for each in alpha_and_sigma(name, num_timesteps, 0.008))
    assert len(alpha) == len(sigma) == num_timesteps
    assert np.all(np.diff(alpha) < 0)
    assert np.all(np.diff(sigma) > 0)
    assert alpha[0] < 1
    assert sigma[0] > 0
    assert 0 <= alpha[-1] ** 2 <= 0.001 + 1e-12
    assert sigma[-1] <= 1


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_alpha_squared_is_the_running_product_in_float64_and_sigma_squared_the_rest(name):
    betas, (alpha, sigma) = make_betas(name, 1000, 0.008), alpha_and_sigma(name, 1000, 0.008)
    expected = [math.prod(1 - beta for beta in betas.tolist()[: t + 1]) for t in range(9)]
    assert 0 < betas.min() < betas.max() <= 0.999
    assert betas.dtype == alpha.dtype == sigma.dtype == torch.float64
    assert_allclose(alpha[:9] ** 2, expected, rtol=1e-14)
    assert_allclose(alpha**2 + sigma**2, np.ones(1000), rtol=1e-14)


@pytest.mark.parametrize("num_timesteps", SMALL_AND_FULL)
def test_flow_is_the_straight_way_of_diffusers(num_timesteps):
    theirs = FlowMatchEulerDiscreteScheduler(num_timesteps).sigmas.flip(0)
    alpha, sigma = alpha_and_sigma("flow", num_timesteps, 0.008)
    assert alpha.dtype == sigma.dtype == torch.float64
    assert_allclose(sigma, theirs, rtol=1e-6)
    assert_allclose(alpha, 1 - theirs, atol=1e-6)
    assert (alpha[-1], sigma[-1]) == (0, 1)


def test_an_unknown_schedule_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'sigmoid'.*flow.*cosine.*linear"):
        alpha_and_sigma("sigmoid", 10, 0.008)


@pytest.mark.parametrize("num_timesteps", [1, 2, 5, 10, 97, 1000])
def test_timesteps_descend_strictly_from_the_noisiest(num_timesteps):
    for sampling_steps in range(1, num_timesteps + 1):
        timesteps = sampling_timesteps(num_timesteps, sampling_steps).numpy()
        assert timesteps.shape == (sampling_steps,)
        assert timesteps[0] == num_timesteps - 1
        assert timesteps[-1] >= 0
        assert np.all(np.diff(timesteps) < 0)


def test_the_gaps_between_timesteps_differ_by_at_most_one():
    gaps = -np.diff([*sampling_timesteps(1000, 64).tolist(), -1])
    assert set(gaps) == {15, 16}


def test_as_many_steps_as_timesteps_visit_each():
    assert sampling_timesteps(7, 7).tolist() == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("sampling_steps", [1, 8, 10, 50, 64, 250, 1000])
def test_timesteps_are_the_trailing_ones_of_diffusers(sampling_steps):
    scheduler = DDPMScheduler(num_train_timesteps=1000, timestep_spacing="trailing")
    scheduler.set_timesteps(sampling_steps)
    ours = sampling_timesteps(1000, sampling_steps)
    assert ours.dtype == torch.int64
    assert ours.tolist() == scheduler.timesteps.tolist()


@pytest.mark.parametrize("sampling_steps", [-1, 0, 11])
def test_more_steps_than_timesteps_or_none_is_an_error(sampling_steps):
    with pytest.raises(ValueError, match=rf"sampling_steps: {sampling_steps} is not in 1\.\.10"):
        sampling_timesteps(10, sampling_steps)


# Karras spacing, and the levels that a sampler visits


def edm_levels(steps):
    """Equation 5 of EDM from sigma 80 down to 0.02, with rho 7."""
    most, least = 80 ** (1 / 7), 0.02 ** (1 / 7)
    return [(most + i / (steps - 1) * (least - most)) ** 7 for i in range(steps)]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("num_timesteps", "steps"), [(1000, 25), (100, 8), (100, 2)])
def test_karras_timesteps_are_those_nearest_to_the_levels_of_edm(name, num_timesteps, steps):
    alpha, sigma = alpha_and_sigma(name, num_timesteps, 0.008)
    ratios = [s / a if a else math.inf for a, s in zip(alpha.tolist(), sigma.tolist(), strict=True)]
    nearest = [
        min(range(num_timesteps), key=lambda t: abs(math.log(ratios[t] / wanted)))
        for wanted in edm_levels(steps)
    ]
    timesteps = karras_timesteps(sigma / alpha, steps)
    assert timesteps.dtype == torch.int64
    assert timesteps.tolist() == [num_timesteps - 1, *nearest[1:]]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("num_timesteps", [1, 2, 5, 10, 97])
def test_karras_timesteps_descend_strictly_from_the_noisiest(name, num_timesteps):
    alpha, sigma = alpha_and_sigma(name, num_timesteps, 0.008)
    for steps in range(1, num_timesteps + 1):
        timesteps = karras_timesteps(sigma / alpha, steps).numpy()
        assert timesteps.shape == (steps,)
        assert timesteps[0] == num_timesteps - 1
        assert timesteps[-1] >= 0
        assert np.all(np.diff(timesteps) < 0)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("spacing", ["uniform", "karras"])
def test_levels_are_those_of_the_timesteps_and_then_the_data(name, spacing):
    alpha, sigma = alpha_and_sigma(name, 100, 0.008)
    *visited, data = Diffusion(100, name, 0.008, "v").levels(7, spacing)
    expected = {
        "uniform": sampling_timesteps(100, 7),
        "karras": karras_timesteps(sigma / alpha, 7),
    }
    assert [level.t for level in visited] == expected[spacing].tolist()
    assert all((alpha[level.t], sigma[level.t]) == level[1:] for level in visited)
    assert data == (-1, 1.0, 0.0)


@pytest.mark.parametrize("spacing", ["uniform", "karras"])
def test_more_levels_than_timesteps_is_an_error(spacing):
    with pytest.raises(ValueError, match=r"11 is not in 1\.\.10"):
        Diffusion(10, "flow", 0.008, "v").levels(11, spacing)
