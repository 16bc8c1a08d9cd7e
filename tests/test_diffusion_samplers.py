import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from dag import REPO
from torch.testing import assert_close

from unclip.diffusion.guidance import predict_x_start
from unclip.diffusion.process import Diffusion
from unclip.diffusion.reverse import final
from unclip.diffusion.samplers import (
    SAMPLERS,
    sample_ddim,
    sample_ddpm,
    sample_dpmpp_2m,
)
from unclip.diffusion.schedules import SCHEDULES, NoiseLevel

T = 60

for_each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
for_each_sampler_and_eta = pytest.mark.parametrize(
    ("sampler", "eta"),
    [(sample_ddpm, 0.0), (sample_ddim, 0.0), (sample_ddim, 0.5), (sample_dpmpp_2m, 0.0)],
    ids=["ddpm", "ddim", "ddim-half", "dpmpp_2m"],
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def levels(name="cosine", steps=10, num_timesteps=T, spacing="uniform"):
    return Diffusion(num_timesteps, name, 0.008, "v").levels(steps, spacing)


def network(x_t, t):
    """Some smooth function of x_t and time, row by row."""
    return torch.tanh(x_t.flip(1) + t / T)


def steps_of(sampler, x_t, steps=10, predict=network, eta=0.0, generators=None):
    """The steps that a sampler takes of T timesteps; row i draws its noise from generators[i]."""
    generators = generators or [seeded(100 + i) for i in range(len(x_t))]

    def draw_noise(x_t):
        rows = [torch.randn(x_t.shape[1:], generator=g, dtype=x_t.dtype) for g in generators]
        return torch.stack(rows)

    return list(sampler(predict, x_t, levels(steps=steps), eta=eta, draw_noise=draw_noise))


def sample(sampler, x_t, **options):
    return final(steps_of(sampler, x_t, **options))


def ideal_predict(levels, mean, std):
    """The best possible pred_x_start for data from N(mean, std²): E[x_start | x_t]."""
    weights = {t: (alpha, sigma) for t, alpha, sigma in levels}

    def predict(x_t, t):
        alpha, sigma = weights[t]
        gain = std**2 * alpha / ((std * alpha) ** 2 + sigma**2)
        return mean + gain * (x_t - alpha * mean)

    return predict


def sampled_mean_and_std(sampler, steps, mean, std, eta=0.0, name="cosine"):
    """The exact mean and standard deviation of what a sampler makes of Gaussian data.

    With the ideal prediction a sample is an affine function of the independent standard normal
    numbers drawn for it. Row 0 puts 0 for all of them: the mean. Row k puts 1 for the k-th only:
    its coefficient. No sampling error is left.
    """
    visited = levels(name, steps, 1000)
    drawn = iter(torch.eye(steps + 1, dtype=torch.float64)[:, 1:].T.unsqueeze(-1))
    taken = sampler(
        ideal_predict(visited, mean, std),
        next(drawn),
        visited,
        eta=eta,
        draw_noise=lambda x_t: next(drawn),
    )
    x_start = final(taken).flatten()
    return x_start[0].item(), (x_start[1:] - x_start[0]).square().sum().sqrt().item()


@pytest.mark.parametrize(("steps", "tolerance"), [(1000, 0.005), (50, 0.07)])
@for_each_sampler_and_eta
@pytest.mark.parametrize("name", ["cosine", "flow"])
def test_gaussian_data_come_back_with_their_mean_and_spread(name, sampler, eta, steps, tolerance):
    mean, std = sampled_mean_and_std(sampler, steps, 0.3, 0.5, eta, name)
    assert mean == pytest.approx(0.3, abs=1e-4)
    assert std == pytest.approx(0.5, rel=tolerance)


@for_each_sampler_and_eta
def test_data_beyond_one_come_back_unclamped(sampler, eta):
    mean, std = sampled_mean_and_std(sampler, 1000, 2.1, 0.1, eta)
    assert mean == pytest.approx(2.1, abs=1e-4)
    assert std == pytest.approx(0.1, rel=0.03)


def test_the_second_order_of_dpmpp_2m_beats_ddim_tenfold_at_fifty_steps():
    _, first_order = sampled_mean_and_std(sample_ddim, 50, 0.3, 0.5)
    _, second_order = sampled_mean_and_std(sample_dpmpp_2m, 50, 0.3, 0.5)
    assert abs(second_order - 0.5) < abs(first_order - 0.5) / 10


@for_each_sampler
def test_x_t_may_leave_the_range_that_the_prediction_is_clipped_to(sampler):
    low, high = torch.tensor(-0.3), torch.tensor(0.4)
    diffusion = Diffusion(T, "cosine", 0.008, "x_start")
    predict = predict_x_start(lambda x_t, t: network(x_t, t[:, None]), diffusion, (low, high))
    steps = steps_of(sampler, draw(4, 6), predict=predict)
    assert max(step.x_t.max() for step in steps[1:]) > 1
    assert min(step.x_t.min() for step in steps[1:]) < -1
    assert all(s.pred_x_start.min() >= low and s.pred_x_start.max() <= high for s in steps)


def posterior(now, to):
    """Weights of x_start and x_t in the mean of q(x_to | x_now, x_start), and its variance.

    Conditioned by the covariance matrix of (x_to, x_now), where x_now is x_to, scaled, and noise.
    """
    ratio = now.alpha / to.alpha
    shared = ratio * to.sigma**2
    covariance = np.array([[to.sigma**2, shared], [shared, now.sigma**2]])
    gain = covariance[0, 1] / covariance[1, 1]
    variance = np.linalg.det(covariance) / covariance[1, 1]
    return to.alpha - gain * now.alpha, gain, variance


@pytest.mark.parametrize("spacing", ["uniform", "karras"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_stochastic_step_is_drawn_from_the_posterior(name, spacing):
    x_start, x_t, noise = draw(3, 4)[:, None]

    def step(sampler, now, to, eta):
        visited = [now, to, NoiseLevel(-1, 1.0, 0.0)]
        taken = sampler(lambda *_: x_start, x_t, visited, eta=eta, draw_noise=lambda _: noise)
        return list(taken)[1].x_t

    for now, to in pairwise(levels(name, 16, spacing=spacing)[:-1]):
        from_start, from_x_t, variance = posterior(now, to)
        expected = from_start * x_start + from_x_t * x_t + variance**0.5 * noise
        assert_close(step(sample_ddpm, now, to, 0.0), expected)
        # Of any eta: x_to has the noise of its level, of which eta² of the variance is new.
        for eta in (0.0, 0.4, 1.0):
            new = eta * variance**0.5
            old = (to.sigma**2 - new**2) ** 0.5 * (x_t - now.alpha * x_start) / now.sigma
            assert_close(step(sample_ddim, now, to, eta), to.alpha * x_start + old + new * noise)


def test_ddim_with_eta_one_is_ddpm():
    x_t = draw(4, 6)
    assert_close(sample(sample_ddim, x_t, eta=1.0), sample(sample_ddpm, x_t))


@for_each_sampler_and_eta
def test_picture_i_is_the_same_alone_as_in_a_batch_of_eight(sampler, eta):
    x_t = draw(8, 6, dtype=torch.float32)
    together = sample(sampler, x_t, eta=eta)
    for i in range(8):
        alone = sample(sampler, x_t[i : i + 1], generators=[seeded(100 + i)], eta=eta)
        assert_close(alone[0], together[i])


@for_each_sampler_and_eta
def test_every_step_tells_where_it_starts_and_what_is_predicted_there(sampler, eta):
    x_t, asked = draw(3, 2, 4, 4), []

    def predict(x_t, t):
        asked.append((t, x_t))
        return network(x_t, t)

    steps = steps_of(sampler, x_t, steps=4, predict=predict, eta=eta)
    assert [step.t for step in steps] == [59, 44, 29, 14] == [t for t, _ in asked]
    assert torch.equal(steps[0].x_t, x_t)
    for step, (_, given) in zip(steps, asked, strict=True):
        assert torch.equal(step.x_t, given)
        assert torch.equal(step.pred_x_start, network(step.x_t, step.t))


@pytest.mark.parametrize(
    ("sampler", "eta", "draws"),
    [
        (sample_ddpm, 0.0, 9),
        (sample_ddim, 0.5, 9),
        (sample_ddim, 0.0, 0),
        (sample_dpmpp_2m, 1.0, 0),
    ],
)
def test_noise_is_drawn_at_every_step_but_the_last_or_never(sampler, eta, draws):
    calls = []

    def draw_noise(x_t):
        calls.append(x_t)
        return torch.zeros_like(x_t)

    final(sampler(network, draw(2, 6), levels(), eta=eta, draw_noise=draw_noise))
    assert len(calls) == draws


@for_each_sampler
@pytest.mark.parametrize("num_timesteps", [1, 2, 5, 10])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("spacing", ["uniform", "karras"])
def test_a_process_of_few_timesteps_can_be_sampled(spacing, name, num_timesteps, sampler):
    mean = draw(2, 6)
    for steps in range(1, num_timesteps + 1):
        taken = sampler(
            lambda x_t, t: mean,
            draw(2, 6, seed=1),
            levels(name, steps, num_timesteps, spacing),
            eta=0.0,
            draw_noise=torch.zeros_like,
        )
        assert torch.equal(final(taken), mean)


@for_each_sampler
def test_float32_stays_float32_and_the_given_noise_untouched(sampler):
    x_t = draw(2, 6, dtype=torch.float32)
    given = x_t.clone()
    assert sample(sampler, x_t).dtype == torch.float32
    assert torch.equal(x_t, given)


@for_each_sampler_and_eta
def test_nothing_is_read_back_from_the_device(sampler, eta):
    # A meta tensor has no values: whatever would make a GPU wait for the host raises there.
    diffusion = Diffusion(T, "cosine", 0.008, "v")
    predict = predict_x_start(lambda x_t, t: x_t * t[:, None], diffusion, None)
    x_t = torch.empty(2, 6, device="meta")
    final(sampler(predict, x_t, levels(), eta=eta, draw_noise=torch.zeros_like))


def test_their_names_are_known_without_importing_torch():
    asks = "import sys, unclip.diffusion.samplers as s; print(*s.SAMPLERS, 'torch' in sys.modules)"
    said = subprocess.check_output([sys.executable, "-c", asks], cwd=REPO, text=True)
    assert said.split() == [*SAMPLERS, "False"]
