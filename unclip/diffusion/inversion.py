"""DDIM run backwards: from data to the noise that they are sampled from."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from unclip.diffusion.samplers import Predict
from unclip.diffusion.schedules import NoiseLevel


@torch.no_grad()
def invert_ddim(
    predict: Predict,
    x_start: Tensor,
    levels: Sequence[NoiseLevel],
    *,
    evaluations: int,
) -> Tensor:
    """Returns x_T, (B, ...), from which `sample_ddim` with eta 0 makes x_start again.

    Song et al. 2021, section 4.3; Dhariwal & Nichol 2021, appendix F. To undo DDIM's step from t
    down to s we need what is predicted at x_t, the unknown. The first guess is what is predicted at
    x_s; each further evaluation predicts at the previous guess (fixed-point iteration, as in Pan et
    al. 2023, "Effective Real Image Editing with Accelerated Iterative Diffusion Inversion"), so
    that few steps invert as well as many. What is held still in an iteration is noise − x_start,
    which stays finite and converges at every level; the papers' noise alone converges ever more
    slowly towards pure noise.

    Args:
        predict: gives pred_x_start for (x_t, t); the same as for sampling.
        x_start: (B, ...) data.
        levels: S + 1, each of less noise, the last the data; the same as for sampling.
        evaluations: of the network in each step, at least 1.
    """
    assert evaluations >= 1, f"evaluations must be at least 1, got {evaluations}"
    x_s = x_start  # _s marks the less noisy level that a step starts from
    for s, t in pairwise(reversed(levels)):
        x_t = x_s
        for _ in range(evaluations):
            pred_flow = (x_t - (t.alpha + t.sigma) * predict(x_t, t.t)) / t.sigma
            pred_x_start = (x_s - s.sigma * pred_flow) / (s.alpha + s.sigma)
            x_t = (t.alpha + t.sigma) * pred_x_start + t.sigma * pred_flow
        x_s = x_t
    return x_s
