import inspect

import pytest
import torch
from torch.testing import assert_close

from unclip.diffusion.guidance import predict_x_start
from unclip.diffusion.samplers import SAMPLERS, Sampler, sample_ddim, sample_ddpm, sample_dpmpp_2m
from unclip.diffusion.schedules import SCHEDULES, make_schedule, sampling_timesteps

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


def network(x_t, t):
    """Some smooth function of x_t and time, row by row."""
    return torch.tanh(x_t.flip(1) + t[:, None] / T)


def sample(sampler, x_t, steps=10, predict=network, generators=None, **options):
    """Samples with T timesteps; row i draws its noise from generators[i]."""
    generators = generators or [seeded(100 + i) for i in range(len(x_t))]
    schedule = make_schedule("cosine", T, 0.008)

    def draw_noise(x_t):
        rows = [torch.randn(x_t.shape[1:], generator=g, dtype=x_t.dtype) for g in generators]
        return torch.stack(rows)

    timesteps = sampling_timesteps(T, steps)
    return sampler(predict, x_t, schedule, timesteps, draw_noise=draw_noise, **options)


def ideal_predict(schedule, mean, std):
    """The best possible pred_x_start for data from N(mean, std²): E[x_start | x_t]."""

    def predict(x_t, t):
        a = schedule.alphas_cumprod[t].view(-1, *[1] * (x_t.ndim - 1)).to(x_t.dtype)
        gain = std**2 * a.sqrt() / (std**2 * a + 1 - a)
        return mean + gain * (x_t - a.sqrt() * mean)

    return predict


def sampled_mean_and_std(sampler, num_timesteps, steps, mean, std, eta=0.0):
    """The exact mean and standard deviation of what a sampler makes of Gaussian data.

    With the ideal prediction a sample is an affine function of the independent standard normal
    numbers drawn for it. Row 0 puts 0 for all of them: the mean. Row k puts 1 for the k-th only:
    its coefficient. No sampling error is left.
    """
    schedule = make_schedule("cosine", num_timesteps, 0.008)
    drawn = iter(torch.eye(steps + 1, dtype=torch.float64)[:, 1:].T.unsqueeze(-1))
    x_start = sampler(
        ideal_predict(schedule, mean, std),
        next(drawn),
        schedule,
        sampling_timesteps(num_timesteps, steps),
        eta=eta,
        draw_noise=lambda x_t: next(drawn),
    ).flatten()
    return x_start[0].item(), (x_start[1:] - x_start[0]).square().sum().sqrt().item()


@pytest.mark.parametrize(("steps", "tolerance"), [(1000, 0.005), (50, 0.07)])
@for_each_sampler_and_eta
def test_gaussian_data_come_back_with_their_mean_and_spread(sampler, eta, steps, tolerance):
    mean, std = sampled_mean_and_std(sampler, 1000, steps, 0.3, 0.5, eta)
    assert mean == pytest.approx(0.3, abs=1e-4)
    assert std == pytest.approx(0.5, rel=tolerance)


@for_each_sampler_and_eta
def test_data_beyond_one_come_back_unclamped(sampler, eta):
    mean, std = sampled_mean_and_std(sampler, 1000, 1000, 2.1, 0.1, eta)
    assert mean == pytest.approx(2.1, abs=1e-4)
    assert std == pytest.approx(0.1, rel=0.03)


def test_the_second_order_of_dpmpp_2m_beats_ddim_tenfold_at_fifty_steps():
    _, first_order = sampled_mean_and_std(sample_ddim, 1000, 50, 0.3, 0.5)
    _, second_order = sampled_mean_and_std(sample_dpmpp_2m, 1000, 50, 0.3, 0.5)
    assert abs(second_order - 0.5) < abs(first_order - 0.5) / 10


@for_each_sampler
def test_x_t_may_leave_the_range_that_the_prediction_is_clipped_to(sampler):
    schedule = make_schedule("cosine", T, 0.008)
    low, high = torch.tensor(-0.3), torch.tensor(0.4)
    predict = predict_x_start(network, schedule, "x_start", (low, high))
    steps = []
    sample(sampler, draw(4, 6), predict=predict, callback=lambda *step: steps.append(step))
    assert max(x_t.max() for _, _, x_t, _ in steps[1:]) > 1
    assert min(x_t.min() for _, _, x_t, _ in steps[1:]) < -1
    assert all(pred.min() >= low and pred.max() <= high for _, _, _, pred in steps)


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
def test_the_result_is_exactly_the_last_prediction(sampler, eta):
    steps, x_t = [], draw(4, 6, dtype=torch.float32)
    x_start = sample(sampler, x_t, eta=eta, callback=lambda *step: steps.append(step))
    assert torch.equal(x_start, steps[-1][-1])


@for_each_sampler
def test_the_callback_sees_every_step(sampler):
    x_t, steps = draw(2, 6), []
    sample(sampler, x_t, steps=4, callback=lambda *step: steps.append(step))
    assert [(i, t) for i, t, _, _ in steps] == [(0, 59), (1, 44), (2, 29), (3, 14)]
    assert torch.equal(steps[0][2], x_t)
    for _, t, x_t, pred_x_start in steps:
        assert torch.equal(pred_x_start, network(x_t, torch.full((2,), t)))


@for_each_sampler
def test_predict_is_called_once_a_step_with_one_timestep_a_row(sampler):
    calls = []

    def predict(x_t, t):
        calls.append(t)
        return x_t

    sample(sampler, draw(3, 2, 4, 4), steps=2, predict=predict)
    assert [t.tolist() for t in calls] == [[59, 59, 59], [29, 29, 29]]
    assert all(t.dtype == torch.int64 for t in calls)


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

    schedule, timesteps = make_schedule("cosine", T, 0.008), sampling_timesteps(T, 10)
    sampler(network, draw(2, 6), schedule, timesteps, eta=eta, draw_noise=draw_noise)
    assert len(calls) == draws


@pytest.mark.parametrize(("sampler", "eta"), [(sample_ddpm, 0.0), (sample_ddim, 0.5)])
def test_noise_never_comes_from_the_global_generator(sampler, eta):
    schedule, timesteps = make_schedule("cosine", T, 0.008), sampling_timesteps(T, 10)
    with pytest.raises(AssertionError, match="needs draw_noise"):
        sampler(network, draw(2, 6), schedule, timesteps, eta=eta)


@for_each_sampler
@pytest.mark.parametrize("num_timesteps", [1, 2, 5, 10])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_process_of_few_timesteps_can_be_sampled(name, num_timesteps, sampler):
    schedule = make_schedule(name, num_timesteps, 0.008)
    mean = draw(2, 6)
    for steps in range(1, num_timesteps + 1):
        x_start = sampler(
            lambda x_t, t: mean,
            draw(2, 6, seed=1),
            schedule,
            sampling_timesteps(num_timesteps, steps),
            draw_noise=torch.zeros_like,
        )
        assert torch.equal(x_start, mean)


@for_each_sampler
def test_float32_stays_float32_and_the_given_noise_untouched(sampler):
    x_t = draw(2, 6, dtype=torch.float32)
    given = x_t.clone()
    assert sample(sampler, x_t).dtype == torch.float32
    assert torch.equal(x_t, given)


@for_each_sampler
def test_no_gradients_are_recorded(sampler):
    assert not sample(sampler, draw(2, 6).requires_grad_()).requires_grad


@for_each_sampler_and_eta
def test_nothing_is_read_back_from_the_device(sampler, eta):
    # A meta tensor has no values: whatever would make a GPU wait for the host raises there.
    schedule, timesteps = make_schedule("cosine", T, 0.008), sampling_timesteps(T, 10)
    predict = predict_x_start(lambda x_t, t: x_t * t[:, None], schedule, "v", None)
    x_t = torch.empty(2, 6, device="meta")
    sampler(predict, x_t, schedule, timesteps, eta=eta, draw_noise=torch.zeros_like)


@for_each_sampler
@pytest.mark.parametrize("timesteps", [[5, 5], [3, 5], [5, -1], []])
def test_timesteps_that_do_not_descend_are_refused(sampler, timesteps):
    schedule, timesteps = make_schedule("cosine", T, 0.008), torch.tensor(timesteps)
    with pytest.raises(AssertionError, match="timesteps"):
        sampler(network, draw(2, 6), schedule, timesteps.long())


def test_all_samplers_have_the_signature_of_sampler():
    expected = list(inspect.signature(Sampler.__call__).parameters.values())[1:]
    for sampler in SAMPLERS.values():
        assert list(inspect.signature(sampler).parameters.values()) == expected
