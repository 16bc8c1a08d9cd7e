import pytest
import torch
from test_diffusion_samplers import T, draw, ideal_predict, levels, network
from torch.testing import assert_close

from unclip.diffusion.guidance import predict_x_start
from unclip.diffusion.inversion import invert_ddim
from unclip.diffusion.process import Diffusion
from unclip.diffusion.reverse import final
from unclip.diffusion.samplers import sample_ddim
from unclip.diffusion.schedules import SCHEDULES

for_each_schedule = pytest.mark.parametrize("name", SCHEDULES)
MEAN, STD = 0.3, 0.5


def invert(x_start, predict=network, evaluations=20, visited=None):
    return invert_ddim(predict, x_start, visited or levels(), evaluations=evaluations)


def back(x_T, predict, visited):
    return final(sample_ddim(predict, x_T, visited, eta=0.0, draw_noise=torch.zeros_like))


def round_trip_error(visited, evaluations):
    x_start, predict = draw(4, 6), ideal_predict(visited, MEAN, STD)
    x_T = invert(x_start, predict, evaluations, visited)
    return (back(x_T, predict, visited) - x_start).abs().max()


@for_each_schedule
@pytest.mark.parametrize("evaluations", [1, 4])
def test_gaussian_data_become_the_noise_that_theory_says(name, evaluations):
    # The way of a Gaussian is known: a point keeps its distance from the mean in deviations.
    visited, x_start = levels(name, 1000, 1000), draw(4, 6)
    _, alpha, sigma = visited[0]
    deviations = (x_start - MEAN) / STD
    expected = alpha * MEAN + ((STD * alpha) ** 2 + sigma**2) ** 0.5 * deviations
    found = invert(x_start, ideal_predict(visited, MEAN, STD), evaluations, visited)
    assert_close(found, expected, rtol=0.01, atol=0.01)


def test_one_evaluation_is_an_euler_step_of_flow_towards_noise():
    def flow(x_t, t):
        return torch.tanh(x_t.flip(1) + t[:, None] / T)

    expected = x_start = draw(4, 6)
    for t in range(T):  # sigma grows by 1 / T
        expected = expected + flow(expected, torch.full((4,), t)) / T
    predict = predict_x_start(flow, Diffusion(T, "flow", 0.008, "flow"), None)
    found = invert(x_start, predict, 1, levels("flow", T))
    assert_close(found, expected)


@for_each_schedule
@pytest.mark.parametrize("spacing", ["uniform", "karras"])
@pytest.mark.parametrize(("steps", "evaluations"), [(6, 30), (T, 8)])
def test_ddim_makes_the_data_again_from_it(name, spacing, steps, evaluations):
    # From pure noise, too, where flow ends: nothing would move there if the noise were held still.
    assert round_trip_error(levels(name, steps, spacing=spacing), evaluations) < 1e-6


@for_each_schedule
def test_more_evaluations_come_nearer_and_one_does_not_arrive(name):
    errors = [round_trip_error(levels(name), count) for count in (1, 3, 9, 27)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05
    assert errors[2] < 1e-6


def test_the_network_is_asked_from_the_least_noisy_timestep_up():
    asked = []

    def predict(x_t, t):
        asked.append(t)
        return x_t

    invert(draw(2, 6), predict, 2, levels(steps=3))
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


def test_no_evaluation_is_refused():
    with pytest.raises(AssertionError, match="evaluations must be at least 1"):
        invert(draw(2, 6), evaluations=0)
