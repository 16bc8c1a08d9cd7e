"""Writes the data set as arrays with normalisation stats, and shows some of it."""

import math

import numpy as np

from unclip.config.layout import Layout
from unclip.config.settings import raw_data_dir
from unclip.data.prepared import Prepared
from unclip.datasets.base import Context, DatasetSource
from unclip.datasets.writer import write_prepared
from unclip.params.sections import ClipParams, DataParams
from unclip.pictures.png import save_png
from unclip.pictures.sheets import preview
from unclip.running.preflight import NETWORKS, require_space
from unclip.running.progress import progress
from unclip.running.stage import main

STAGE = "prepare"
SHOWN = 32  # pictures of the preview


def run(layout: Layout, clip: ClipParams, data: DataParams) -> None:
    """Writes data/prepared and the preview."""
    source = load(layout, clip, data)
    splits = [split for split in (source.train, source.test, source.judge) if split is not None]
    num_bytes = sum(math.prod(split.images.shape) for split in splits)
    require_space(layout.root, num_bytes + NETWORKS, "the pipeline on this data set")
    with progress("writing pictures", sum(split.images.shape[0] for split in splits)) as bar:
        write_prepared(
            layout.prepared,
            source,
            name=data.dataset,
            image_size=data.image_size,
            val_fraction=data.val_fraction,
            seed=data.seed,
            advance=bar.advance,
        )
    prepared = Prepared(layout.prepared)
    train = prepared.split("train")
    shown = np.arange(min(SHOWN, len(train)))
    captions = [prepared.captions[int(i)] for i in train.caption_index[shown]]
    save_png(preview(np.array(train.images[shown]), captions), layout.preview)


def load(layout: Layout, clip: ClipParams, data: DataParams) -> DatasetSource:
    """Returns the data set that the params name."""
    return data.chosen.load(
        Context(
            image_size=data.image_size,
            seed=data.seed,
            val_fraction=data.val_fraction,
            text_length=clip.text_length,
            raw_dir=raw_data_dir(),
            root=layout.root,
        )
    )


if __name__ == "__main__":
    main(STAGE, run)
