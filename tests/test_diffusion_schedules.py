import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from numpy.testing import assert_allclose

from unclip.diffusion.process import Diffusion
from unclip.diffusion.schedules import (
    SCHEDULES,
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
    betas = make_betas(name, num_timesteps, 0.008)
    a = Diffusion(num_timesteps, name, 0.008, "v").alphas_cumprod.numpy()
    assert len(betas) == len(a) == num_timesteps
    assert betas.min() > 0
    assert betas.max() <= 0.999
    assert np.all(np.diff(a) < 0)
    assert 0 < a[-1] <= 0.001 + 1e-12


@pytest.mark.parametrize("name", SCHEDULES)
def test_alphas_cumprod_is_the_running_product_in_float64(name):
    betas, a = make_betas(name, 1000, 0.008), Diffusion(1000, name, 0.008, "v").alphas_cumprod
    expected = [math.prod(1 - beta for beta in betas.tolist()[: t + 1]) for t in range(9)]
    assert betas.dtype == a.dtype == torch.float64
    assert_allclose(a[:9], expected, rtol=1e-14)


def test_an_unknown_schedule_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'sigmoid'.*cosine.*linear"):
        make_betas("sigmoid", 10, 0.008)


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
