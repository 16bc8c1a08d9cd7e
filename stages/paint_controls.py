"""Paints what the prior must be better than, and what it cannot be better than (unCLIP §5.1).

The captions and noise are those of the pictures that `sample` paints for evaluate, as far as
training showed the captions. The image embeddings are others: the caption's text embedding, the
mean embedding of its training pictures, and the embedding of a real picture. The latter is a
validation picture: no network is trained on it, and evaluate compares with test pictures, never
with the picture itself. The prior takes no part, so experiments on the prior do not repeat this.
"""

import shutil

import numpy as np
import torch
from torch import Tensor

from unclip.config.layout import CONTROLS, Layout
from unclip.core.device import open_device, resolve_precision
from unclip.data.embeddings import Embeddings, mean_per_caption
from unclip.data.prepared import Prepared
from unclip.painting.judged import judged_captions
from unclip.painting.loading import load_system
from unclip.painting.settings import Settings, solver_of
from unclip.params.sections import SampleParams
from unclip.running.progress import progress
from unclip.running.stage import main

STAGE = "paint_controls"


def run(layout: Layout, sample: SampleParams) -> None:
    """Writes samples/controls: pictures (N, C, H, W) uint8 of each kind, caption i in row i."""
    data, embeddings = Prepared(layout.prepared), Embeddings(layout.embeddings)
    system = load_system(layout.models, open_device(), kinds=("clip", "decoder"))
    solver = solver_of(sample, "")
    precision = resolve_precision(sample.precision, system.device)
    settings = Settings(solver, solver, 1, sample.batch_size, precision)
    captions = judged_captions(data, sample.num_judged, sample.seed)[: sample.num_judged]
    prompts = [data.captions[i] for i in captions.tolist()]
    seeds = range(sample.seed, sample.seed + len(prompts))
    shutil.rmtree(layout.controls, ignore_errors=True)
    layout.controls.mkdir(parents=True)
    total = len(CONTROLS) * len(prompts)
    with progress("painting controls", total) as bar:
        for kind, embeds in control_embeds(data, embeddings, captions).items():
            painted = system.decode(embeds, prompts, seeds, settings, progress=bar.advance)
            np.save(layout.control(kind), painted)


def control_embeds(data: Prepared, embeddings: Embeddings, captions: Tensor) -> dict[str, Tensor]:
    """Returns the image embeddings (N, D), unit norm, that replace the prior's, by kind.

    The text embedding of a caption replaces a mean or an embedding of pictures that it lacks.
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
    """Returns the embeddings of the validation pictures of each caption in turn."""
    own, embeds = data.split("val").caption_index, embeddings.captions[captions].clone()
    for caption in captions.unique().tolist():
        rows, found = (captions == caption).nonzero()[:, 0], (own == caption).nonzero()[:, 0]
        if len(found) > 0:
            taken = found.repeat(-(-len(rows) // len(found)))[: len(rows)]
            embeds[rows] = torch.from_numpy(embeddings.images("val")[taken.numpy()])
    return embeds


if __name__ == "__main__":
    main(STAGE, run)
