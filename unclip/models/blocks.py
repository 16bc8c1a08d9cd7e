"""Parts of the decoder's UNet: residual block, attention over picture and condition, resizing.

Sources: Dhariwal and Nichol 2021, "Diffusion Models Beat GANs" (ADM), §3 and appendix; Nichol et
al. 2022 (GLIDE), §2.3, for attention over text tokens.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.models.transformer import attend

MAX_GROUPS = 32
MIN_GROUP_SIZE = 4  # a group of one channel would remove that channel's mean


class Condition(NamedTuple):
    """What conditions every block.

    vector: (B, E), time and image embedding after the nonlinearity.
    tokens: (B, N, token_dim), for attention.
    token_mask: (B, N) bool, True = may be attended; None = all.
    """

    vector: Tensor
    tokens: Tensor
    token_mask: Tensor | None


def zero_init(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Returns the layer with zero weight and bias, so that its residual branch starts at 0."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """Returns a GroupNorm of at most 32 equal groups, each of at least 4 channels if possible."""
    most = max(1, min(MAX_GROUPS, channels // MIN_GROUP_SIZE))
    groups = max(g for g in range(1, most + 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class ResBlock(nn.Module):
    """norm, act, conv, norm, condition, act, dropout, zero conv; plus skip (ADM's residual block).

    The tutorial has one more norm after the last conv. It would undo the zero initialisation, with
    which every block starts as its skip, so it is left out. "scale_shift" conditions *after* the
    norm, GN(h)·(1 + s) + b (ADM's AdaGN, §3.1), because a norm cancels most of a condition added
    before it; "add" adds a projection after the first conv (Ho et al. 2020).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        vector_dim: int,
        dropout: float,
        conditioning: str,
    ) -> None:
        super().__init__()
        assert conditioning in ("scale_shift", "add"), conditioning
        self.scale_shift = conditioning == "scale_shift"
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.condition = nn.Linear(vector_dim, (2 if self.scale_shift else 1) * out_channels)
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.skip = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Returns (B, out_channels, H, W) from x (B, in_channels, H, W) and vector (B, E)."""
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        condition = self.condition(vector)[:, :, None, None]  # (B, out or 2 out, 1, 1)
        if self.scale_shift:
            scale, shift = condition.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + condition)
        return self.skip(x) + self.conv2(self.dropout(F.silu(h)))  # (B, out, H, W)


class ImageAttention(nn.Module):
    """Every pixel attends to all pixels and condition tokens, in one softmax (GLIDE, §2.3)."""

    def __init__(self, channels: int, *, token_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.token_kv = nn.Linear(token_dim, 2 * channels)
        self.out = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        """Returns (B, C, H, W) from x (B, C, H, W)."""
        h = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        q, k, v = self.qkv(h).chunk(3, dim=-1)  # 3 × (B, HW, C)
        token_k, token_v = self.token_kv(condition.tokens).chunk(2, dim=-1)  # 2 × (B, N, C)
        mask = condition.token_mask
        if mask is not None:
            mask = F.pad(mask, (h.shape[1], 0), value=True)[:, None, None, :]  # (B, 1, 1, HW + N)
        keys, values = torch.cat([k, token_k], dim=1), torch.cat([v, token_v], dim=1)
        h = self.out(attend(q, keys, values, num_heads=self.num_heads, mask=mask))
        return x + h.transpose(1, 2).unflatten(2, x.shape[2:])  # (B, C, H, W)


class Block(nn.Module):
    """A `ResBlock` with options `residual`, followed by attention unless `num_heads` is None."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        token_dim: int,
        num_heads: int | None,
        **residual: Any,
    ) -> None:
        super().__init__()
        self.residual = ResBlock(in_channels, out_channels, **residual)
        self.attention = None
        if num_heads is not None:
            self.attention = ImageAttention(out_channels, token_dim=token_dim, num_heads=num_heads)

    def forward(self, h: Tensor, condition: Condition) -> Tensor:
        """Returns (B, out_channels, H, W) from h (B, in_channels, H, W)."""
        h = self.residual(h, condition.vector)
        return h if self.attention is None else self.attention(h, condition)


def downsample_layer(channels: int, how: str) -> nn.Module:
    """Returns the layer that halves height and width: a strided conv, or average pooling."""
    assert how in ("conv", "pool"), how
    if how == "pool":
        return nn.AvgPool2d(2)
    return nn.Conv2d(channels, channels, 3, stride=2, padding=1)


def upsample_layer(channels: int) -> nn.Module:
    """Returns the layer that doubles height and width: nearest neighbour, then a conv."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, channels, 3, padding=1)
    )


class Level(nn.Module):
    """The blocks of one resolution, then the layer that changes it (None at the end)."""

    def __init__(self, blocks: list[Block], resize: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resize = resize


class DownLevel(Level):
    """A level on the way down."""

    def forward(self, h: Tensor, condition: Condition, skips: list[Tensor]) -> Tensor:
        """Returns the next level's input and appends every output to `skips`."""
        for block in self.blocks:
            h = block(h, condition)
            skips.append(h)
        if self.resize is not None:
            h = self.resize(h)
            skips.append(h)
        return h


class UpLevel(Level):
    """A level on the way up."""

    def forward(self, h: Tensor, condition: Condition, skips: list[Tensor]) -> Tensor:
        """Returns the next level's input; each block takes one tensor off `skips`."""
        for block in self.blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), condition)
        return h if self.resize is None else self.resize(h)
