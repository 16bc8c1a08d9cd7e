"""DDIM run backwards: from data to the noise out of which they are painted again."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from unclip.diffusion.samplers import Predict
from unclip.diffusion.schedules import NoiseSchedule


@torch.no_grad()
def invert_ddim(
    predict: Predict,
    x_start: Tensor,
    schedule: NoiseSchedule,
    timesteps: Tensor,
    *,
    evaluations: int,
) -> Tensor:
    """Returns x_T, (B, ...), from which `sample_ddim` with eta 0 makes x_start again.

    Song et al. 2021, section 4.3; Dhariwal & Nichol 2021, appendix F. To undo DDIM's step from t
    down to s, the noise predicted at x_t is needed, and x_t is what is sought. The papers put the
    noise predicted at x_s in its place. That is the first guess here; each further evaluation
    predicts the noise at the guess before it (fixed-point iteration, as in Pan et al. 2023,
    "Effective Real Image Editing with Accelerated Iterative Diffusion Inversion"), so that few
    steps invert as well as many.

    Args:
        predict: gives pred_x_start for (x_t, t), the one that will be sampled with.
        x_start: (B, ...) data.
        schedule: the one that the network was trained with.
        timesteps: (S,) int64, strictly descending, the ones that will be sampled with.
        evaluations: of the network a step, at least 1; 1 is the papers' inversion.
    """
    assert evaluations >= 1, f"evaluations must be at least 1, got {evaluations}"
    visited = timesteps.tolist()
    assert all(t > following for t, following in pairwise([*visited, -1])), (
        f"timesteps must descend strictly to 0 or more, got {visited}"
    )
    x_s, a_s = x_start, 1.0  # _s marks the less noisy timestep that a step comes from
    for t in reversed(visited):
        a = float(schedule.alphas_cumprod[t])
        x_t = x_s
        for _ in range(evaluations):
            pred_eps = (x_t - math.sqrt(a) * predict(x_t, t)) / math.sqrt(1 - a)
            pred_x_start = (x_s - math.sqrt(1 - a_s) * pred_eps) / math.sqrt(a_s)
            x_t = math.sqrt(a) * pred_x_start + math.sqrt(1 - a) * pred_eps
        x_s, a_s = x_t, a
    return x_s
