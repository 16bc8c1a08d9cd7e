"""Temporary workspaces with everything a stage reads: drawn pictures, networks with first weights.

What a network has learned changes no time, so nothing is trained here.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from accelerate import PartialState

from stages import prepare, train_clip, train_decoder, train_judge, train_prior
from unclip.config.layout import Layout
from unclip.config.yaml12 import load_yaml
from unclip.core.artifacts import Artifact, save_artifact, weights_hash
from unclip.core.device import Machine
from unclip.core.seeding import generator
from unclip.data.prepared import Prepared
from unclip.params.loading import validate_params
from unclip.params.sections import Params

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED = REPOSITORY / "params.yaml"
TUTORIAL = REPOSITORY / "recipes" / "fashion_mnist.yaml"
FEWEST = 64  # pictures of a split, by Shapes

Changes = dict[str, dict[str, Any]]


def changed_params(recipe: Path, pictures: int, changes: Changes | None = None) -> Params:
    """Returns the params of a recipe, on the built-in data set.

    Args:
        recipe: a YAML file with all params.
        pictures: for training and validation together; the other splits hold a quarter as many.
        changes: values by section.

    Raises:
        UserError: the params are not valid.
    """
    raw = load_yaml(recipe.read_text(encoding="utf-8"))
    others = max(FEWEST, pictures // 4)
    raw["data"] |= {
        "dataset": "shapes",
        "shapes": {
            "num_objects": 1,
            "num_train": pictures,
            "num_test": others,
            "num_judge": others,
        },
    }
    for section, values in (changes or {}).items():
        raw[section] |= values
    return validate_params(raw, where=recipe.name)


def write_params(folder: Path, params: Params) -> Layout:
    """Returns the layout of a folder with params, dvc.yaml and the code that it names.

    Enough for a stage to run there; the code is linked, so that it need not be compiled again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(params.model_dump(), sort_keys=False)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    (folder / "dvc.yaml").write_bytes((REPOSITORY / "dvc.yaml").read_bytes())
    for name in ("stages", "unclip"):
        (folder / name).symlink_to(REPOSITORY / name, target_is_directory=True)
    return Layout(folder)


def make_workspace(folder: Path, params: Params) -> Layout:
    """Returns the layout of a workspace in which every stage can run and pictures be painted."""
    layout = write_params(folder, params)
    prepare.run(layout, params.clip, params.data)
    write_untrained(layout, params)
    return layout


def write_untrained(layout: Layout, params: Params) -> None:
    """Writes all networks with their first weights, and random embeddings, of prepared data."""
    machine = Machine("cpu", "fp32", PartialState(cpu=True))
    data = Prepared(layout.prepared)
    clip = train_clip.Task.of(layout, params.clip, machine)
    facts: dict[str, Any] = {"dataset": data.name, "prompts": data.prompts, "words": []}
    artifact = Artifact("clip", clip.config, clip.new_model().state_dict(), facts)
    save_artifact(layout.model("clip"), artifact)
    _write_embeddings(layout, data, params.clip.embed_dim, params.clip.text_dim, clip.mask)

    inputs = {"clip": weights_hash(layout.model("clip"))}
    prior = train_prior.Task.of(layout, params.prior, machine)
    facts = {"embed_mean": prior.mean.tolist(), "embed_std": prior.std.tolist()}
    _save(layout, "prior", prior, facts | {"diffusion": asdict(prior.diffusion)}, inputs)
    decoder = train_decoder.Task.of(layout, params.decoder, machine)
    facts = {"mean": data.mean, "std": data.std, "diffusion": asdict(decoder.diffusion)}
    _save(layout, "decoder", decoder, facts, inputs)
    _save(layout, "judge", train_judge.Task.of(layout, params.judge, machine), {}, {})


def _save(layout: Layout, kind: str, task: Any, facts: dict[str, Any], inputs: Any) -> None:
    artifact = Artifact(kind, task.config, task.new_model().state_dict(), facts, inputs)
    save_artifact(layout.model(kind), artifact)


def _write_embeddings(
    layout: Layout, data: Prepared, embed_dim: int, text_dim: int, mask: torch.Tensor
) -> None:
    """Writes unit vectors where CLIP would have put its own."""
    draws = generator(0, "benchmark embeddings")
    arrays: dict[str, torch.Tensor] = {}
    counts = {"captions": len(data.captions)}
    counts |= {split: data.counts[split] for split in ("train", "val", "test")}
    for name, count in counts.items():
        vectors = torch.randn(count, embed_dim, generator=draws)
        arrays[name] = F.normalize(vectors, dim=-1)
    encodings = torch.randn(*mask.shape, text_dim, generator=draws)
    arrays |= {"caption_encodings": encodings * mask[..., None], "caption_mask": mask}
    layout.embeddings.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(layout.embeddings / f"{name}.npy", array.numpy())
