"""From a conditional network to the `predict(x_t, t)` that a sampler sees.

    denoise = guided(model, {"image_embeds": image_embeds}, scale)      (x_t, t) -> model_output
    predict = predict_x_start(denoise, diffusion, (low, high))          (x_t, t) -> pred_x_start

These close over conditions, guidance, prediction type and clipping, so samplers know none of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unclip.diffusion.process import Denoise, Diffusion
from unclip.diffusion.samplers import Predict

Model = Callable[..., Tensor]  # (x_t, t, drop_mask=, **conditions) -> model_output


def guided(model: Model, conditions: dict[str, Tensor], scale: float) -> Denoise:
    """Returns `denoise(x_t, t)`, the model under classifier-free guidance (Ho & Salimans 2022).

    It computes uncond + scale·(cond − uncond), the paper's eq. 6 with w = scale − 1: 0 is
    unconditional, 1 is conditional, larger values are more faithful and less diverse. Both branches
    share one forward pass of 2B rows, the conditional rows first; a scale of 0 or 1 needs only one
    branch, and B rows.

    Args:
        model: called as `model(x_t, t, drop_mask=drop_mask, **conditions)`; drop_mask is (B,) bool,
            True = the conditions have no influence.
        conditions: the model's keyword arguments, each (B, ...), on the model's device.
        scale: the guidance scale.
    """
    if scale in (0, 1):

        def denoise_one_branch(x_t: Tensor, t: Tensor) -> Tensor:
            drop_mask = torch.full(t.shape, scale == 0, device=t.device)
            return model(x_t, t, drop_mask=drop_mask, **conditions)

        return denoise_one_branch

    twice = {name: torch.cat([condition, condition]) for name, condition in conditions.items()}

    def denoise_both_branches(x_t: Tensor, t: Tensor) -> Tensor:
        keep = torch.zeros_like(t, dtype=torch.bool)
        model_output = model(
            torch.cat([x_t, x_t]), torch.cat([t, t]), drop_mask=torch.cat([keep, ~keep]), **twice
        )
        # A large scale would magnify rounding in half precision.
        cond, uncond = model_output.to(x_t.dtype).chunk(2)
        return uncond + scale * (cond - uncond)

    return denoise_both_branches


def predict_x_start(
    denoise: Denoise, diffusion: Diffusion, x_start_range: tuple[Tensor, Tensor] | None
) -> Predict:
    """Returns `predict(x_t, t)`, which gives pred_x_start, (B, ...), at a timestep t, an int.

    Args:
        denoise: gives the model output for (x_t, t), for example from `guided`.
        diffusion: the process that the network was trained with.
        x_start_range: (low, high) of the data, each broadcastable to (B, ...), for example
            (C, 1, 1), on the device of x_t. pred_x_start is clipped to it, because guidance pushes
            it out of the range; x_t is partly noise and is not. None clips nothing, as for
            embeddings.
    """

    def predict(x_t: Tensor, t: int) -> Tensor:
        rows = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)
        pred_x_start = diffusion.to_x_start(denoise(x_t, rows), x_t, rows)
        if x_start_range is None:
            return pred_x_start
        low, high = x_start_range
        # Without the cast a float64 range would make every later tensor float64.
        return pred_x_start.clamp(low.to(pred_x_start), high.to(pred_x_start))

    return predict
