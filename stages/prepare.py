"""Brings the data set into arrays with normalisation stats, and shows some of it."""

import math

import numpy as np

from unclip.config.layout import Layout
from unclip.config.settings import raw_data_dir
from unclip.data.prepared import Prepared
from unclip.datasets.registry import load_dataset
from unclip.datasets.writer import write_prepared
from unclip.params import ClipParams, DataParams
from unclip.pictures.png import save_png
from unclip.pictures.sheets import preview
from unclip.running.preflight import NETWORKS, require_space
from unclip.running.stage import main

STAGE = "prepare"
SHOWN = 32  # pictures of the preview


def run(layout: Layout, clip: ClipParams, data: DataParams) -> None:
    """Writes data/prepared and the preview."""
    source = load_dataset(
        data.dataset,
        image_size=data.image_size,
        seed=data.seed,
        raw_dir=raw_data_dir(),
        options=options(layout, clip, data),
    )
    splits = [split for split in (source.train, source.test, source.judge) if split is not None]
    num_bytes = sum(math.prod(split.images.shape) for split in splits)
    require_space(layout.root, num_bytes + NETWORKS, "the pipeline on this data set")
    write_prepared(
        layout.prepared,
        source,
        image_size=data.image_size,
        val_fraction=data.val_fraction,
        seed=data.seed,
    )
    prepared = Prepared(layout.prepared)
    train = prepared.split("train")
    shown = np.arange(min(SHOWN, len(train)))
    captions = [prepared.captions[int(i)] for i in train.caption_index[shown]]
    save_png(preview(np.array(train.images[shown]), captions), layout.preview)


def options(layout: Layout, clip: ClipParams, data: DataParams) -> dict[str, object]:
    """Returns the arguments that the data set's loader has of its own."""
    own = dict(data.image_folder.model_dump())
    own |= {"folder": layout.root / own["folder"], "text_length": clip.text_length}
    by_dataset = {"image_folder": own, "shapes": dict(data.shapes.model_dump())}
    return by_dataset.get(data.dataset, {})


if __name__ == "__main__":
    main(STAGE, run)
