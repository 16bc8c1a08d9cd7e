"""CLIP's embeddings. train_clip computes them once, because CLIP is frozen afterwards.

They are a folder of arrays, written in pieces and memory-mapped for reading: `<split>.npy` (N, D)
and, if requested, `<split>_flipped.npy` for mirrored pictures; `captions.npy` (K, D),
`caption_encodings.npy` (K, L, text_dim) and `caption_mask.npy` (K, L), where L is the length of the
longest caption. All are float32 except the mask.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.core.npy import create_npy, open_npy

CHUNK = 1000  # embeddings in memory at a time


def write_captions(
    folder: Path, mask: Tensor, text_dim: int, pieces: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Writes the text tower's outputs for the distinct captions.

    Args:
        folder: an existing folder.
        mask: (K, L) bool.
        text_dim: width of the encodings.
        pieces: batches of embeddings (B, D) and encodings (B, L, text_dim), in order.
    """
    embeds = []
    shape = (*mask.shape, text_dim)
    with create_npy(folder / "caption_encodings.npy", shape, np.float32) as file:
        for piece, encodings in pieces:
            embeds.append(piece.cpu())
            file.write(encodings.cpu().numpy().tobytes())
    np.save(folder / "captions.npy", torch.cat(embeds).numpy())
    np.save(folder / "caption_mask.npy", mask.cpu().numpy())


def write_images(
    folder: Path, split: str, flipped: bool, shape: tuple[int, int], pieces: Iterable[Tensor]
) -> None:
    """Writes the embeddings (N, D) of a split's pictures.

    Args:
        folder: an existing folder.
        split: the name of the split.
        flipped: whether the pictures are mirrored.
        shape: (N, D).
        pieces: batches of embeddings (B, D) float32, in order.
    """
    with create_npy(folder / f"{_name(split, flipped)}.npy", shape, np.float32) as file:
        for piece in pieces:
            file.write(piece.cpu().numpy().tobytes())


def _name(split: str, flipped: bool) -> str:
    return f"{split}_flipped" if flipped else split


class Embeddings:
    """Reads a folder of embeddings.

    Raises:
        UserError: an array is missing or damaged, or does not match the others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        captions = self._open("captions", np.float32, None, None)
        count, self._dim = captions.shape
        mask = self._open("caption_mask", np.bool_, count, None)
        self._encodings = self._open("caption_encodings", np.float32, *mask.shape, None)
        self.captions = torch.from_numpy(np.array(captions))
        self.caption_mask = torch.from_numpy(np.array(mask))

    def _open(self, name: str, dtype: npt.DTypeLike, *shape: int | None) -> npt.NDArray[Any]:
        return open_npy(self.folder / f"{name}.npy", dtype, shape, made_by="train_clip")

    def images(self, split: str, *, flipped: bool = False) -> npt.NDArray[np.float32]:
        """Returns the embeddings (N, D) of a split's pictures, unit norm, memory-mapped.

        Raises:
            UserError: the file is missing (mirrored pictures need clip.embed_flipped) or damaged,
                or does not match the captions.
        """
        return self._open(_name(split, flipped), np.float32, None, self._dim)

    def encodings(self, captions: Tensor) -> Tensor:
        """Returns text encodings (B, L, text_dim) of captions (B,) int64."""
        return torch.from_numpy(self._encodings[captions.numpy()])


def mean_per_caption(
    embeds: npt.NDArray[np.float32], captions: Tensor, num_captions: int
) -> Tensor:
    """Returns the mean embedding of each caption, (K, D), renormalised; zero without pictures.

    Args:
        embeds: (N, D), an array or a memory map, read in chunks.
        captions: (N,), the caption of each picture.
        num_captions: K.
    """
    sums = torch.zeros(num_captions, embeds.shape[1])
    for start in range(0, len(embeds), CHUNK):
        rows = slice(start, start + CHUNK)
        sums.index_add_(0, captions[rows], torch.from_numpy(np.array(embeds[rows])))
    return F.normalize(sums, dim=-1)
