"""All that evaluate judges, loaded once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unclip.config.layout import CONTROLS, Layout
from unclip.core.artifacts import build, load_artifact
from unclip.core.device import open_machine
from unclip.data.embeddings import Embeddings, mean_per_caption
from unclip.data.prepared import Prepared
from unclip.evaluation.judging import Verdict, judge_pictures
from unclip.models.judge import Judge


@dataclass(frozen=True)
class Scene:
    """All that is judged.

    Attributes:
        data: the prepared data set.
        captions: (N,) int64, of the painted pictures.
        images: (N, C, H, W) uint8, the painted pictures, memory-mapped.
        painted: the judge's verdict on them.
        control_images: pictures of the same captions, as far as training showed them, painted
            without the prior.
        controls: the judge's verdicts on them.
        real_captions: (M,) int32, of the real test pictures.
        real_attributes: (M, A) int16.
        real_images: (M, C, H, W) uint8, memory-mapped.
        real: the judge's verdict on them.
        prior_embeds: (N, D), from which the pictures were painted.
        text_embeds: (K, D), CLIP's embedding of every caption.
        real_embeds: (M, D), CLIP's embeddings of the test pictures.
        train_means: (K, D), the mean embedding of each caption's training pictures.
        held_out: (K,) bool, captions that training never showed.
    """

    data: Prepared
    captions: Tensor
    images: npt.NDArray[np.uint8]
    painted: Verdict
    control_images: dict[str, npt.NDArray[np.uint8]]
    controls: dict[str, Verdict]
    real_captions: Tensor
    real_attributes: Tensor
    real_images: npt.NDArray[np.uint8]
    real: Verdict
    prior_embeds: Tensor
    text_embeds: Tensor
    real_embeds: Tensor
    train_means: Tensor
    held_out: Tensor

    @classmethod
    def of(cls, layout: Layout) -> "Scene":
        """Returns the scene of a workspace."""
        machine = open_machine("fp32")
        data, embeddings = Prepared(layout.prepared), Embeddings(layout.embeddings)
        folder = layout.model("judge")
        judge = build(load_artifact(folder, "judge"), Judge, folder).to(machine.device)

        def judged(pictures: npt.NDArray[np.uint8]) -> Verdict:
            return judge_pictures(judge, data, pictures, machine.device)

        test, train = data.split("test"), data.split("train")
        images = np.load(layout.judged / "images.npy", mmap_mode="r")
        control_images = {kind: np.load(layout.control(kind), mmap_mode="r") for kind in CONTROLS}
        held_out = torch.zeros(len(data.captions), dtype=torch.bool)
        held_out[data.held_out_captions] = True
        return cls(
            data,
            torch.from_numpy(np.load(layout.judged / "caption_index.npy")),
            images,
            judged(images),
            control_images,
            {kind: judged(pictures) for kind, pictures in control_images.items()},
            test.caption_index,
            test.attributes,
            test.images,
            judged(test.images),
            torch.from_numpy(np.load(layout.judged / "prior_embeds.npy")),
            embeddings.captions,
            torch.from_numpy(np.array(embeddings.images("test"))),
            mean_per_caption(embeddings.images("train"), train.caption_index, len(data.captions)),
            held_out,
        )

    @property
    def seen(self) -> Tensor:
        """Returns which painted pictures have a caption that training showed, (N,) bool."""
        return ~self.held_out[self.captions]

    @property
    def real_seen(self) -> Tensor:
        """Returns the rows of the real pictures with such a caption, (M,) int64."""
        return (~self.held_out[self.real_captions]).nonzero()[:, 0]
