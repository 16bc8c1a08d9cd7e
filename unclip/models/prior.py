"""The diffusion prior: from a caption to a CLIP image embedding.

Source: Ramesh et al. 2022, "Hierarchical Text-Conditional Image Generation with CLIP Latents"
(unCLIP), §2.2: a causal transformer whose last token predicts the unnoised image embedding.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.models.timestep import TimestepEmbedding
from unclip.models.transformer import KeysValues, Transformer, attention_mask, drop_text

NUM_SPECIAL = 4  # text embedding, timestep, noised image embedding, learned query


class Prior(nn.Module):
    """Denoises image embeddings, given a caption's encodings and embedding.

    Positions are learned: one for each text index and one for each of the four tokens after the
    text, so trimming common padding changes nothing.

    Args:
        embed_dim: width D of CLIP's space.
        text_dim: width of the text encodings.
        text_length: the most tokens of a text.
        dim, depth, num_heads: width, blocks and heads of the transformer.
        dropout: probability, only in training.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        text_dim: int,
        text_length: int,
        dim: int,
        depth: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.encoding_in = nn.Linear(text_dim, dim)
        self.text_embed_in = nn.Linear(embed_dim, dim)
        self.timestep_in = TimestepEmbedding(dim=dim)
        self.noised_in = nn.Linear(embed_dim, dim)
        self.query = nn.Parameter(torch.empty(dim))
        self.null_encoding = nn.Parameter(torch.empty(dim))
        self.null_text_embed = nn.Parameter(torch.empty(dim))
        self.text_positions = nn.Parameter(torch.empty(text_length, dim))
        self.special_positions = nn.Parameter(torch.empty(NUM_SPECIAL, dim))
        self.transformer = Transformer(dim=dim, depth=depth, num_heads=num_heads, dropout=dropout)
        self.out = nn.Linear(dim, embed_dim)
        for vectors in self.parameters(recurse=False):
            nn.init.normal_(vectors, std=0.02)
        # The first prediction is zero, the mean of standardised embeddings.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        text_encodings: Tensor,
        text_embeds: Tensor,
        text_mask: Tensor,
        drop_mask: Tensor,
        caption_index: Tensor | None = None,
    ) -> Tensor:
        """Returns the model output (B, D), in the dtype of x_t, from the learned query's token.

        Args:
            x_t: (B, D), noised image embeddings whose entries have about unit variance.
            t: (B,) int64.
            text_encodings: (K, L, text_dim), L <= text_length.
            text_embeds: (K, D), unit norm.
            text_mask: (K, L) bool, True = real token; token 0 is always real.
            drop_mask: (B,) bool, True = learned nulls replace the caption (encodings and
                embedding).
            caption_index: (B,) int64, the caption of each row, so that shared captions are
                computed once; None means that K is B and row i has caption i.
        """
        memory = self.read(text_encodings, text_embeds, text_mask)
        if caption_index is None:
            caption_index = torch.arange(len(x_t), device=x_t.device)
        return self.denoise(x_t, t, memory, caption_index, drop_mask)

    def read(self, text_encodings: Tensor, text_embeds: Tensor, text_mask: Tensor) -> "Memory":
        """Returns the transformer's memory of K captions and, last, of the dropped caption.

        Captions come first and the transformer is causal, so the memory does not depend on x_t or
        t: a whole reverse diffusion needs it only once.
        """
        assert text_mask.shape == text_encodings.shape[:2], (
            f"text_mask {tuple(text_mask.shape)}, encodings {tuple(text_encodings.shape)}"
        )
        length = text_encodings.shape[1]
        is_null = torch.arange(len(text_embeds) + 1, device=text_mask.device) == len(text_embeds)
        text, mask = drop_text(
            F.pad(self.encoding_in(text_encodings), (0, 0, 0, 0, 0, 1)),
            F.pad(text_mask, (0, 0, 0, 1)),
            is_null,
            self.null_encoding,
        )  # (K + 1, L, dim), (K + 1, L)
        # From unit norm to entries of unit variance, so that no token starts smaller than others.
        embed = self.text_embed_in(text_embeds * self.embed_dim**0.5)  # (K, dim)
        embed = torch.cat([embed, self.null_text_embed[None].to(embed.dtype)])  # (K + 1, dim)
        embed = (embed + self.special_positions[0])[:, None]  # (K + 1, 1, dim)
        tokens = torch.cat([text + self.text_positions[:length], embed], dim=1)
        mask = F.pad(mask, (0, 1), value=True)
        return Memory(self.transformer.read(tokens, attention_mask(mask, causal=True)), mask)

    def denoise(
        self, x_t: Tensor, t: Tensor, memory: "Memory", caption_index: Tensor, drop_mask: Tensor
    ) -> Tensor:
        """Returns the model output (B, D) as `forward` does, with captions from `read`."""
        assert x_t.shape == (len(t), self.embed_dim), (x_t.shape, t.shape)
        rows = torch.where(drop_mask, len(memory.mask) - 1, caption_index)  # (B,)
        timestep = self.timestep_in(t)
        query = self.query.expand_as(timestep).to(timestep.dtype)
        tokens = torch.stack([timestep, self.noised_in(x_t), query], dim=1)  # (B, 3, dim)
        past = [(keys[rows], values[rows]) for keys, values in memory.keys_values]
        causal = torch.ones(3, 3, dtype=torch.bool, device=t.device).tril()
        mask = torch.cat(
            [memory.mask[rows, None].expand(-1, 3, -1), causal.expand(len(rows), 3, 3)], dim=-1
        )  # (B, 3, L + 1 + 3)
        h = self.transformer(tokens + self.special_positions[1:], mask[:, None], past)
        return self.out(h[:, -1]).to(x_t.dtype)  # (B, D)


class Memory(NamedTuple):
    """What the transformer keeps of K captions and, in the last row, of the dropped caption.

    keys_values: of each block, each (K + 1, L + 1, dim).
    mask: (K + 1, L + 1) bool, True = may be attended.
    """

    keys_values: list[KeysValues]
    mask: Tensor
