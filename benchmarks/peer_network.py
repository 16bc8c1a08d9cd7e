"""The peer's network: diffusers' UNet with as many floating-point operations as ours."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from benchmarks.flops import count_flops
from unclip.models.sizes import level_resolutions
from unclip.models.unet import UNet

TOLERANCE = 0.03  # how far its floating-point operations may be from ours, as a share of ours
AIM = 0.015  # the search ends when it is as near as this
WIDTH_STEPS = (8, 4)  # channels


@dataclass(frozen=True)
class PeerShape:
    """What its UNet is built from, apart from its widths; all but the heads are ours.

    Attributes:
        image_size: height and width of a picture, in pixels.
        in_channels: channels of a picture.
        patch_size: side of the patches that a pixel unshuffle makes one pixel of.
        num_res_blocks: residual blocks a level.
        has_attention: for each level, the finest first.
        head_channels: about how wide an attention head is.
        embed_dim: width D of the image embedding.
        num_image_tokens: tokens made of it.
        dropout: probability.
    """

    image_size: int
    in_channels: int
    patch_size: int
    num_res_blocks: int
    has_attention: tuple[bool, ...]
    head_channels: int
    embed_dim: int
    num_image_tokens: int
    dropout: float

    @classmethod
    def of(cls, config: dict[str, Any]) -> "PeerShape":
        """Returns the shape nearest to the UNet of ours that `config` builds."""
        resolutions = level_resolutions(
            config["image_size"], config["patch_size"], len(config["channel_mult"])
        )
        kept = {name: config[name] for name in cls.__annotations__ if name in config}
        has_attention = tuple(r in config["attn_resolutions"] for r in resolutions)
        return cls(**kept, has_attention=has_attention)


class Peer(nn.Module):
    """UNet2DConditionModel behind a pixel unshuffle, given the image embedding as tokens."""

    def __init__(self, shape: PeerShape, widths: Sequence[int]) -> None:
        super().__init__()
        self.patch_size = shape.patch_size
        self.tokens = nn.Linear(shape.embed_dim, shape.num_image_tokens * shape.embed_dim)
        channels = shape.in_channels * shape.patch_size**2
        self.unet: Any = UNet2DConditionModel(
            sample_size=shape.image_size // shape.patch_size,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=tuple(widths),
            layers_per_block=shape.num_res_blocks,
            down_block_types=tuple(
                "CrossAttnDownBlock2D" if a else "DownBlock2D" for a in shape.has_attention
            ),
            up_block_types=tuple(
                "CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(shape.has_attention)
            ),
            cross_attention_dim=shape.embed_dim,
            # Called so, it is their number of heads (diffusers issue 2011).
            attention_head_dim=tuple(_heads(width, shape.head_channels) for width in widths),
            norm_num_groups=WIDTH_STEPS[-1],
            resnet_time_scale_shift="scale_shift",
            dropout=shape.dropout,
        )

    def forward(self, x_t: Tensor, t: Tensor, image_embeds: Tensor) -> Tensor:
        """Returns the model output (B, C, H, W) from x_t (B, C, H, W), t (B,) and embeds (B, D)."""
        tokens = self.tokens(image_embeds).unflatten(1, (-1, image_embeds.shape[1]))  # (B, N, D)
        h = F.pixel_unshuffle(x_t, self.patch_size)
        h = self.unet(h, t, encoder_hidden_states=tokens).sample
        return F.pixel_shuffle(h, self.patch_size)


def _heads(width: int, head_channels: int) -> int:
    """Returns the number of heads, each at least about `head_channels` wide, that divides."""
    most = max(1, width // head_channels)
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)


def flops_of_ours(config: dict[str, Any]) -> int:
    """Returns the FLOPs of our UNet, forward and backward, of one picture."""
    unet, size = UNet(**config), config["image_size"]
    x_t, t, drop = torch.randn(1, config["in_channels"], size, size), torch.zeros(1).long(), False
    embeds, drop_mask = torch.randn(1, config["embed_dim"]), torch.tensor([drop])
    return count_flops(lambda: unet(x_t, t, embeds, drop_mask).sum().backward())


@cache
def flops_of_peer(shape: PeerShape, widths: tuple[int, ...]) -> int:
    """Returns the FLOPs of a peer, forward and backward, of one picture."""
    peer = Peer(shape, widths)
    x_t = torch.randn(1, shape.in_channels, shape.image_size, shape.image_size)
    t, embeds = torch.zeros(1).long(), torch.randn(1, shape.embed_dim)
    return count_flops(lambda: peer(x_t, t, embeds).sum().backward())


def match_widths(
    widths: Sequence[int], flops_of: Callable[[tuple[int, ...]], int], target: int
) -> tuple[int, ...]:
    """Returns the channels of each level whose FLOPs are near enough to `target`, or the nearest.

    All levels are scaled alike first, then few of them are changed by a step; the coarser step,
    which suits a processor better, is tried before the finer one.

    Args:
        widths: of our UNet.
        flops_of: grows with every width.
        target: FLOPs.
    """
    nearest = tuple(widths)
    for step in WIDTH_STEPS:
        for candidate in _candidates(widths, flops_of, target, step):
            nearest = min(nearest, candidate, key=lambda w: abs(flops_of(w) - target))
            if abs(flops_of(nearest) / target - 1) <= AIM:
                return nearest
    return nearest


def _candidates(
    widths: Sequence[int], flops_of: Callable[[tuple[int, ...]], int], target: int, step: int
) -> Iterator[tuple[int, ...]]:
    """Yields widths near the target, those that are most like ours first."""
    scales = [percent / 100 for percent in range(40, 161, 2)]
    scaled = sorted({tuple(_rounded(s * width, step) for width in widths) for s in scales})
    place = bisect_left(scaled, target, key=flops_of)
    near = scaled[max(0, place - 1) : place + 1]
    yield from near
    moves = sorted(product((0, -step, step), repeat=len(widths)), key=lambda m: -m.count(0))
    for base, move in product(near, moves):
        moved = tuple(width + change for width, change in zip(base, move, strict=True))
        if min(moved) > 0:
            yield moved


def _rounded(width: float, step: int) -> int:
    return max(step, round(width / step) * step)


def matched_peer(config: dict[str, Any]) -> Peer:
    """Returns the peer of our UNet with as many FLOPs.

    Raises:
        ValueError: no widths come near enough to our FLOPs.
    """
    shape, target = PeerShape.of(config), flops_of_ours(config)
    widths = match_widths(widths_of(config), lambda w: flops_of_peer(shape, w), target)
    share = flops_of_peer(shape, widths) / target
    if abs(share - 1) > TOLERANCE:
        raise ValueError(f"the nearest peer, of widths {widths}, has {share:.3f} × our FLOPs")
    return Peer(shape, widths)


def widths_of(config: dict[str, Any]) -> tuple[int, ...]:
    """Returns the channels of each level of our UNet."""
    return tuple(config["model_channels"] * multiple for multiple in config["channel_mult"])
