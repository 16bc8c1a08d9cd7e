import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from scipy.special import expit, logit
from scipy.stats import norm
from torch.testing import assert_close

import unclip.diffusion.process
from unclip.core.seeding import generator
from unclip.diffusion.process import PREDICTION_TYPES, TIMESTEP_DENSITIES, Diffusion
from unclip.diffusion.schedules import SCHEDULES, make_betas

SHAPES = [(6,), (3, 4, 4)]
for_each_density = pytest.mark.parametrize("density", TIMESTEP_DENSITIES)
for_each_type = pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)


def process(num_timesteps=100, prediction_type="v", schedule="cosine", density="uniform"):
    return Diffusion(num_timesteps, schedule, 0.008, prediction_type, density)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def every_timestep(num_timesteps, shape, dtype=torch.float64):
    """x_start, t and noise with one row for each timestep."""
    x_start = draw(num_timesteps, *shape, seed=1, dtype=dtype)
    noise = draw(num_timesteps, *shape, seed=2, dtype=dtype)
    return x_start, torch.arange(num_timesteps), noise


def signal(t: int) -> float:
    """What is left of the variance at t of 100, from Nichol and Dhariwal's equation 17 itself."""

    def f(time: float) -> float:
        return math.cos((time / 100 + 0.008) / 1.008 * math.pi / 2) ** 2

    return f(t + 1) / f(0)


# x_t and the target


@pytest.mark.parametrize("shape", SHAPES)
def test_x_t_and_the_v_target_are_those_of_the_papers(shape):
    x_start, t, noise = every_timestep(100, shape)
    x_t, v = process().q_sample(x_start, t, noise), process().target(x_start, t, noise)
    for row in range(99):  # the last beta is capped, which eq. 17 knows nothing of
        alpha, sigma = math.sqrt(signal(row)), math.sqrt(1 - signal(row))
        x, eps = x_start[row].numpy(), noise[row].numpy()
        np.testing.assert_allclose(x_t[row], alpha * x + sigma * eps, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(v[row], alpha * eps - sigma * x, rtol=1e-9, atol=1e-12)


def test_x_t_and_the_v_target_are_those_of_diffusers():
    linear = process(1000, schedule="linear")
    scheduler = DDPMScheduler(trained_betas=make_betas("linear", 1000, 0.008).numpy())
    x_start, t, noise = every_timestep(1000, (3, 2, 2), dtype=torch.float32)
    x_t, v = linear.q_sample(x_start, t, noise), linear.target(x_start, t, noise)
    assert_close(x_t, scheduler.add_noise(x_start, noise, t), atol=1e-4, rtol=0)
    assert_close(v, scheduler.get_velocity(x_start, noise, t), atol=1e-4, rtol=0)


def test_x_t_and_all_targets_on_the_straight_way_are_those_of_the_papers():
    x_start, t, noise = every_timestep(100, (3, 2, 2))
    sigma = (np.arange(100) / 100 + 0.01)[:, None, None, None]
    x, eps = x_start.numpy(), noise.numpy()
    x_t = process(schedule="flow").q_sample(x_start, t, noise)
    np.testing.assert_allclose(x_t, (1 - sigma) * x + sigma * eps, rtol=1e-9, atol=1e-12)
    theirs = FlowMatchEulerDiscreteScheduler(100)  # its timesteps are floats near t + 1
    assert_close(
        x_t, theirs.scale_noise(x_start, theirs.timesteps.flip(0), noise), atol=1e-6, rtol=0
    )
    targets = {"flow": eps - x, "v": (1 - sigma) * eps - sigma * x, "x_start": x, "eps": eps}
    for prediction_type, target in targets.items():
        found = process(100, prediction_type, "flow").target(x_start, t, noise)
        np.testing.assert_allclose(found, target, rtol=1e-9, atol=1e-12)


def test_the_eps_and_x_start_targets_are_the_noise_and_the_data():
    x_start, t, noise = every_timestep(10, (6,))
    assert process(10, "eps").target(x_start, t, noise) is noise
    assert process(10, "x_start").target(x_start, t, noise) is x_start


# pred_x_start


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_timesteps", [1, 2, 5, 10, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
@for_each_type
def test_a_perfect_output_gives_back_the_data_at_every_timestep(
    prediction_type, name, num_timesteps, shape
):
    diffusion = process(num_timesteps, prediction_type, name)
    x_start, t, noise = every_timestep(num_timesteps, shape)
    x_t, target = diffusion.q_sample(x_start, t, noise), diffusion.target(x_start, t, noise)
    pred_x_start = diffusion.to_x_start(target, x_t, t)
    # Dividing by alpha magnifies rounding: it is 4e-9 at the worst of these timesteps, and 0 where
    # flow ends: there the noise says nothing.
    alpha, _ = diffusion.alpha_and_sigma
    tolerance = 1e-14 / (alpha if prediction_type == "eps" else torch.ones_like(alpha))
    error = (pred_x_start - x_start).flatten(1).abs().amax(1)
    assert torch.all(error < tolerance)


@pytest.mark.parametrize(
    ("prediction_type", "tolerance"), [("flow", 1e-5), ("v", 1e-5), ("x_start", 0), ("eps", 0.1)]
)
def test_float32_is_enough_for_the_round_trip(prediction_type, tolerance):
    diffusion = process(1000, prediction_type)
    x_start, t, noise = every_timestep(1000, (6,), dtype=torch.float32)
    x_t, target = diffusion.q_sample(x_start, t, noise), diffusion.target(x_start, t, noise)
    assert_close(diffusion.to_x_start(target, x_t, t), x_start, atol=tolerance, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@for_each_type
def test_the_data_stay_finite_where_only_noise_or_only_data_is_left(
    monkeypatch, prediction_type, alpha
):
    weights = torch.tensor([alpha] * 2), torch.tensor([1 - alpha] * 2)
    monkeypatch.setattr(unclip.diffusion.process, "alpha_and_sigma", lambda *_: weights)
    diffusion = process(2, prediction_type, schedule=f"all of {alpha}")
    x_t, model_output = draw(2, 6, dtype=torch.float32), draw(2, 6, seed=1, dtype=torch.float32)
    pred_x_start = diffusion.to_x_start(model_output, x_t, torch.tensor([0, 1]))
    assert torch.all(torch.isfinite(pred_x_start))


# Both


@for_each_type
@pytest.mark.parametrize("function", ["target", "to_x_start"])
def test_row_i_is_the_same_alone_as_in_a_batch_of_eight(function, prediction_type):
    diffusion = process(1000, prediction_type)
    x, other, t = draw(8, 6), draw(8, 6, seed=1), torch.tensor([0, 999, 3, 500, 7, 998, 20, 1])

    def call(rows):
        if function == "target":
            return diffusion.target(x[rows], t[rows], other[rows])
        return diffusion.to_x_start(other[rows], x[rows], t[rows])

    together = call(slice(None))
    assert all(torch.equal(call(slice(i, i + 1))[0], together[i]) for i in range(8))


def test_an_unknown_prediction_type_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"prediction_type: 'epsilon'.*flow.*v.*x_start.*eps"):
        process(10, "epsilon")
    with pytest.raises(ValueError, match=r"timestep_density: 'normal'.*uniform.*logit_normal"):
        process(density="normal")


def test_a_process_is_made_from_a_section_of_params():
    values = {"num_timesteps": 7, "schedule": "linear", "schedule_offset": 0.1}
    values["prediction_type"] = "v"
    section = SimpleNamespace(**values, timestep_density="logit_normal", lr=1.0)
    assert Diffusion.of(section) == Diffusion(7, "linear", 0.1, "v", "logit_normal")
    assert Diffusion(**values).timestep_density == "uniform"  # as in checkpoints without it
    assert Diffusion.of(section).num_timesteps == 7


def test_noise_of_another_shape_is_refused_rather_than_broadcast():
    with pytest.raises(AssertionError, match=r"\(2, 6\), \(2, 1\)"):
        process().q_sample(draw(2, 6), torch.tensor([0, 1]), draw(2, 1))


def test_one_timestep_for_a_whole_batch_is_refused_rather_than_broadcast():
    with pytest.raises(AssertionError, match=r"t \(1,\)"):
        process().q_sample(draw(2, 6), torch.tensor([0]), draw(2, 6))


def test_float32_coefficients_are_those_of_float64_rounded_once():
    # In float32 1 − a keeps four digits at t = 0.
    linear = process(1000, schedule="linear")
    zeros, ones, t = torch.zeros(1000, 1), torch.ones(1000, 1), torch.arange(1000)
    sigma = linear.q_sample(zeros, t, ones)[:, 0].double()
    assert_close(sigma, linear.alpha_and_sigma[1], rtol=1e-7, atol=0)


@for_each_type
def test_nothing_is_promoted_to_float64(prediction_type):
    diffusion = process(10, prediction_type)
    x, t = draw(2, 6, dtype=torch.float32), torch.tensor([0, 9])
    for result in (
        diffusion.q_sample(x, t, x),
        diffusion.target(x, t, x),
        diffusion.to_x_start(x, x, t),
    ):
        assert result.dtype == torch.float32


@for_each_type
def test_nothing_is_read_back_from_the_device(prediction_type):
    # A meta tensor has no values: whatever would make a GPU wait for the host raises there.
    diffusion = process(10, prediction_type)
    x, t = torch.empty(2, 6, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
    diffusion.loss(lambda x_t, t: x_t, x, t, x)
    diffusion.to_x_start(x, x, t)


def test_sampling_in_inference_mode_first_does_not_spoil_training_after():
    diffusion = process(11)  # of a length that no other test has left in the cache
    x, t = draw(2, 6), torch.tensor([0, 9])
    with torch.inference_mode():
        diffusion.to_x_start(x, x, t)
    model_output = x.clone().requires_grad_()
    diffusion.to_x_start(model_output, x, t).sum().backward()
    expected = -diffusion.alpha_and_sigma[1][t][:, None].expand(2, 6)
    assert_close(model_output.grad, expected)


# The loss


def naive_loss(prediction_type, x_start, t, noise, answer):
    """The same in numpy, number by number."""
    total = []
    for row in range(len(x_start)):
        a = signal(int(t[row]))
        for x, n in zip(x_start[row].ravel(), noise[row].ravel(), strict=True):
            x_t = math.sqrt(a) * x + math.sqrt(1 - a) * n
            v = math.sqrt(a) * n - math.sqrt(1 - a) * x
            targets = {"eps": n, "x_start": x, "v": v, "flow": n - x}
            total.append((answer(x_t, int(t[row])) - targets[prediction_type]) ** 2)
    return np.mean(total)


@pytest.mark.parametrize("shape", [(5, 7), (3, 2, 4, 4)])
@for_each_type
def test_the_loss_equals_a_naive_loop(prediction_type, shape):
    draws = np.random.default_rng(0)
    x_start, noise = draws.normal(size=shape), draws.normal(size=shape)
    t = draws.integers(0, 90, size=shape[0])
    expected = naive_loss(prediction_type, x_start, t, noise, lambda x_t, t: 0.3 * x_t + 0.01 * t)

    def denoise(x_t, t):
        return 0.3 * x_t + 0.01 * t.view(-1, *[1] * (x_t.ndim - 1))

    data = (torch.from_numpy(each) for each in (x_start, t, noise))
    loss = process(100, prediction_type).loss(denoise, *data)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_half_precision_output_is_compared_in_full_precision():
    x_start, t = torch.full((4, 8), 3.0), torch.tensor([0, 1, 2, 3])
    wrong = torch.full((4, 8), 3.0 + 1 / 64).bfloat16()
    loss = process(100, "x_start").loss(lambda x_t, t: wrong, x_start, t, torch.zeros(4, 8))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(1 / 64**2)


def test_an_output_of_another_shape_is_refused_rather_than_broadcast():
    x_start, t = torch.zeros(4, 8), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(AssertionError, match="1"):
        process().loss(lambda x_t, t: x_t[:, :1], x_start, t, x_start)


def test_the_gradient_reaches_the_network():
    weight = torch.ones((), requires_grad=True)
    x_start, t = draw(4, 8), torch.zeros(4, dtype=torch.int64)
    process().loss(lambda x_t, t: weight * x_t, x_start, t, draw(4, 8, seed=1)).backward()
    assert weight.grad is not None
    assert weight.grad != 0


# Timesteps


@pytest.mark.parametrize(("batch_size", "num_timesteps"), [(1, 2), (7, 10), (32, 1000), (300, 100)])
@for_each_density
def test_every_timestep_is_a_valid_index(density, batch_size, num_timesteps):
    diffusion = process(num_timesteps, density=density)
    for index in range(50):
        t = diffusion.draw_timesteps(batch_size, generator(0, "t", index))
        assert (t.shape, t.dtype) == ((batch_size,), torch.int64)
        assert int(t.min()) >= 0
        assert int(t.max()) < num_timesteps


@pytest.mark.parametrize("num_timesteps", [2, 999, 1000, 1001, 2**16 + 1, 100_000])
@for_each_density
def test_the_smallest_and_the_largest_draw_stay_in_range(monkeypatch, density, num_timesteps):
    largest = 1 - 2**-53
    ends = {"uniform": largest, "logit_normal": expit(norm.ppf(largest))}
    for draw, expected in ((0.0, 0), (largest, int(num_timesteps * ends[density]))):
        offset = torch.tensor(draw, dtype=torch.float64)
        monkeypatch.setattr(torch, "rand", lambda *_, offset=offset, **__: offset)
        t = process(num_timesteps, density=density).draw_timesteps(1, torch.Generator())
        assert int(t) == expected < num_timesteps


def share_below(time, density):
    """How often t / T is less than `time`."""
    return time if density == "uniform" else norm.cdf(logit(time))


@for_each_density
def test_each_batch_is_spread_over_equal_quantiles(density):
    for index in range(50):
        diffusion = process(100_000, density=density)
        t = diffusion.draw_timesteps(25, generator(0, "t", index)).sort().values.numpy()
        offsets = 25 * share_below((t + 0.5) / 100_000, density) - np.arange(25)
        assert -0.01 < offsets.min() <= offsets.max() < min(1.01, offsets.min() + 0.01)


@for_each_density
def test_each_row_has_the_density(density):
    ten = process(10, density=density)
    draws = torch.stack([ten.draw_timesteps(4, generator(0, "t", i)) for i in range(4000)])
    shares = np.diff([0, *share_below(np.arange(1, 10) / 10, density), 1])
    deviations = np.sqrt(4000 * shares * (1 - shares))
    for row in draws.T:
        counts = torch.bincount(row, minlength=10).numpy()
        assert np.all(np.abs(counts - 4000 * shares) < 5 * deviations)


def test_timesteps_are_a_function_of_the_generator():
    first, second, other = (
        process(1000).draw_timesteps(8, generator(0, "t", index)) for index in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
