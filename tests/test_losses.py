import math

import numpy as np
import pytest
import torch

from unclip.core.seeding import generator
from unclip.diffusion.losses import diffusion_loss, draw_timesteps
from unclip.diffusion.schedules import make_schedule

SCHEDULE = make_schedule("cosine", 100, 0.008)


def signal(t: int) -> float:
    """What is left of the signal's variance, from Nichol and Dhariwal's equation 17 itself."""

    def f(time: float) -> float:
        return math.cos((time / 100 + 0.008) / 1.008 * math.pi / 2) ** 2

    return f(t + 1) / f(0)


def naive_loss(prediction_type, x_start, t, noise, answer):
    """The same in numpy, number by number."""
    total = []
    for row in range(len(x_start)):
        a = signal(int(t[row]))
        for x, n in zip(x_start[row].ravel(), noise[row].ravel(), strict=True):
            x_t = math.sqrt(a) * x + math.sqrt(1 - a) * n
            targets = {"eps": n, "x_start": x, "v": math.sqrt(a) * n - math.sqrt(1 - a) * x}
            total.append((answer(x_t, int(t[row])) - targets[prediction_type]) ** 2)
    return np.mean(total)


@pytest.mark.parametrize("shape", [(5, 7), (3, 2, 4, 4)])
@pytest.mark.parametrize("prediction_type", ["eps", "x_start", "v"])
def test_the_loss_equals_a_naive_loop(prediction_type, shape):
    draws = np.random.default_rng(0)
    x_start, noise = draws.normal(size=shape), draws.normal(size=shape)
    t = draws.integers(0, 90, size=shape[0])
    expected = naive_loss(prediction_type, x_start, t, noise, lambda x_t, t: 0.3 * x_t + 0.01 * t)

    def denoise(x_t, t):
        return 0.3 * x_t + 0.01 * t.view(-1, *[1] * (x_t.ndim - 1))

    data = (torch.from_numpy(x_start), torch.from_numpy(t), torch.from_numpy(noise))
    loss = diffusion_loss(denoise, SCHEDULE, prediction_type, *data)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_half_precision_output_is_compared_in_full_precision():
    x_start, t = torch.full((4, 8), 3.0), torch.tensor([0, 1, 2, 3])
    wrong = torch.full((4, 8), 3.0 + 1 / 64)
    loss = diffusion_loss(
        lambda x_t, t: wrong.bfloat16(), SCHEDULE, "x_start", x_start, t, torch.zeros(4, 8)
    )
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(1 / 64**2)


def test_an_output_of_another_shape_is_refused_rather_than_broadcast():
    x_start, t = torch.zeros(4, 8), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(AssertionError, match="1"):
        diffusion_loss(lambda x_t, t: x_t[:, :1], SCHEDULE, "eps", x_start, t, x_start)


def test_the_gradient_reaches_the_network():
    weight = torch.ones((), requires_grad=True)
    x_start, t = torch.randn(4, 8), torch.zeros(4, dtype=torch.int64)
    diffusion_loss(lambda x_t, t: weight * x_t, SCHEDULE, "eps", x_start, t, x_start).backward()
    assert weight.grad is not None
    assert weight.grad != 0


@pytest.mark.parametrize(("batch_size", "num_timesteps"), [(1, 2), (7, 10), (32, 1000), (300, 100)])
def test_every_timestep_is_a_valid_index(batch_size, num_timesteps):
    for index in range(50):
        t = draw_timesteps(batch_size, num_timesteps, generator(0, "t", index))
        assert (t.shape, t.dtype) == ((batch_size,), torch.int64)
        assert int(t.min()) >= 0
        assert int(t.max()) < num_timesteps


@pytest.mark.parametrize("num_timesteps", [2, 999, 1000, 1001, 2**16 + 1, 100_000])
def test_the_largest_draw_stays_in_range(monkeypatch, num_timesteps):
    largest = torch.tensor(1.0, dtype=torch.float64) - 2**-53
    monkeypatch.setattr(torch, "rand", lambda *_, **__: largest)
    assert int(draw_timesteps(1, num_timesteps, torch.Generator())) == num_timesteps - 1


def test_each_batch_has_one_timestep_in_each_equal_part():
    for index in range(50):
        t = draw_timesteps(25, 1000, generator(0, "t", index))
        assert torch.equal((t // 40).sort().values, torch.arange(25))


def test_each_row_is_uniform_over_the_timesteps():
    draws = torch.stack([draw_timesteps(4, 10, generator(0, "t", i)) for i in range(4000)])
    for row in draws.T:
        counts = torch.bincount(row, minlength=10)
        # 400 expected, standard deviation 19
        assert (counts - 400).abs().max() < 5 * 19


def test_timesteps_are_a_function_of_the_generator():
    first, second, other = (
        draw_timesteps(8, 1000, generator(0, "t", index)) for index in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
