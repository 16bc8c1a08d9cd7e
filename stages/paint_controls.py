"""Paints what the prior must be better than, and what it cannot be better than (unCLIP §5.1).

The captions and the noise of the pictures that `sample` leaves for evaluate, as far as training
showed the captions, but each painted from another image embedding: its caption's text embedding,
the mean embedding of its caption's training pictures, and the embedding of a real picture. That is
a validation picture: nothing was trained on one, and evaluate judges against test pictures, so that
none is held against its own reconstruction. No prior takes part, so that experiments on the prior
do not repeat it.
"""

import shutil

import numpy as np
import torch
from torch import Tensor

from unclip.config.layout import CONTROLS, Layout
from unclip.core.device import open_machine
from unclip.data.embeddings import Embeddings, mean_per_caption
from unclip.data.prepared import Prepared
from unclip.diffusion.reverse import Solver
from unclip.painting.judged import judged_captions
from unclip.painting.painter import Painter
from unclip.params import SampleParams
from unclip.running.progress import progress
from unclip.running.stage import main

STAGE = "paint_controls"


def run(layout: Layout, sample: SampleParams) -> None:
    """Writes samples/controls: pictures (N, C, H, W) uint8 of each kind, caption i in row i."""
    machine = open_machine(sample.precision)
    data, embeddings = Prepared(layout.prepared), Embeddings(layout.embeddings)
    painter = Painter.load(layout.models, machine.device)
    solver = Solver(sample.sampler, sample.steps, sample.eta, sample.guidance)
    captions = judged_captions(data, sample.num_judged, sample.seed)[: sample.num_judged]
    prompts = [data.captions[i] for i in captions.tolist()]
    seeds = range(sample.seed, sample.seed + len(prompts))
    shutil.rmtree(layout.controls, ignore_errors=True)
    layout.controls.mkdir(parents=True)
    total = len(CONTROLS) * len(prompts)
    with machine.accelerator.autocast(), progress("painting controls", total) as bar:
        for kind, embeds in control_embeds(data, embeddings, captions).items():
            painted = painter.decode(
                embeds, prompts, seeds, solver, sample.batch_size, progress=bar.advance
            )
            np.save(layout.control(kind), painted)


def control_embeds(data: Prepared, embeddings: Embeddings, captions: Tensor) -> dict[str, Tensor]:
    """Returns the image embeddings (N, D), unit norm, that stand in for the prior's, by kind.

    Where a caption has no training picture for a mean, or no validation picture, its text embedding
    takes the place.
    """
    train = data.split("train").caption_index
    texts = embeddings.captions
    means = mean_per_caption(embeddings.images("train"), train, len(data.captions))
    means = torch.where(means.norm(dim=1, keepdim=True) > 0, means, texts)
    kinds = {
        "text_embed": texts[captions],
        "caption_mean": means[captions],
        "image_embed": _real_embeds(data, embeddings, captions),
    }
    assert tuple(kinds) == CONTROLS
    return kinds


def _real_embeds(data: Prepared, embeddings: Embeddings, captions: Tensor) -> Tensor:
    """Returns that of a validation picture of each caption: another each time, then round."""
    own, embeds = data.split("val").caption_index, embeddings.captions[captions].clone()
    for caption in captions.unique().tolist():
        rows, found = (captions == caption).nonzero()[:, 0], (own == caption).nonzero()[:, 0]
        if len(found) > 0:
            taken = found.repeat(-(-len(rows) // len(found)))[: len(rows)]
            embeds[rows] = torch.from_numpy(embeddings.images("val")[taken.numpy()])
    return embeds


if __name__ == "__main__":
    main(STAGE, run)
