"""Samplers: from noise to an estimate of x_start, from one level of noise to the next.

Each is a generator with the signature of `Sampler` that yields a `Step` for each level; the last
pred_x_start is the sample. They know x_t = alpha·x_start + sigma·noise for any alpha and sigma, so
they sample every schedule; `to` is the level stepped to. Coefficients are Python floats, so a step
copies nothing to or from the device.

To add a sampler, write a function and list it in SAMPLERS. Params and the command line read the
names there without importing torch, which takes seconds.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from unclip.diffusion.schedules import NoiseLevel

SPACINGS = ("uniform", "karras")  # of the visited timesteps; see `Diffusion.levels`

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
        levels: "Sequence[NoiseLevel]",
        *,
        eta: float,
        draw_noise: DrawNoise,
    ) -> Iterator[Step]:
        """Yields a Step for each of S levels; the last pred_x_start is the sample, (B, ...).

        Args:
            predict: gives pred_x_start for (x_t, t) (see guidance.py), clipped or not; x_t is
                never clipped.
            x_t: (B, ...) standard normal noise.
            levels: S + 1, each of less noise, the last the data (see `Diffusion.levels`).
            eta: 0..1, the share of the ancestral noise; only `sample_ddim` uses it, since the
                others are 1 and 0 by definition.
            draw_noise: called in each step except the last by samplers that add noise.
        """
        ...


def sample_ddpm(
    predict: Predict,
    x_t: "Tensor",
    levels: "Sequence[NoiseLevel]",
    *,
    eta: float,
    draw_noise: DrawNoise,
) -> Iterator[Step]:
    """Yields the steps of ancestral sampling (Ho et al. 2020, algorithm 2, eq. 6 and 7).

    Timesteps are skipped as in Nichol & Dhariwal 2021, section 4: the chain of the visited ones has
    its own betas. The noise has the posterior's standard deviation. See `Sampler`.
    """
    for now, to in pairwise(levels):
        pred_x_start = predict(x_t, now.t)
        yield Step(now.t, x_t, pred_x_start)
        variance = _added_variance(now, to)
        x_t = (
            to.alpha * variance / now.sigma**2 * pred_x_start
            + now.alpha / to.alpha * (to.sigma / now.sigma) ** 2 * x_t
        )
        if to.sigma > 0:
            x_t = x_t + math.sqrt(variance) * to.sigma / now.sigma * draw_noise(x_t)


def sample_ddim(
    predict: Predict,
    x_t: "Tensor",
    levels: "Sequence[NoiseLevel]",
    *,
    eta: float,
    draw_noise: DrawNoise,
) -> Iterator[Step]:
    """Yields the steps of DDIM (Song et al. 2021, eq. 12 and 16); eta 1 is `sample_ddpm`.

    The direction pointing to x_t comes from pred_x_start, clipped or not. See `Sampler`.
    """
    for now, to in pairwise(levels):
        pred_x_start = predict(x_t, now.t)
        yield Step(now.t, x_t, pred_x_start)
        pred_eps = (x_t - now.alpha * pred_x_start) / now.sigma
        noise_scale = eta * to.sigma / now.sigma * math.sqrt(_added_variance(now, to))
        kept = math.sqrt(max(to.sigma**2 - noise_scale**2, 0))
        x_t = to.alpha * pred_x_start + kept * pred_eps
        if noise_scale > 0:
            x_t = x_t + noise_scale * draw_noise(x_t)


def sample_dpmpp_2m(
    predict: Predict,
    x_t: "Tensor",
    levels: "Sequence[NoiseLevel]",
    *,
    eta: float,
    draw_noise: DrawNoise,
) -> Iterator[Step]:
    """Yields the steps of DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", algorithm 2).

    The solver steps in lambda = log(alpha / sigma), half the log-SNR. The first step, which has no
    history, and infinitely long ones, from pure noise or to the data, are of first order, as is
    the step after one from pure noise. See `Sampler`.
    """
    previous = None
    for now, to in pairwise(levels):
        pred_x_start = predict(x_t, now.t)
        yield Step(now.t, x_t, pred_x_start)
        h = _half_log_snr(to) - _half_log_snr(now)
        direction = pred_x_start
        if previous is not None and to.sigma > 0:
            previous_x_start, previous_h = previous
            r = previous_h / h
            direction = (1 + 1 / (2 * r)) * pred_x_start - 1 / (2 * r) * previous_x_start
        x_t = to.sigma / now.sigma * x_t - to.alpha * math.expm1(-h) * direction
        previous = pred_x_start, h


SAMPLERS: dict[str, Sampler] = {
    "dpmpp_2m": sample_dpmpp_2m,
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
}


def _added_variance(now: "NoiseLevel", to: "NoiseLevel") -> float:
    """Returns the variance that the way from `to` up to `now` adds (Kingma et al. 2021, eq. 2)."""
    return max(now.sigma**2 - (now.alpha / to.alpha * to.sigma) ** 2, 0.0)


def _half_log_snr(level: "NoiseLevel") -> float:
    if 0 in (level.alpha, level.sigma):
        return -math.inf if level.alpha == 0 else math.inf
    return math.log(level.alpha / level.sigma)
