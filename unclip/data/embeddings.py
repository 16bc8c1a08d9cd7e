"""CLIP's embeddings as train_clip leaves them: computed once, because CLIP is frozen from then on.

A folder of arrays, memory-mapped when read: `<split>.npy` (N, D) and, where mirrored pictures were
asked for, `<split>_flipped.npy`; `captions.npy` (K, D), `caption_encodings.npy` (K, L, text_dim)
and `caption_mask.npy` (K, L), with L the longest caption of the data set. All float32 but the mask.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.core.npy import open_npy

CHUNK = 1000  # embeddings in memory at a time


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
        name = f"{split}_flipped" if flipped else split
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
