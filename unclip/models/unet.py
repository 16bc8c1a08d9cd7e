"""The diffusion decoder's network: a UNet conditioned on a CLIP image embedding.

Sources: Ramesh et al. 2022 (unCLIP), §2.1: the image embedding is added to the timestep embedding
and projected to four extra context tokens; Dhariwal and Nichol 2021 (ADM) for the UNet itself.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.models.blocks import (
    Block,
    Condition,
    DownLevel,
    UpLevel,
    downsample_layer,
    group_norm,
    upsample_layer,
    zero_init,
)
from unclip.models.sizes import level_resolutions
from unclip.models.timestep import TimestepEmbedding
from unclip.models.transformer import TextEncoder, drop_text

Level = tuple[int, int | None]  # channels, and attention heads or None


class Conditioner(nn.Module):
    """Timestep, image embedding and, with a caption encoder, caption → `Condition`.

    unCLIP's tokens are Linear(D, N·D) of the whole embedding. Linear(1, N) on each entry, as in the
    tutorial, would give N tokens that are multiples of one another.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        vector_dim: int,
        num_image_tokens: int,
        caption_encoder: TextEncoder | None,
        caption_dim: int,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.timestep_in = TimestepEmbedding(dim=vector_dim)
        self.null_image_embed = nn.Parameter(torch.randn(embed_dim))
        self.embed_to_vector = nn.Linear(embed_dim, vector_dim)
        self.embed_to_tokens = nn.Linear(embed_dim, num_image_tokens * embed_dim)
        self.caption_encoder = caption_encoder
        if caption_encoder is not None:
            self.caption_to_tokens = nn.Linear(caption_dim, embed_dim)
            self.null_caption = nn.Parameter(torch.randn(embed_dim))

    def forward(
        self,
        t: Tensor,
        image_embeds: Tensor,
        drop_mask: Tensor,
        text_tokens: Tensor | None,
        text_mask: Tensor | None,
        text_drop_mask: Tensor,
    ) -> Condition:
        """Returns the condition; arguments as in `UNet.forward`."""
        # From unit norm to entries of unit variance, as layers expect.
        embeds = image_embeds * self.embed_dim**0.5
        embeds = torch.where(drop_mask[:, None], self.null_image_embed, embeds)  # (B, D)
        vector = F.silu(self.timestep_in(t) + self.embed_to_vector(embeds))  # (B, E)
        tokens = self.embed_to_tokens(embeds).unflatten(1, (-1, self.embed_dim))  # (B, N, D)
        if self.caption_encoder is None:
            return Condition(vector, tokens, None)
        assert text_tokens is not None, "a caption encoder needs text_tokens"
        assert text_mask is not None, "a caption encoder needs text_mask"
        encodings = self.caption_to_tokens(self.caption_encoder(text_tokens, text_mask))
        encodings, text_mask = drop_text(encodings, text_mask, text_drop_mask, self.null_caption)
        token_mask = F.pad(text_mask, (tokens.shape[1], 0), value=True)  # (B, N + L)
        return Condition(vector, torch.cat([tokens, encodings], dim=1), token_mask)


class UNet(nn.Module):
    """Predicts noise, x_start or v from a noised picture, its timestep and an image embedding.

    Level i works at image_size / patch_size / 2^i pixels with model_channels·channel_mult[i]
    channels, with num_res_blocks blocks on the way down and one more on the way up.

    Args:
        image_size: height and width of a picture, in pixels.
        in_channels: channels of a picture.
        patch_size: the side of the patches that a strided conv turns into one pixel at the input,
            and a pixel shuffle turns back at the output; 1 for none.
        model_channels: channels of the first level.
        channel_mult: a multiple of model_channels for each level.
        num_res_blocks: residual blocks in each level.
        attn_resolutions: the sides of the levels with attention; the bottleneck always has it.
        head_channels: width of an attention head; must divide the channels wherever it is used.
        dropout: probability, only in training.
        embed_dim: width D of the image embedding.
        num_image_tokens: tokens from the image embedding.
        downsample: "conv" or "pool".
        conditioning: "scale_shift" or "add".
        caption_depth, caption_dim: blocks and width of the caption encoder; depth 0 for none.
        vocab_size: number of its token ids.
        text_length: the most tokens of a caption.
    """

    def __init__(
        self,
        *,
        image_size: int,
        in_channels: int,
        patch_size: int,
        model_channels: int,
        channel_mult: list[int],
        num_res_blocks: int,
        attn_resolutions: list[int],
        head_channels: int,
        dropout: float,
        embed_dim: int,
        num_image_tokens: int,
        downsample: str,
        conditioning: str,
        caption_depth: int,
        caption_dim: int,
        vocab_size: int,
        text_length: int,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        widths = [model_channels * multiple for multiple in channel_mult]
        resolutions = level_resolutions(image_size, patch_size, len(widths))
        assert set(attn_resolutions) <= set(resolutions), f"{attn_resolutions} of {resolutions}"
        levels = [
            (width, _num_heads(width, head_channels) if side in attn_resolutions else None)
            for width, side in zip(widths, resolutions, strict=True)
        ]
        caption_encoder = None
        if caption_depth > 0:
            num_heads = _num_heads(caption_dim, head_channels)
            caption_encoder = _caption_encoder(
                vocab_size, text_length, caption_dim, caption_depth, num_heads, dropout
            )
        self.conditioner = Conditioner(
            embed_dim=embed_dim,
            vector_dim=4 * model_channels,
            num_image_tokens=num_image_tokens,
            caption_encoder=caption_encoder,
            caption_dim=caption_dim,
        )
        new_block = functools.partial(
            Block,
            vector_dim=4 * model_channels,
            token_dim=embed_dim,
            dropout=dropout,
            conditioning=conditioning,
        )
        self.stem = _stem(in_channels, widths[0], patch_size)
        self.down, skip_widths = _way_down(new_block, levels, num_res_blocks, downsample)
        last = widths[-1]
        self.middle = nn.ModuleList(
            new_block(last, last, num_heads=n) for n in (_num_heads(last, head_channels), None)
        )
        self.up = _way_up(new_block, levels, num_res_blocks, skip_widths)
        self.out_norm = group_norm(widths[0])
        self.out = zero_init(nn.Conv2d(widths[0], in_channels * patch_size**2, 3, padding=1))

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        image_embeds: Tensor,
        drop_mask: Tensor,
        text_tokens: Tensor | None = None,
        text_mask: Tensor | None = None,
        text_drop_mask: Tensor | None = None,
    ) -> Tensor:
        """Returns the model output (B, C, H, W), in the dtype of x_t.

        Args:
            x_t: (B, C, H, W), noised pictures of about unit variance.
            t: (B,) int64.
            image_embeds: (B, D), unit norm.
            drop_mask: (B,) bool, True = a learned null replaces the image embedding.
            text_tokens: (B, L) int64; required, like text_mask, by a caption encoder.
            text_mask: (B, L) bool, True = real token; token 0 is always real.
            text_drop_mask: (B,) bool, True = a learned null replaces the caption; None is
                drop_mask, as in guidance.
        """
        if text_drop_mask is None:
            text_drop_mask = drop_mask
        condition = self.conditioner(
            t, image_embeds, drop_mask, text_tokens, text_mask, text_drop_mask
        )
        h = self.stem(x_t)  # (B, C0, H/p, W/p)
        skips = [h]
        for level in self.down:
            h = level(h, condition, skips)
        for block in self.middle:
            h = block(h, condition)  # (B, Cn, H/p/2^n, W/p/2^n)
        for level in self.up:
            h = level(h, condition, skips)
        h = self.out(F.silu(self.out_norm(h)))  # (B, C·p², H/p, W/p)
        return F.pixel_shuffle(h, self.patch_size).to(x_t.dtype)  # (B, C, H, W)


def _caption_encoder(
    vocab_size: int, text_length: int, dim: int, depth: int, num_heads: int, dropout: float
) -> TextEncoder:
    return TextEncoder(
        vocab_size=vocab_size,
        text_length=text_length,
        dim=dim,
        depth=depth,
        num_heads=num_heads,
        dropout=dropout,
        causal=False,
    )


def _num_heads(width: int, head_channels: int) -> int:
    assert width % head_channels == 0, f"heads of {head_channels} channels of {width}"
    return width // head_channels


def _stem(in_channels: int, width: int, patch_size: int) -> nn.Conv2d:
    if patch_size == 1:
        return nn.Conv2d(in_channels, width, 3, padding=1)
    return nn.Conv2d(in_channels, width, patch_size, stride=patch_size)


def _way_down(
    new_block: Callable[..., Block], levels: list[Level], num_res_blocks: int, downsample: str
) -> tuple[nn.ModuleList, list[int]]:
    """Returns the levels on the way down and the channels of their skips."""
    down, width = nn.ModuleList(), levels[0][0]
    skip_widths = [width]  # the stem's
    for i, (out_width, num_heads) in enumerate(levels):
        blocks = []
        for _ in range(num_res_blocks):
            blocks.append(new_block(width, out_width, num_heads=num_heads))
            width = out_width
        is_last = i == len(levels) - 1
        down.append(DownLevel(blocks, None if is_last else downsample_layer(width, downsample)))
        skip_widths += [width] * (num_res_blocks + (not is_last))
    return down, skip_widths


def _way_up(
    new_block: Callable[..., Block],
    levels: list[Level],
    num_res_blocks: int,
    skip_widths: list[int],
) -> nn.ModuleList:
    """Returns the levels on the way up, whose blocks take the skips from the last to the first."""
    up, width, skips = nn.ModuleList(), levels[-1][0], list(skip_widths)
    for i, (out_width, num_heads) in reversed(list(enumerate(levels))):
        blocks = []
        for _ in range(num_res_blocks + 1):
            blocks.append(new_block(width + skips.pop(), out_width, num_heads=num_heads))
            width = out_width
        up.append(UpLevel(blocks, upsample_layer(width) if i > 0 else None))
    return up
