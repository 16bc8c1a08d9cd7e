"""The text transformer: CLIP's text tower and the decoder's caption encoder are both one."""

import torch
from torch import Tensor, nn

from unclip.models.attention import Transformer, attention_mask


class TextEncoder(nn.Module):
    """Tokens to one encoding each (Radford et al. 2021, §2.4, where it is causal).

    Positions are learned and belong to the token's index, so cutting off common padding changes
    nothing but the time it takes.

    Args:
        vocab_size: number of token ids.
        text_length: the longest text, in tokens.
        dim: width.
        depth: number of blocks.
        num_heads: must divide dim.
        dropout: probability, in training only.
        causal: whether a token sees only what stands before it.
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
        """Returns text encodings (B, L, dim): layer-normed, and zero where there is padding.

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
    """Returns the encoding of each text's end token, (B, dim), from (B, L, dim) and (B, L).

    The end token is the last real one; real tokens stand before all padding.
    """
    last = text_mask.sum(dim=1) - 1
    return encodings[torch.arange(len(last), device=last.device), last]


def drop_text(
    encodings: Tensor, text_mask: Tensor, drop_mask: Tensor, null: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns (encodings, mask) in which each dropped text is one null token at position 0.

    Args:
        encodings: (B, L, dim).
        text_mask: (B, L) bool, True = real token.
        drop_mask: (B,) bool, True = replace the text.
        null: (dim,), learned.
    """
    first = torch.arange(text_mask.shape[1], device=text_mask.device) == 0  # (L,)
    dropped = drop_mask[:, None]
    return (
        torch.where(dropped[:, :, None], null, encodings),
        torch.where(dropped, first, text_mask),
    )
