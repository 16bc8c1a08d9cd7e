"""The pre-LN transformer of CLIP, the prior and the caption encoder, and the text encoder.

Sources: Vaswani et al. 2017, "Attention Is All You Need" (§3.2); pre-LN as in Radford et al. 2019
(GPT-2), with the initialisation of CLIP (Radford et al. 2021).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]  # of one block, each (B, L, dim)

# Up to this many keys, attention is two matrix products and a softmax: on a CPU in bf16 that takes
# about half the time of torch's fused kernel, forward and backward, and on a GPU the backward pass
# of the fused kernels is not deterministic. With more keys, memory matters more.
MOST_KEYS_OF_PRODUCTS = 512
MLP_RATIO = 4  # hidden width of the MLP relative to the block's, as in every paper above


def attention_mask(key_mask: Tensor, *, causal: bool) -> Tensor:
    """Returns the mask of attention, True = may attend: (B, 1, 1, L), or (B, 1, L, L) if causal.

    Args:
        key_mask: (B, L) bool, True = real token; padding is never attended to.
        causal: whether a token attends only to itself and earlier tokens. Then token 0 must be
            real: a row without any key would be NaN.
    """
    mask = key_mask[:, None, None, :]
    if causal:
        length = key_mask.shape[1]
        mask = mask & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return mask


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, *, num_heads: int, mask: Tensor | None
) -> Tensor:
    """Returns softmax(q·k / sqrt(head width))·v of every head, side by side, (B, Lq, C).

    Args:
        queries: (B, Lq, C); head h owns the h-th of num_heads slices of C.
        keys: (B, Lk, C).
        values: (B, Lk, C).
        num_heads: must divide C.
        mask: bool, broadcastable to (B, num_heads, Lq, Lk), True = attend; None = attend to all.
    """
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    with torch.autocast(q.device.type, enabled=False):
        if k.shape[2] <= MOST_KEYS_OF_PRODUCTS:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, num_heads, Lq, Lk)
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            out = scores.softmax(dim=-1) @ v
        else:
            if q.device.type == "cpu":  # its fused backward pass is 3 to 9 times slower in bf16
                q, k, v = q.float(), k.float(), v.float()
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)  # (B, Lq, C)


class TransformerBlock(nn.Module):
    """h + attention(LN(h)), then h + MLP(LN(h)), with dropout on both branches."""

    def __init__(self, *, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        assert dim % num_heads == 0, f"{num_heads} heads for a width of {dim}"
        self.num_heads = num_heads
        self.attn_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_out = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp_in = nn.Linear(dim, MLP_RATIO * dim)
        self.mlp_out = nn.Linear(MLP_RATIO * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, h: Tensor, mask: Tensor | None, past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Returns (B, L, dim) and the keys and values of these tokens, each (B, L, dim).

        Args:
            h: (B, L, dim).
            mask: from `attention_mask`, over the P past tokens and these.
            past: keys and values of P earlier tokens, each (B, P, dim).
        """
        q, k, v = self.qkv(self.attn_norm(h)).chunk(3, dim=-1)  # 3 × (B, L, dim)
        keys, values = k, v
        if past is not None:
            keys, values = torch.cat([past[0], k], dim=1), torch.cat([past[1], v], dim=1)
        attended = attend(q, keys, values, num_heads=self.num_heads, mask=mask)
        h = h + self.dropout(self.attn_out(attended))
        hidden = F.gelu(self.mlp_in(self.mlp_norm(h)))  # (B, L, 4 dim)
        return h + self.dropout(self.mlp_out(hidden)), (k, v)


class Transformer(nn.Module):
    """A stack of pre-LN blocks and the final LayerNorm that pre-LN needs."""

    def __init__(self, *, dim: int, depth: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TransformerBlock(dim=dim, num_heads=num_heads, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self._init_weights(dim, depth)

    def _init_weights(self, dim: int, depth: int) -> None:
        """Scales what is added to the residual stream by 1/sqrt(2 depth), as in GPT-2."""
        for name, parameter in self.blocks.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith(("attn_out.weight", "mlp_out.weight")):
                nn.init.normal_(parameter, std=(2 * depth * dim) ** -0.5)
            elif name.endswith("qkv.weight"):
                nn.init.normal_(parameter, std=dim**-0.5)
            elif name.endswith("mlp_in.weight"):
                nn.init.normal_(parameter, std=(2 * dim) ** -0.5)

    def forward(
        self, h: Tensor, mask: Tensor | None = None, past: list[KeysValues] | None = None
    ) -> Tensor:
        """Returns normalised tokens (B, L, dim).

        Args:
            h: (B, L, dim).
            mask: from `attention_mask`, over the past tokens, if any, and these.
            past: from `read` for the earlier tokens.
        """
        for i, block in enumerate(self.blocks):
            h, _ = block(h, mask, None if past is None else past[i])
        return self.norm(h)

    def read(self, h: Tensor, mask: Tensor | None) -> list[KeysValues]:
        """Returns each block's keys and values of tokens (B, L, dim), the past for `forward`.

        With a causal mask the result equals one pass over all tokens, but repeated tokens are
        computed only once.
        """
        read = []
        for block in self.blocks:
            h, keys_values = block(h, mask)
            read.append(keys_values)
        return read


class TextEncoder(nn.Module):
    """Encodes each token (Radford et al. 2021, §2.4, where it is causal).

    Positions are learned for each index, so trimming common padding changes nothing but the time.

    Args:
        vocab_size: number of token ids.
        text_length: the most tokens of a text.
        dim, depth, num_heads: width, blocks and heads; num_heads must divide dim.
        dropout: probability, only in training.
        causal: whether a token attends only to itself and earlier tokens.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        text_length: int,
        dim: int,
        depth: int,
        num_heads: int,
        dropout: float,
        causal: bool,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.token_embedding = nn.Embedding(vocab_size, dim)
        self.positions = nn.Parameter(torch.empty(text_length, dim))
        self.transformer = Transformer(dim=dim, depth=depth, num_heads=num_heads, dropout=dropout)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, text_tokens: Tensor, text_mask: Tensor) -> Tensor:
        """Returns text encodings (B, L, dim), layer-normed, and zero for padding.

        Args:
            text_tokens: (B, L) int64, L <= text_length.
            text_mask: (B, L) bool, True = real token; token 0 is always real.
        """
        length = text_tokens.shape[1]
        assert text_tokens.shape == text_mask.shape, (text_tokens.shape, text_mask.shape)
        assert length <= len(self.positions), f"{length} tokens, at most {len(self.positions)}"
        h = self.token_embedding(text_tokens) + self.positions[:length]  # (B, L, dim)
        h = self.transformer(h, attention_mask(text_mask, causal=self.causal))
        return h.masked_fill(~text_mask[:, :, None], 0.0)


def take_last(encodings: Tensor, text_mask: Tensor) -> Tensor:
    """Returns the encoding of each text's last real token, (B, dim); inputs (B, L, dim), (B, L)."""
    last = text_mask.sum(dim=1) - 1
    return encodings[torch.arange(len(last), device=last.device), last]


def drop_text(
    encodings: Tensor, text_mask: Tensor, drop_mask: Tensor, null: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns (encodings, mask) where a single null token replaces each dropped text.

    Args:
        encodings: (B, L, dim).
        text_mask: (B, L) bool, True = real token.
        drop_mask: (B,) bool, True = drop the text.
        null: (dim,), learned.
    """
    first = torch.arange(text_mask.shape[1], device=text_mask.device) == 0  # (L,)
    dropped = drop_mask[:, None]
    return (
        torch.where(dropped[:, :, None], null, encodings),
        torch.where(dropped, first, text_mask),
    )
