"""The features of Inception, in which papers give the Fréchet distance (FID, Heusel et al. 2017).

The network is that of torch-fidelity, an optional package: the weights of 2015 that every FID is
made with, and pictures brought to 299 × 299 as TensorFlow 1 did it. Nothing is ever downloaded: the
weights are a file that the user has.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unclip.config.errors import UserError
from unclip.core.artifacts import file_hash
from unclip.core.device import open_machine
from unclip.running.preflight import INCEPTION_WEIGHTS, require_inception
from unclip.running.progress import track

BATCH = 50  # pictures; changes speed and memory only
PUBLISHED = "6726825d"  # begins the SHA-256 of the file that published distances are made with


@dataclass(frozen=True)
class Inception:
    """The network of the Fréchet inception distance.

    Attributes:
        network: pictures (B, 3, H, W) uint8 -> a tuple of features (B, 2048).
        device: where it computes.
    """

    network: Any
    device: str

    @classmethod
    def open(cls) -> "Inception":
        """Returns the network with the weights that the machine names.

        Raises:
            UserError: torch-fidelity is not installed, or the file is missing or not such weights.
        """
        path = require_inception()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        device = open_machine("fp32").device
        try:
            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
            )
        except Exception as error:  # of the many ways in which a file can be something else
            raise UserError(
                f"{path}: is not a file of Inception's weights ({type(error).__name__}); "
                f"{INCEPTION_WEIGHTS}"
            ) from None
        if not file_hash(path).startswith(PUBLISHED):
            print(
                f"warning: {path}: not the weights of published distances (SHA-256 {PUBLISHED}…); "
                "compare with distances by the same file only",
                file=sys.stderr,
            )
        return cls(network.to(device), device)

    @torch.inference_mode()
    def features(self, images: npt.NDArray[np.uint8], what: str) -> Tensor:
        """Returns features (N, 2048) float32, on the CPU.

        Args:
            images: (N, C, H, W), an array or a memory map; one channel stands for all three.
            what: the pictures are, for the progress bar.
        """
        starts = range(0, len(images), BATCH)
        found = []
        for start in track(starts, f"Inception, {what}", len(starts)):
            batch = torch.from_numpy(np.array(images[start : start + BATCH]))
            (features,) = self.network(batch.expand(-1, 3, -1, -1).to(self.device))
            found.append(features.float().cpu())
        return torch.cat(found)
