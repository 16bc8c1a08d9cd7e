"""CLIP's embeddings as train_clip leaves them: computed once, because CLIP is frozen from then on.

A folder of arrays, memory-mapped when read: `<split>.npy` (N, D) and, where mirrored pictures were
asked for, `<split>_flipped.npy`; `captions.npy` (K, D), `caption_encodings.npy` (K, L, text_dim)
and `caption_mask.npy` (K, L), with L the longest caption of the data set. All float32 but the mask.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unclip.errors import UserError


class Embeddings:
    """Reads a folder of embeddings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.captions = torch.from_numpy(np.array(self._open("captions")))
        self.caption_mask = torch.from_numpy(np.array(self._open("caption_mask")))
        self._encodings = self._open("caption_encodings")

    def _open(self, name: str) -> npt.NDArray:
        path = self.folder / f"{name}.npy"
        try:
            # As a plain ndarray, whose look-ups are faster.
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError):
            raise UserError(
                f"{path}: missing or damaged; make it again with `dvc repro train_clip`"
            ) from None

    def images(self, split: str, *, flipped: bool = False) -> npt.NDArray[np.float32]:
        """Returns the embeddings (N, D) of a split's pictures, unit norm, memory-mapped.

        Raises:
            UserError: mirrored ones are wanted and were not made.
        """
        if flipped and not (self.folder / f"{split}_flipped.npy").exists():
            raise UserError(
                f"{self.folder}: holds no embeddings of mirrored pictures, which decoder.flip "
                "needs; set clip.embed_flipped: true, for a data set that allows flips"
            )
        return self._open(f"{split}_flipped" if flipped else split)

    def encodings(self, captions: Tensor) -> Tensor:
        """Returns text encodings (B, L, text_dim) of captions (B,) int64."""
        return torch.from_numpy(self._encodings[captions.numpy()])
