import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch.testing import assert_close

from unclip.diffusion.predictions import (
    PREDICTION_TYPES,
    q_sample,
    to_x_start,
    training_target,
)
from unclip.diffusion.schedules import SCHEDULES, NoiseSchedule, make_schedule

SHAPES = [(6,), (3, 4, 4)]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def every_timestep(num_timesteps, shape, dtype=torch.float64):
    """x_start, noise and t with one row for each timestep."""
    x_start = draw(num_timesteps, *shape, seed=1, dtype=dtype)
    noise = draw(num_timesteps, *shape, seed=2, dtype=dtype)
    return x_start, noise, torch.arange(num_timesteps)


@pytest.mark.parametrize("shape", SHAPES)
def test_noising_keeps_a_of_the_datas_variance_and_fills_up_with_noise(shape):
    schedule = make_schedule("cosine", 100, 0.008)
    x_start, noise, t = every_timestep(100, shape)
    x_t = q_sample(schedule, x_start, t, noise).numpy()
    for row in range(100):
        a = np.prod(1 - schedule.betas.numpy()[: row + 1])
        expected = np.sqrt(a) * x_start[row].numpy() + np.sqrt(1 - a) * noise[row].numpy()
        np.testing.assert_allclose(x_t[row], expected, rtol=1e-9, atol=1e-12)


def test_the_v_target_is_that_of_salimans_and_ho():
    schedule = make_schedule("cosine", 100, 0.008)
    x_start, noise, t = every_timestep(100, (6,))
    v = training_target(schedule, "v", x_start, t, noise).numpy()
    for row in range(100):
        a = np.prod(1 - schedule.betas.numpy()[: row + 1])
        expected = np.sqrt(a) * noise[row].numpy() - np.sqrt(1 - a) * x_start[row].numpy()
        np.testing.assert_allclose(v[row], expected, rtol=1e-9, atol=1e-12)


def test_the_eps_and_x_start_targets_are_the_noise_and_the_data():
    schedule = make_schedule("linear", 10, 0.0)
    x_start, noise, t = every_timestep(10, (6,))
    assert training_target(schedule, "eps", x_start, t, noise) is noise
    assert training_target(schedule, "x_start", x_start, t, noise) is x_start


def test_noising_and_the_v_target_are_those_of_diffusers():
    schedule = make_schedule("linear", 1000, 0.0)
    scheduler = DDPMScheduler(trained_betas=schedule.betas.numpy())
    x_start, noise, t = every_timestep(1000, (3, 2, 2), dtype=torch.float32)
    assert_close(
        q_sample(schedule, x_start, t, noise),
        scheduler.add_noise(x_start, noise, t),
        atol=1e-4,
        rtol=0,
    )
    assert_close(
        training_target(schedule, "v", x_start, t, noise),
        scheduler.get_velocity(x_start, noise, t),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_timesteps", [1, 2, 5, 10, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_perfect_output_gives_back_the_data_at_every_timestep(
    prediction_type, name, num_timesteps, shape
):
    schedule = make_schedule(name, num_timesteps, 0.008)
    x_start, noise, t = every_timestep(num_timesteps, shape)
    x_t = q_sample(schedule, x_start, t, noise)
    model_output = training_target(schedule, prediction_type, x_start, t, noise)
    pred_x_start = to_x_start(schedule, prediction_type, model_output, x_t, t)
    # Dividing by sqrt(a) magnifies rounding: a is 1e-17 at the worst of these timesteps.
    tolerance = 1e-14 / schedule.alphas_cumprod.sqrt()
    error = (pred_x_start - x_start).flatten(1).abs().amax(1)
    assert torch.all(error < tolerance)


@pytest.mark.parametrize(
    ("prediction_type", "tolerance"), [("v", 1e-5), ("x_start", 0), ("eps", 0.1)]
)
def test_float32_is_enough_for_the_round_trip(prediction_type, tolerance):
    schedule = make_schedule("cosine", 1000, 0.008)
    x_start, noise, t = every_timestep(1000, (6,), dtype=torch.float32)
    x_t = q_sample(schedule, x_start, t, noise)
    model_output = training_target(schedule, prediction_type, x_start, t, noise)
    pred_x_start = to_x_start(schedule, prediction_type, model_output, x_t, t)
    assert_close(pred_x_start, x_start, atol=tolerance, rtol=0)


@pytest.mark.parametrize("betas", [[1.0, 1.0], [0.0, 0.0]])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_data_stay_finite_where_only_noise_or_only_data_is_left(prediction_type, betas):
    schedule = NoiseSchedule(torch.tensor(betas, dtype=torch.float64))
    x_t, model_output = draw(2, 6, dtype=torch.float32), draw(2, 6, seed=1, dtype=torch.float32)
    estimate = to_x_start(schedule, prediction_type, model_output, x_t, torch.tensor([0, 1]))
    assert torch.all(torch.isfinite(estimate))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("function", [training_target, to_x_start])
def test_row_i_is_the_same_alone_as_in_a_batch_of_eight(function, prediction_type):
    schedule = make_schedule("cosine", 1000, 0.008)
    x, other, t = draw(8, 6), draw(8, 6, seed=1), torch.tensor([0, 999, 3, 500, 7, 998, 20, 1])

    def call(rows):
        if function is training_target:
            return training_target(schedule, prediction_type, x[rows], t[rows], other[rows])
        return function(schedule, prediction_type, other[rows], x[rows], t[rows])

    together = call(slice(None))
    assert all(torch.equal(call(slice(i, i + 1))[0], together[i]) for i in range(8))


def test_an_unknown_prediction_type_is_an_error_that_names_the_known_ones():
    schedule = make_schedule("cosine", 10, 0.008)
    x, t = draw(2, 6), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"'epsilon'.*eps.*x_start.*v"):
        to_x_start(schedule, "epsilon", x, x, t)


def test_an_unknown_training_target_is_an_error_that_names_the_known_ones():
    schedule = make_schedule("cosine", 10, 0.008)
    x, t = draw(2, 6), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"'epsilon'.*eps.*x_start.*v"):
        training_target(schedule, "epsilon", x, t, x)


def test_noise_of_another_shape_is_refused_rather_than_broadcast():
    schedule = make_schedule("cosine", 10, 0.008)
    with pytest.raises(AssertionError, match=r"\(2, 6\), \(2, 1\)"):
        q_sample(schedule, draw(2, 6), torch.tensor([0, 1]), draw(2, 1))


def test_one_timestep_for_a_whole_batch_is_refused_rather_than_broadcast():
    schedule = make_schedule("cosine", 10, 0.008)
    with pytest.raises(AssertionError, match=r"t \(1,\)"):
        q_sample(schedule, draw(2, 6), torch.tensor([0]), draw(2, 6))


def test_float32_coefficients_are_those_of_float64_rounded_once():
    # In float32 1 − a keeps four digits at t = 0.
    schedule = make_schedule("linear", 1000, 0.0)
    zeros, ones, t = torch.zeros(1000, 1), torch.ones(1000, 1), torch.arange(1000)
    sigma = q_sample(schedule, zeros, t, ones)[:, 0].double()
    assert_close(sigma, (1 - schedule.alphas_cumprod).sqrt(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_nothing_is_promoted_to_float64(prediction_type):
    schedule = make_schedule("cosine", 10, 0.008)
    x, t = draw(2, 6, dtype=torch.float32), torch.tensor([0, 9])
    assert q_sample(schedule, x, t, x).dtype == torch.float32
    assert training_target(schedule, prediction_type, x, t, x).dtype == torch.float32
    assert to_x_start(schedule, prediction_type, x, x, t).dtype == torch.float32


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_nothing_is_read_back_from_the_device(prediction_type):
    # A meta tensor has no values: whatever would make a GPU wait for the host raises there.
    schedule = make_schedule("cosine", 10, 0.008)
    x, t = torch.empty(2, 6, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
    q_sample(schedule, x, t, x)
    training_target(schedule, prediction_type, x, t, x)
    to_x_start(schedule, prediction_type, x, x, t)


def test_sampling_in_inference_mode_first_does_not_spoil_training_after():
    schedule = make_schedule("cosine", 10, 0.008)
    x, t = draw(2, 6), torch.tensor([0, 9])
    with torch.inference_mode():
        to_x_start(schedule, "v", x, x, t)
    model_output = x.clone().requires_grad_()
    to_x_start(schedule, "v", model_output, x, t).sum().backward()
    expected = -(1 - schedule.alphas_cumprod[t]).sqrt()[:, None].expand(2, 6)
    assert_close(model_output.grad, expected)
