"""CLIP's loss for data in which many pictures share one caption."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    image_embeds: Tensor, text_embeds: Tensor, is_own: Tensor, scale: Tensor | float
) -> Tensor:
    """Returns the symmetric contrastive loss over distinct captions, less its floor; 0 is perfect.

    Picture → text is cross-entropy over the K captions against a target that is uniform over the
    picture's own, averaged over pictures. Text → picture is the same over the B pictures, averaged
    over captions so that no caption weighs more for being frequent. The floor is the entropy of
    those targets. With one picture a caption this is the loss of Radford et al. 2021, figure 3.

    Args:
        image_embeds: (B, D), unit norm.
        text_embeds: (K, D), unit norm, one row for each distinct caption.
        is_own: (B, K) bool, whether a caption says what is in a picture. A picture or a caption
            without any makes the loss NaN.
        scale: what cosines are multiplied by, `logit_scale.exp()`.
    """
    assert is_own.shape == (len(image_embeds), len(text_embeds)), is_own.shape
    # Cosines in bf16 are off by up to 0.004, which a scale of 100 makes 0.4 in the logits.
    with torch.autocast(image_embeds.device.type, enabled=False):
        logits = scale * image_embeds.float() @ text_embeds.float().T  # (B, K)
        directions = ((logits, is_own), (logits.T, is_own.T))
        losses = [_cross_entropy_less_its_floor(*direction) for direction in directions]
        return torch.stack(losses).mean()


def _cross_entropy_less_its_floor(logits: Tensor, is_own: Tensor) -> Tensor:
    """Returns the mean over rows, of (N, M) both, against targets uniform over a row's own."""
    counts = is_own.sum(dim=1)  # (N,)
    return F.cross_entropy(logits, is_own / counts[:, None]) - counts.log().mean()
