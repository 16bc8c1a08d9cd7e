"""Temporary workspaces: drawn pictures, and networks that have learned for a single step.

What a network has learned changes no time.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from unclip.config.layout import Layout
from unclip.config.yaml12 import load_yaml
from unclip.params.loading import validate_params

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED = REPOSITORY / "params.yaml"
TUTORIAL = REPOSITORY / "recipes" / "fashion_mnist.yaml"
FEWEST = 64  # pictures of a split, by params.py
ONE_STEP = {"train_steps": 1, "warmup_steps": 0, "val_every": 1, "val_pictures": 2}


@dataclass(frozen=True)
class Scale:
    """How much is measured; as it stands, what docs/performance.md needs.

    Attributes:
        rounds: turns of each contender.
        turn_seconds: about how long a turn lasts; at least one unit of work.
        pictures: of the data set.
        large_recipe: params of the large networks: the tutorial's UNet, about 15 M parameters.
        large_batch: pictures of its training step.
        sampling_steps: steps of the decoder that are compared.
        paint_batches: pictures painted at once.
        naive_steps: of the naive sampling's 1000; the rest is taken to last as long.
    """

    rounds: int = 7
    turn_seconds: float = 2.0
    pictures: int = 2400
    large_recipe: Path = TUTORIAL
    large_batch: int = 32
    sampling_steps: tuple[int, ...] = (5, 10, 25, 50, 250)
    paint_batches: tuple[int, ...] = (1, 10, 50, 200)
    naive_steps: int = 20


USUAL = Scale()
QUICK = Scale(
    rounds=1,
    turn_seconds=0.0,
    pictures=320,
    large_recipe=SHIPPED,
    large_batch=4,
    sampling_steps=(2,),
    paint_batches=(1, 4),
    naive_steps=2,
)


def make_workspaces(folder: Path, scale: Scale) -> tuple[Path, Path]:
    """Returns two new workspaces below a folder: of the shipped and of the large networks."""
    return (
        _make(folder / "shipped", SHIPPED, scale.pictures),
        _make(folder / "large", scale.large_recipe, scale.pictures, scale.large_batch),
    )


def _make(root: Path, recipe: Path, pictures: int, decoder_batch: int | None = None) -> Path:
    """Returns a workspace in which steps can be timed and pictures painted.

    Args:
        root: a folder to be made.
        recipe: a YAML file with all params; its data set becomes the built-in one.
        pictures: for training and validation together; the other splits hold a quarter as many.
        decoder_batch: pictures of the decoder's training step; None is the recipe's number.
    """
    from stages import prepare, train_clip, train_decoder, train_prior

    raw = load_yaml(recipe.read_text(encoding="utf-8"))
    others = max(FEWEST, pictures // 4)
    raw["data"]["dataset"] = "shapes"
    raw["data"]["shapes"] |= {"num_train": pictures, "num_test": others, "num_judge": others}
    for section in ("clip", "prior", "decoder", "judge"):
        raw[section] |= ONE_STEP
    raw["decoder"] |= {"paint_every": 1, "paint_steps": 1}
    raw["decoder"]["batch_size"] = decoder_batch or raw["decoder"]["batch_size"]
    params, layout = validate_params(raw, where=recipe.name), Layout(root)
    root.mkdir(parents=True)
    layout.params.write_text(yaml.safe_dump(raw), encoding="utf-8")
    os.environ["UNCLIP_TRACKING"] = "off"
    prepare.run(layout, params.clip, params.data)
    train_clip.run(layout, params.clip)
    train_prior.run(layout, params.prior)
    train_decoder.run(layout, params.decoder)
    return root
