import math

import pytest
import torch
from diffusers import DDIMInverseScheduler
from test_diffusion_samplers import T, alphas_cumprod, draw, ideal_predict, network
from torch.testing import assert_close

from unclip.diffusion.guidance import predict_x_start
from unclip.diffusion.inversion import invert_ddim
from unclip.diffusion.process import Diffusion
from unclip.diffusion.reverse import final
from unclip.diffusion.samplers import sample_ddim
from unclip.diffusion.schedules import SCHEDULES, make_betas, sampling_timesteps

for_each_schedule = pytest.mark.parametrize("name", SCHEDULES)
MEAN, STD = 0.3, 0.5
MIXING = draw(6, 6, seed=9)


def invert(x_start, steps=10, predict=network, evaluations=20, schedule=None):
    schedule = alphas_cumprod("cosine") if schedule is None else schedule
    timesteps = sampling_timesteps(len(schedule), steps)
    return invert_ddim(predict, x_start, schedule, timesteps, evaluations=evaluations)


def back(x_T, steps=10, predict=network, schedule=None):
    schedule = alphas_cumprod("cosine") if schedule is None else schedule
    timesteps = sampling_timesteps(len(schedule), steps)
    steps = sample_ddim(predict, x_T, schedule, timesteps, eta=0.0, draw_noise=torch.zeros_like)
    return final(steps)


@for_each_schedule
@pytest.mark.parametrize("evaluations", [1, 4])
def test_gaussian_data_become_the_noise_that_theory_says(name, evaluations):
    # The way of a Gaussian is known: a point keeps its distance from the mean in deviations.
    schedule, x_start = alphas_cumprod(name, 1000), draw(4, 6)
    a = float(schedule[-1])
    deviations = (x_start - MEAN) / STD
    expected = math.sqrt(a) * MEAN + math.sqrt(STD**2 * a + 1 - a) * deviations
    predict = ideal_predict(schedule, MEAN, STD)
    found = invert(x_start, 1000, predict, evaluations, schedule)
    assert_close(found, expected, rtol=0.01, atol=0.01)


@for_each_schedule
@pytest.mark.parametrize("steps", [T, 12])
def test_one_evaluation_is_the_inversion_of_diffusers(name, steps):
    def eps(x_t, t):
        return torch.tanh(x_t @ MIXING + t[:, None] / T)

    schedule, x_start = alphas_cumprod(name), draw(4, 6)
    theirs = DDIMInverseScheduler(
        num_train_timesteps=T,
        trained_betas=make_betas(name, T, 0.008).numpy(),
        prediction_type="epsilon",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    theirs.alphas_cumprod = schedule
    theirs.set_timesteps(steps)
    x_t = x_start
    for t in theirs.timesteps:
        x_t = theirs.step(eps(x_t, t.expand(len(x_t))), int(t), x_t).prev_sample
    predict = predict_x_start(eps, Diffusion(T, name, 0.008, "eps"), None)
    ours = invert(x_start, steps, predict, 1, schedule)
    assert_close(ours, x_t, rtol=1e-8, atol=1e-8)


# The longer its last step, the more slowly it converges there; the cosine ends in a very long one.
@pytest.mark.parametrize(("name", "steps"), [("linear", 6), ("linear", T)])
def test_ddim_makes_the_data_again_from_it(name, steps):
    schedule, x_start = alphas_cumprod(name), draw(4, 6)
    predict = ideal_predict(schedule, MEAN, STD)
    x_T = invert(x_start, steps, predict, 300, schedule)
    assert_close(back(x_T, steps, predict, schedule), x_start, rtol=1e-6, atol=1e-6)


def test_more_evaluations_come_nearer_and_one_does_not_arrive():
    schedule, x_start = alphas_cumprod("linear"), draw(4, 6)
    predict = ideal_predict(schedule, MEAN, STD)
    errors = []
    for count in (1, 3, 9, 27):
        x_T = invert(x_start, 10, predict, count, schedule)
        errors.append((back(x_T, 10, predict, schedule) - x_start).abs().max())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05 > 10 * errors[-1]


def test_the_network_is_asked_from_the_least_noisy_timestep_up():
    asked = []

    def predict(x_t, t):
        asked.append(t)
        return x_t

    invert(draw(2, 6), 3, predict, evaluations=2)
    assert asked == [19, 19, 39, 39, 59, 59]


def test_rows_stay_apart_and_float32_stays_float32():
    x_start = draw(8, 6, dtype=torch.float32)
    together = invert(x_start)
    assert together.dtype == torch.float32
    for i in range(8):
        assert_close(invert(x_start[i : i + 1])[0], together[i])


def test_no_gradients_are_recorded_and_the_data_stay_as_they_are():
    x_start = draw(2, 6).requires_grad_()
    given = x_start.detach().clone()
    assert not invert(x_start).requires_grad
    assert torch.equal(x_start, given)


@pytest.mark.parametrize("timesteps", [[5, 5], [3, 5], [5, -1]])
def test_timesteps_that_do_not_descend_are_refused(timesteps):
    schedule, timesteps = alphas_cumprod("cosine"), torch.tensor(timesteps)
    with pytest.raises(AssertionError, match="timesteps"):
        invert_ddim(network, draw(2, 6), schedule, timesteps, evaluations=1)


def test_no_evaluation_is_refused():
    with pytest.raises(AssertionError, match="evaluations must be at least 1"):
        invert(draw(2, 6), evaluations=0)
