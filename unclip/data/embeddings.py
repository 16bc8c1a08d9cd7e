"""CLIP's embeddings, computed once by train_clip, because CLIP is frozen from then on.

A folder of arrays, written in pieces and memory-mapped when read: `<split>.npy` (N, D) and, where
mirrored pictures were asked for, `<split>_flipped.npy`; `captions.npy` (K, D),
`caption_encodings.npy` (K, L, text_dim) and `caption_mask.npy` (K, L), with L the longest caption
of the data set. All float32 but the mask.
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
    """Writes what the text tower makes of the distinct captions.

    Args:
        folder: of the embeddings, which exists.
        mask: (K, L) bool, on any device.
        text_dim: width of the encodings.
        pieces: embeddings (B, D) and encodings (B, L, text_dim) of the captions in their order.
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
    """Writes the embeddings of a split's pictures.

    Args:
        folder: of the embeddings, which exists.
        split: its name.
        flipped: whether they are those of the mirrored pictures.
        shape: (N, D).
        pieces: embeddings (B, D) float32 of the pictures in their order.
    """
    with create_npy(folder / f"{_name(split, flipped)}.npy", shape, np.float32) as file:
        for piece in pieces:
            file.write(piece.cpu().numpy().tobytes())


def _name(split: str, flipped: bool) -> str:
    return f"{split}_flipped" if flipped else split


class Embeddings:
    """Reads a folder of embeddings.

    Raises:
        UserError: an array is missing, damaged or does not fit the others.
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
        path = self.folder / f"{name}.npy"
        return open_npy(path, dtype, shape, made_by="train_clip")

    def images(self, split: str, *, flipped: bool = False) -> npt.NDArray[np.float32]:
        """Returns the embeddings (N, D) of a split's pictures, unit norm, memory-mapped.

        Raises:
            UserError: the file is missing (mirrored ones need clip.embed_flipped), damaged, or does
                not fit the captions.
        """
        name = _name(split, flipped)
        return self._open(name, np.float32, None, self._dim)

    def encodings(self, captions: Tensor) -> Tensor:
        """Returns text encodings (B, L, text_dim) of captions (B,) int64."""
        return torch.from_numpy(self._encodings[captions.numpy()])


def mean_per_caption(
    embeds: npt.NDArray[np.float32], captions: Tensor, num_captions: int
) -> Tensor:
    """Returns the mean embedding of each caption, (K, D), renormalised; zero where it has none.

    Args:
        embeds: (N, D), an array or a memory map, of which a part is read at a time.
        captions: (N,), whole numbers.
        num_captions: K.
    """
    sums = torch.zeros(num_captions, embeds.shape[1])
    for start in range(0, len(embeds), CHUNK):
        rows = slice(start, start + CHUNK)
        sums.index_add_(0, captions[rows], torch.from_numpy(np.array(embeds[rows])))
    return F.normalize(sums, dim=-1)
