"""Samplers: from noise at timesteps[0] to an estimate of x_start, step by step.

Each is a generator with the signature of `Sampler` that yields a `Step` for each timestep; the last
pred_x_start is the sample. In each, alpha = sqrt(a) and sigma = sqrt(1 − a) with a =
alphas_cumprod[t]; `_next` marks the timestep stepped to. Coefficients are Python floats, so a step
copies nothing to or from the device.

To add a sampler, write a function and list it in SAMPLERS. Params and the command line read the
names there without importing torch, which takes seconds.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Predict = Callable[["Tensor", int], "Tensor"]  # (x_t, t) -> pred_x_start
DrawNoise = Callable[["Tensor"], "Tensor"]  # x_t -> standard normal noise like it


class Step(NamedTuple):
    """One visited timestep.

    t: the timestep.
    x_t: (B, ...), where the step starts.
    pred_x_start: (B, ...), the prediction there.
    """

    t: int
    x_t: "Tensor"
    pred_x_start: "Tensor"


class Sampler(Protocol):
    """The signature of all samplers."""

    def __call__(
        self,
        predict: Predict,
        x_t: "Tensor",
        alphas_cumprod: "Tensor",
        timesteps: "Tensor",
        *,
        eta: float,
        draw_noise: DrawNoise,
    ) -> Iterator[Step]:
        """Yields a Step for each of S timesteps; the last pred_x_start is the sample, (B, ...).

        Args:
            predict: gives pred_x_start for (x_t, t) (see guidance.py), clipped or not; x_t is
                never clipped.
            x_t: (B, ...) standard normal noise.
            alphas_cumprod: (T,) float64, the process that the network was trained with.
            timesteps: (S,) int64, strictly descending (see `sampling_timesteps`).
            eta: 0..1, the share of the ancestral noise; only `sample_ddim` uses it, since the
                others are 1 and 0 by definition.
            draw_noise: called in each step except the last by samplers that add noise.
        """
        ...


def sample_ddpm(
    predict: Predict,
    x_t: "Tensor",
    alphas_cumprod: "Tensor",
    timesteps: "Tensor",
    *,
    eta: float,
    draw_noise: DrawNoise,
) -> Iterator[Step]:
    """Yields the steps of ancestral sampling (Ho et al. 2020, algorithm 2, eq. 6 and 7).

    Timesteps are skipped as in Nichol & Dhariwal 2021, section 4: the chain of the visited ones has
    its own betas. The noise has the posterior's standard deviation. See `Sampler`.
    """
    for t, a, a_next in visited(alphas_cumprod, timesteps):
        pred_x_start = predict(x_t, t)
        yield Step(t, x_t, pred_x_start)
        beta = 1 - a / a_next
        posterior_variance = beta * (1 - a_next) / (1 - a)
        x_t = (
            math.sqrt(a_next) * beta / (1 - a) * pred_x_start
            + math.sqrt(a / a_next) * (1 - a_next) / (1 - a) * x_t
        )
        if posterior_variance > 0:
            x_t = x_t + math.sqrt(posterior_variance) * draw_noise(x_t)


def sample_ddim(
    predict: Predict,
    x_t: "Tensor",
    alphas_cumprod: "Tensor",
    timesteps: "Tensor",
    *,
    eta: float,
    draw_noise: DrawNoise,
) -> Iterator[Step]:
    """Yields the steps of DDIM (Song et al. 2021, eq. 12 and 16); eta 1 is `sample_ddpm`.

    The direction pointing to x_t comes from pred_x_start, clipped or not. See `Sampler`.
    """
    for t, a, a_next in visited(alphas_cumprod, timesteps):
        pred_x_start = predict(x_t, t)
        yield Step(t, x_t, pred_x_start)
        pred_eps = (x_t - math.sqrt(a) * pred_x_start) / math.sqrt(1 - a)
        noise_scale = eta * math.sqrt((1 - a_next) / (1 - a)) * math.sqrt(1 - a / a_next)
        x_t = (
            math.sqrt(a_next) * pred_x_start
            + math.sqrt(max(1 - a_next - noise_scale**2, 0)) * pred_eps
        )
        if noise_scale > 0:
            x_t = x_t + noise_scale * draw_noise(x_t)


def sample_dpmpp_2m(
    predict: Predict,
    x_t: "Tensor",
    alphas_cumprod: "Tensor",
    timesteps: "Tensor",
    *,
    eta: float,
    draw_noise: DrawNoise,
) -> Iterator[Step]:
    """Yields the steps of DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", algorithm 2).

    The solver steps in lambda = log(alpha / sigma), half the log-SNR. The first step, which has no
    history, and the last, which is infinitely long, are of first order. See `Sampler`.
    """
    previous = None
    for t, a, a_next in visited(alphas_cumprod, timesteps):
        pred_x_start = predict(x_t, t)
        yield Step(t, x_t, pred_x_start)
        h = _half_log_snr(a_next) - _half_log_snr(a)
        direction = pred_x_start
        if previous is not None and a_next < 1:
            previous_x_start, previous_h = previous
            r = previous_h / h
            direction = (1 + 1 / (2 * r)) * pred_x_start - 1 / (2 * r) * previous_x_start
        sigma_ratio = math.sqrt((1 - a_next) / (1 - a))
        x_t = sigma_ratio * x_t - math.sqrt(a_next) * math.expm1(-h) * direction
        previous = pred_x_start, h


SAMPLERS: dict[str, Sampler] = {
    "dpmpp_2m": sample_dpmpp_2m,
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
}


def visited(alphas_cumprod: "Tensor", timesteps: "Tensor") -> Iterator[tuple[int, float, float]]:
    """Yields (t, alphas_cumprod[t], alphas_cumprod at the next timestep, or 1 at the last).

    A step to a = 1 would end in the last pred_x_start, whatever the sampler.
    """
    ts = timesteps.tolist()
    assert len(ts) > 0, "timesteps are empty"
    assert all(t > following for t, following in pairwise([*ts, -1])), (
        f"timesteps must descend strictly to 0 or more, got {ts}"
    )
    a = [*alphas_cumprod[timesteps.cpu()].tolist(), 1.0]
    for t, (now, following) in zip(ts, pairwise(a), strict=True):
        yield t, now, following


def _half_log_snr(a: float) -> float:
    return math.inf if a == 1 else 0.5 * math.log(a / (1 - a))
