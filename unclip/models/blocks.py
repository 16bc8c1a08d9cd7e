"""The parts of the decoder's UNet: residual block, attention over picture and condition, resizing.

Sources: Dhariwal and Nichol 2021, "Diffusion Models Beat GANs" (ADM), §3 and appendix; attention
over text tokens as in Nichol et al. 2022 (GLIDE), §2.3.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.models.transformer import attend

MAX_GROUPS = 32
MIN_GROUP_SIZE = 4  # a group of one channel would wash out that channel's mean


class Condition(NamedTuple):
    """What every block is told beside the picture.

    vector: (B, E), time and image embedding, already through its nonlinearity.
    tokens: (B, N, token_dim), for attention.
    token_mask: (B, N) bool, True = may be attended; None = all.
    """

    vector: Tensor
    tokens: Tensor
    token_mask: Tensor | None


def zero_init(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Returns the layer with weight and bias zero, so that its residual branch starts silent."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """Returns a GroupNorm of at most 32 equal groups, each of at least 4 channels where it can."""
    sizes = [g for g in range(1, MAX_GROUPS + 1) if channels % g == 0]
    groups = max(g for g in sizes if g == 1 or channels // g >= MIN_GROUP_SIZE)
    return nn.GroupNorm(groups, channels)


class ResBlock(nn.Module):
    """norm, act, conv, norm, condition, act, dropout, zero conv; plus skip (ADM's residual block).

    The tutorial puts one more norm after the last conv; it would undo the zero initialisation, by
    which every block starts as its skip, so it is left out. "scale_shift" conditions *after* the
    norm, GN(h)·(1 + s) + b (ADM's AdaGN, §3.1), for a norm would cancel most of what came before
    it; "add" adds a projection after the first conv (Ho et al. 2020).
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
        self.skip = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, 1)
        )

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
    """Every pixel looks at all pixels and at the condition tokens, in one softmax (GLIDE, §2.3)."""

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
    """A residual block and, where `num_heads` is not None, attention after it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        vector_dim: int,
        token_dim: int,
        num_heads: int | None,
        dropout: float,
        conditioning: str,
    ) -> None:
        super().__init__()
        self.residual = ResBlock(
            in_channels,
            out_channels,
            vector_dim=vector_dim,
            dropout=dropout,
            conditioning=conditioning,
        )
        self.attention = (
            None
            if num_heads is None
            else ImageAttention(out_channels, token_dim=token_dim, num_heads=num_heads)
        )

    def forward(self, h: Tensor, condition: Condition) -> Tensor:
        """Returns (B, out_channels, H, W) from h (B, in_channels, H, W)."""
        h = self.residual(h, condition.vector)
        return h if self.attention is None else self.attention(h, condition)


def downsample_layer(channels: int, how: str) -> nn.Module:
    """Returns the layer that halves height and width: a strided conv, or average pooling."""
    assert how in ("conv", "pool"), how
    return (
        nn.Conv2d(channels, channels, 3, stride=2, padding=1) if how == "conv" else nn.AvgPool2d(2)
    )


def upsample_layer(channels: int) -> nn.Module:
    """Returns the layer that doubles height and width: nearest neighbour, then a conv."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, channels, 3, padding=1)
    )


class DownLevel(nn.Module):
    """The blocks of one resolution on the way down, then what halves it (None at the bottom)."""

    def __init__(self, blocks: list[Block], resize: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resize = resize

    def forward(self, h: Tensor, condition: Condition, skips: list[Tensor]) -> Tensor:
        """Returns what the next level starts from; appends every output to `skips`."""
        for block in self.blocks:
            h = block(h, condition)
            skips.append(h)
        if self.resize is not None:
            h = self.resize(h)
            skips.append(h)
        return h


class UpLevel(nn.Module):
    """The blocks of one resolution on the way up, then what doubles it (None at the top)."""

    def __init__(self, blocks: list[Block], resize: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resize = resize

    def forward(self, h: Tensor, condition: Condition, skips: list[Tensor]) -> Tensor:
        """Returns what the next level starts from; each block takes one tensor off `skips`."""
        for block in self.blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), condition)
        return h if self.resize is None else self.resize(h)
