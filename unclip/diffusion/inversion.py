"""DDIM run backwards: from data to the noise that they are sampled from."""

import math

import torch
from torch import Tensor

from unclip.diffusion.samplers import Predict, visited


@torch.no_grad()
def invert_ddim(
    predict: Predict,
    x_start: Tensor,
    alphas_cumprod: Tensor,
    timesteps: Tensor,
    *,
    evaluations: int,
) -> Tensor:
    """Returns x_T, (B, ...), from which `sample_ddim` with eta 0 makes x_start again.

    Song et al. 2021, section 4.3; Dhariwal & Nichol 2021, appendix F. To undo DDIM's step from t
    down to s we need the noise predicted at x_t, the unknown. The papers use the noise predicted at
    x_s instead. That is the first guess here; each further evaluation predicts the noise at the
    previous guess (fixed-point iteration, as in Pan et al. 2023, "Effective Real Image Editing with
    Accelerated Iterative Diffusion Inversion"), so that few steps invert as well as many.

    Args:
        predict: gives pred_x_start for (x_t, t); the same as for sampling.
        x_start: (B, ...) data.
        alphas_cumprod: (T,) float64, the process that the network was trained with.
        timesteps: (S,) int64, strictly descending; the same as for sampling.
        evaluations: of the network in each step, at least 1; 1 is the papers' inversion.
    """
    assert evaluations >= 1, f"evaluations must be at least 1, got {evaluations}"
    x_s = x_start  # _s marks the less noisy timestep that a step starts from
    for t, a, a_s in reversed(list(visited(alphas_cumprod, timesteps))):
        x_t = x_s
        for _ in range(evaluations):
            pred_eps = (x_t - math.sqrt(a) * predict(x_t, t)) / math.sqrt(1 - a)
            pred_x_start = (x_s - math.sqrt(1 - a_s) * pred_eps) / math.sqrt(a_s)
            x_t = math.sqrt(a) * pred_x_start + math.sqrt(1 - a) * pred_eps
        x_s = x_t
    return x_s
