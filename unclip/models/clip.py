"""CLIP: a picture tower and a text tower with a shared embedding space.

Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"
(§2.4–2.5), at a small size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.models.transformer import TextEncoder, Transformer, take_last

INITIAL_TEMPERATURE = 0.07
MAX_LOG_SCALE = math.log(100.0)


class VisionTransformer(nn.Module):
    """Turns each picture into a feature vector (Dosovitskiy et al. 2021).

    The features are the mean over patches, which small ViTs learn faster than a class token (Beyer
    et al. 2022, "Better plain ViT baselines for ImageNet-1k").
    """

    def __init__(
        self,
        *,
        image_size: int,
        in_channels: int,
        patch_size: int,
        dim: int,
        depth: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        assert image_size % patch_size == 0, f"{image_size} pixels, patches of {patch_size}"
        self.patch_size = patch_size
        num_patches = (image_size // patch_size) ** 2
        self.patch_embedding = nn.Linear(in_channels * patch_size**2, dim)
        self.positions = nn.Parameter(torch.empty(num_patches, dim))
        self.transformer = Transformer(dim=dim, depth=depth, num_heads=num_heads, dropout=dropout)
        nn.init.normal_(self.positions, std=dim**-0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (B, dim) from images (B, C, H, W)."""
        patches = F.pixel_unshuffle(images, self.patch_size)  # (B, C·p², H/p, W/p)
        patches = patches.flatten(2).transpose(1, 2)  # (B, N, C·p²)
        assert patches.shape[1] == len(self.positions), (images.shape, self.positions.shape)
        h = self.patch_embedding(patches) + self.positions  # (B, N, dim)
        return self.transformer(h).mean(dim=1)  # (B, dim)


class CLIP(nn.Module):
    """Embeds pictures and texts so that the dot product of a pair says how well they match.

    Args:
        image_size: height and width, in pixels.
        in_channels: channels of a picture.
        patch_size: side of a patch, in pixels; must divide image_size.
        embed_dim: width D of the shared space.
        vision_dim, vision_depth, vision_heads: width, blocks and heads of the picture tower.
        text_dim, text_depth, text_heads: width, blocks and heads of the text tower.
        vocab_size: number of token ids.
        text_length: the most tokens of a text.
        dropout: probability, only in training.
    """

    def __init__(
        self,
        *,
        image_size: int,
        in_channels: int,
        patch_size: int,
        embed_dim: int,
        vision_dim: int,
        vision_depth: int,
        vision_heads: int,
        text_dim: int,
        text_depth: int,
        text_heads: int,
        vocab_size: int,
        text_length: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vision = VisionTransformer(
            image_size=image_size,
            in_channels=in_channels,
            patch_size=patch_size,
            dim=vision_dim,
            depth=vision_depth,
            num_heads=vision_heads,
            dropout=dropout,
        )
        self.text = TextEncoder(
            vocab_size=vocab_size,
            text_length=text_length,
            dim=text_dim,
            depth=text_depth,
            num_heads=text_heads,
            dropout=dropout,
            causal=True,
        )
        self.image_projection = nn.Linear(vision_dim, embed_dim, bias=False)
        self.text_projection = nn.Linear(text_dim, embed_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(INITIAL_TEMPERATURE)))

    @property
    def scale(self) -> Tensor:
        """The factor of the cosines, exp(logit_scale), at most 100 (§2.5); a scalar."""
        return self.logit_scale.clamp(max=MAX_LOG_SCALE).exp()

    def encode_image(self, images: Tensor) -> Tensor:
        """Returns unit embeddings (B, D) float32 of normalised images (B, C, H, W)."""
        return F.normalize(self.image_projection(self.vision(images)).float(), dim=-1)

    def encode_text(self, text_tokens: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns unit embeddings (B, D) and encodings (B, L, text_dim) of texts, both float32.

        The embedding is the projected encoding of the end token; encodings of padding are zero.

        Args:
            text_tokens: (B, L) int64, L <= text_length.
            text_mask: (B, L) bool, True = real token; the last one is the end token.
        """
        encodings = self.text(text_tokens, text_mask)
        embeds = self.text_projection(take_last(encodings, text_mask)).float()
        return F.normalize(embeds, dim=-1), encodings.float()

    def forward(
        self, images: Tensor, text_tokens: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns image embeddings (B, D), text embeddings (K, D) and the factor of their cosines.

        K need not be B: the text tower runs once for each distinct caption.
        """
        with torch.no_grad():  # in place: beyond the limit a clamped copy would get no gradient
            self.logit_scale.clamp_(max=MAX_LOG_SCALE)
        text_embeds, _ = self.encode_text(text_tokens, text_mask)
        return self.encode_image(images), text_embeds, self.logit_scale.exp()


def contrastive_loss(
    image_embeds: Tensor, text_embeds: Tensor, is_own: Tensor, scale: Tensor | float
) -> Tensor:
    """Returns the symmetric contrastive loss over distinct captions; its minimum is 0.

    Picture → text is the cross-entropy over the K captions with a target uniform over the picture's
    own captions, averaged over pictures. Text → picture is the same over the B pictures, averaged
    over captions, so that frequent captions do not weigh more. The entropy of these targets, the
    minimum, is subtracted. With one picture for each caption this is the loss of Radford et al.
    2021, figure 3.

    Args:
        image_embeds: (B, D), unit norm.
        text_embeds: (K, D), unit norm, one row for each distinct caption.
        is_own: (B, K) bool, whether a caption describes a picture. A picture without a caption, or
            the reverse, makes the loss NaN.
        scale: the factor of the cosines, `logit_scale.exp()`.
    """
    assert is_own.shape == (len(image_embeds), len(text_embeds)), is_own.shape
    # Cosines in bf16 are off by up to 0.004, which a scale of 100 turns into 0.4 in the logits.
    with torch.autocast(image_embeds.device.type, enabled=False):
        logits = scale * image_embeds.float() @ text_embeds.float().T  # (B, K)
        losses = []
        for rows, targets in ((logits, is_own), (logits.T, is_own.T)):
            counts = targets.sum(dim=1)
            entropy = counts.log().mean()
            losses.append(F.cross_entropy(rows, targets / counts[:, None]) - entropy)
        return torch.stack(losses).mean()
