"""The diffusion prior: from a caption to a CLIP image embedding.

Source: Ramesh et al. 2022, "Hierarchical Text-Conditional Image Generation with CLIP Latents"
(unCLIP), §2.2: a causal transformer whose last token predicts the unnoised image embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.models.attention import Transformer, attention_mask
from unclip.models.text import drop_text
from unclip.models.timestep import TimestepEmbedding

NUM_SPECIAL = 4  # text embedding, timestep, noised image embedding, learned query


class Prior(nn.Module):
    """Denoises image embeddings, given a caption's encodings and embedding.

    Positions are learned: one for each text index and one for each of the four tokens after the
    text, so cutting off common padding moves nothing.

    Args:
        embed_dim: width D of CLIP's space.
        text_dim: width of the text encodings.
        text_length: the longest text, in tokens.
        dim: width of the transformer; so with depth (blocks) and num_heads.
        depth: see dim.
        num_heads: see dim.
        dropout: probability, in training only.
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
        # At first the prediction is zero, which is the mean of standardised embeddings.
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
    ) -> Tensor:
        """Returns the model output (B, D), in the dtype of x_t, read off the learned query.

        Args:
            x_t: (B, D), noised image embeddings, of about unit variance an entry.
            t: (B,) int64.
            text_encodings: (B, L, text_dim), L <= text_length.
            text_embeds: (B, D), unit norm.
            text_mask: (B, L) bool, True = real token; token 0 is always real.
            drop_mask: (B,) bool, True = the caption (encodings and embedding) is replaced by
                learned nulls; the noised embedding stays.
        """
        length = text_encodings.shape[1]
        assert x_t.shape == text_embeds.shape, (x_t.shape, text_embeds.shape)
        assert text_mask.shape == text_encodings.shape[:2], (text_mask.shape, text_encodings.shape)
        # Unit norm to unit variance an entry, so that no token starts fainter than the others.
        text_embed = self.text_embed_in(text_embeds * self.embed_dim**0.5)  # (B, dim)
        text_embed = torch.where(drop_mask[:, None], self.null_text_embed, text_embed)
        text, mask = drop_text(
            self.encoding_in(text_encodings), text_mask, drop_mask, self.null_encoding
        )  # (B, L, dim), (B, L)
        query = self.query.expand_as(text_embed)
        special = torch.stack(
            [text_embed, self.timestep_in(t), self.noised_in(x_t), query], dim=1
        )  # (B, 4, dim)
        tokens = torch.cat(
            [text + self.text_positions[:length], special + self.special_positions], dim=1
        )  # (B, L + 4, dim)
        mask = F.pad(mask, (0, NUM_SPECIAL), value=True)
        h = self.transformer(tokens, attention_mask(mask, causal=True))
        return self.out(h[:, -1]).to(x_t.dtype)  # (B, D)
