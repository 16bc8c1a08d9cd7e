"""params.yaml with everything small, so that a whole pipeline takes seconds and paints noise."""

from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parent.parent
TINY: dict[str, dict[str, Any]] = {
    "data": {
        "image_size": 16,
        "shapes": {"num_objects": 1, "num_train": 600, "num_test": 300, "num_judge": 300},
    },
    "clip": {
        **{"embed_dim": 8, "vision_dim": 16, "vision_depth": 1, "vision_heads": 2},
        **{"text_dim": 16, "text_depth": 1, "text_heads": 2},
    },
    "prior": {"dim": 16, "depth": 1, "num_heads": 2},
    "decoder": {
        **{"model_channels": 8, "head_channels": 8, "attn_resolutions": [4]},
        **{"paint_every": 2, "paint_steps": 2, "lr": 2e-2},
    },
    "judge": {"channels": 8},
    "sample": {"num_judged": 80, "steps": 3, "prior_steps": 3, "num_per_prompt": 2},
    "evaluate": {"kid_subsets": 3, "kid_subset_size": 20},
}
TRAINING = {
    **{"train_steps": 4, "warmup_steps": 2, "batch_size": 16},
    **{"val_every": 2, "val_pictures": 50},
}


def tiny_params() -> dict[str, Any]:
    """Returns the params that ship, made tiny; every key of them is still there."""
    params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    for section, values in TINY.items():
        params[section].update(values)
    for section in ("clip", "prior", "decoder", "judge"):
        params[section].update(TRAINING)
    return params


def write_params(path: Path, params: dict[str, Any]) -> None:
    """Writes a params.yaml."""
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns dotted key → value; a list is one value."""
    found = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
