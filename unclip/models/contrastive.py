"""CLIP's loss for data in which many pictures share one caption."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    image_embeds: Tensor, text_embeds: Tensor, caption_index: Tensor, scale: Tensor | float
) -> Tensor:
    """Returns the symmetric contrastive loss over distinct captions, less its floor; 0 is perfect.

    Picture → text is cross-entropy over the K captions. Text → picture is, for each caption,
    cross-entropy over the B pictures against a target that is uniform over its own, averaged over
    captions so that no caption weighs more for being frequent; its floor is the entropy of those
    targets. With one picture a caption this is the loss of Radford et al. 2021, figure 3.

    Args:
        image_embeds: (B, D), unit norm.
        text_embeds: (K, D), unit norm, one row for each distinct caption.
        caption_index: (B,) int64 in 0..K-1, the row of each picture's caption. Every row is some
            picture's caption; one that is not makes the loss NaN.
        scale: what cosines are multiplied by, `logit_scale.exp()`.
    """
    assert image_embeds.shape[1] == text_embeds.shape[1], (image_embeds.shape, text_embeds.shape)
    # Cosines in bf16 are off by up to 0.004, which a scale of 100 makes 0.4 in the logits.
    with torch.autocast(image_embeds.device.type, enabled=False):
        logits = scale * image_embeds.float() @ text_embeds.float().T  # (B, K)
        captions = torch.arange(len(text_embeds), device=caption_index.device)
        is_own = caption_index[:, None] == captions  # (B, K)
        counts = is_own.sum(dim=0)  # (K,) pictures of each caption
        image_to_text = F.cross_entropy(logits, caption_index)
        text_to_image = F.cross_entropy(logits.T, (is_own / counts).T)
        return (image_to_text + text_to_image - counts.log().mean()) / 2
