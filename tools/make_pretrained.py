"""Make a folder to give away of what `dvc repro` trained: python tools/make_pretrained.py FOLDER

Weights in half precision, the recipe, the figures, a grid, and a model card written from them.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unclip.artifacts import load_artifact, save_artifact, weights_hash
from unclip.card import CARD, FIGURES, GRID, RECIPE, model_card
from unclip.layout import KINDS, Layout

USAGE = """\
```sh
python cli.py sample --from {folder} "{prompt}"
```"""


def main(folder: Path) -> None:
    """Write the folder anew."""
    layout = Layout()
    shutil.rmtree(folder, ignore_errors=True)
    clip_hash, prompts = "", [""]
    for kind in KINDS:
        artifact = load_artifact(layout.model(kind), kind)
        weights = {name: tensor.half() for name, tensor in artifact.weights.items()}
        inputs = artifact.inputs | ({"clip": clip_hash} if clip_hash else {})
        save_artifact(folder / kind, replace(artifact, weights=weights, inputs=inputs))
        clip_hash = clip_hash or weights_hash(folder / kind)
        prompts = artifact.facts.get("prompts", prompts)  # CLIP has them
    shutil.copy(layout.params, folder / RECIPE)
    shutil.copy(layout.metrics("evaluate"), folder / FIGURES)
    shutil.copy(layout.grid, folder / GRID)
    card = model_card(folder, USAGE.format(folder=folder.as_posix(), prompt=prompts[0]))
    (folder / CARD).write_text(card, encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
