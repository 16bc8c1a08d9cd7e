"""Captions as UTF-8 bytes: there is no vocabulary to train or store."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unclip.config.errors import require_readable
from unclip.data.text import fold

PADDING, START, END = 0, 2, 3
VOCAB_SIZE = 256
_ROLES = {PADDING: "padding", START: "start", END: "end"}


def tokenize(captions: Sequence[str], text_length: int) -> tuple[Tensor, Tensor]:
    """Returns text_tokens (N, text_length) int64 and text_mask (N, text_length) bool.

    A row is start, the bytes of the folded caption, end, then padding. The mask is True for
    real tokens, including start and end. Tokens are bytes: "é" is two.

    Raises:
        UserError: a caption is empty, too long, not text, or contains byte 0, 2 or 3.
    """
    assert not isinstance(captions, str), f"tokenize takes a list of captions, not {captions!r}"
    text_tokens = torch.full((len(captions), text_length), PADDING, dtype=torch.int64)
    text_mask = torch.zeros((len(captions), text_length), dtype=torch.bool)
    for row, caption in enumerate(captions):
        folded = fold(caption)
        require_readable(caption, folded, text_length, _ROLES)
        tokens = [START, *folded.encode(), END]
        text_tokens[row, : len(tokens)] = torch.tensor(tokens)
        text_mask[row, : len(tokens)] = True
    return text_tokens, text_mask


def trim_padding(text_tokens: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both, cut from (N, L) to the length of the longest text."""
    longest = int(text_mask.any(dim=0).sum())
    return text_tokens[:, :longest], text_mask[:, :longest]
