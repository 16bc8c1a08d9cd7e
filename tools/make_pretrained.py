"""Make a folder to give away of what `dvc repro` trained: python tools/make_pretrained.py FOLDER

Weights in half precision, the recipe, the figures, a grid, and a model card written from them.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unclip.config.errors import UserError
from unclip.config.layout import KINDS, Layout
from unclip.config.streams import replace_what_cannot_be_shown
from unclip.core.artifacts import Artifact, load_artifact, save_artifact, weights_hash
from unclip.serving.card import CARD, FIGURES, GRID, model_card

PARAMS = "params.yaml"
MADE = {*KINDS, PARAMS, FIGURES, GRID, CARD}
USAGE = """\
```sh
python cli.py sample --from {folder} "{prompt}"
```"""


def main(folder: Path) -> None:
    """Write the folder anew, whole or not at all.

    Raises:
        UserError: something else lies there, or not everything is trained, painted and judged.
    """
    layout, place = Layout(), folder.resolve()
    _require_own(folder)
    artifacts = {kind: load_artifact(layout.model(kind), kind) for kind in KINDS}
    copied = {PARAMS: layout.params, FIGURES: layout.metrics("evaluate"), GRID: layout.grid}
    for source in copied.values():
        if not source.is_file():
            raise UserError(f"{source}: not there yet; `dvc repro` makes it")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as beside:
        new = Path(beside, "new")
        _save_halved(new, artifacts)
        for name, source in copied.items():
            shutil.copy(source, new / name)
        prompt = artifacts["clip"].facts.get("prompts", [""])[0]
        card = model_card(new, USAGE.format(folder=folder.as_posix(), prompt=prompt))
        (new / CARD).write_text(card, encoding="utf-8")
        if place.exists():
            os.replace(place, Path(beside, "old"))
        os.replace(new, place)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


def _require_own(folder: Path) -> None:
    """Raises UserError if a folder is there, and is neither empty nor one that was made here."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if (folder.exists() and not folder.is_dir()) or found not in (set(), MADE):
        raise UserError(
            f"{folder}: holds something else; expected a new folder, or one that was made by this "
            "tool; name another"
        )


def _save_halved(folder: Path, artifacts: Mapping[str, Artifact]) -> None:
    """Write the networks in half precision, each with the hash that CLIP has now."""
    clip_hash = ""
    for kind, artifact in artifacts.items():
        weights = {name: tensor.half() for name, tensor in artifact.weights.items()}
        inputs = artifact.inputs | ({"clip": clip_hash} if clip_hash else {})
        save_artifact(folder / kind, replace(artifact, weights=weights, inputs=inputs))
        clip_hash = clip_hash or weights_hash(folder / kind)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("error: expected one folder: python tools/make_pretrained.py FOLDER")
    replace_what_cannot_be_shown()
    try:
        main(Path(sys.argv[1]))
    except (UserError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
