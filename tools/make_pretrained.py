"""Make a folder to give away of what `dvc repro` trained: python tools/make_pretrained.py FOLDER

Weights in half precision, the recipe, the figures, a grid, and a model card written from them.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unclip.artifacts import load_artifact, save_artifact, weights_hash
from unclip.layout import Layout
from unclip.params import load_params
from unclip.pipeline import KINDS

CARD = """\
# {dataset}: a small unCLIP

Paints {size} × {size} pictures from captions such as "{prompt}".

```sh
python cli.py sample --from {folder} "{prompt}"
```

![Painted from captions](grid.png)

| | |
|---|---|
| networks | CLIP {clip}, prior {prior}, decoder {decoder} parameters |
| files | safetensors in half precision, {megabytes:.1f} MB; nothing is pickled |
| trained on | the training pictures of {dataset}, less {val:.0%} for validation |
| recipe | [params.yaml](params.yaml), `dvc repro` |

## Figures

Of {num} pictures, one seed, before the weights were rounded to half precision; ± is the 95 %
margin. Every figure stands beside what as many real test pictures reach.

| | painted | real |
|---|---|---|
| the judge sees what the caption says | {joint_accuracy} | {judge_real_accuracy:.3f} |
| Fréchet distance | {frechet_distance} | {frechet_distance_floor:.2f} |
| precision | {precision} | {precision_ceiling:.3f} |
| recall | {recall} | {recall_ceiling:.3f} |
| density | {density} | {density_ceiling:.3f} |
| coverage | {coverage} | {coverage_ceiling:.3f} |
| diversity within a caption | {diversity} | {diversity_ceiling:.3f} |
| nearer to a training picture than 99 % of real ones | {memorised:.3f} | 0.010 |

All of them are in [evaluate.json](evaluate.json). Distances are in the features of a judge trained
on the same data set; they can not be compared with distances in other features.

## What it is not

It knows the captions of its data set and their words, and nothing else of the world. Other prompts
paint something; the command line names the words that it never saw.
"""
MARGINED = ("joint_accuracy", "precision", "recall", "density", "coverage", "diversity")


def main(folder: Path) -> None:
    """Write the folder anew."""
    layout = Layout()
    params = load_params(layout.params)
    figures = json.loads(layout.metrics("evaluate").read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    counts, clip_hash, prompts = {}, "", [""]
    for kind in KINDS:
        artifact = load_artifact(layout.model(kind), kind)
        weights = {name: tensor.half() for name, tensor in artifact.weights.items()}
        inputs = artifact.inputs | ({"clip": clip_hash} if clip_hash else {})
        save_artifact(folder / kind, replace(artifact, weights=weights, inputs=inputs))
        clip_hash = clip_hash or weights_hash(folder / kind)
        counts[kind] = f"{sum(tensor.numel() for tensor in weights.values()):,}"
        prompts = artifact.facts.get("prompts", prompts)  # CLIP has them
    shutil.copy(layout.params, folder / "params.yaml")
    shutil.copy(layout.metrics("evaluate"), folder / "evaluate.json")
    shutil.copy(layout.grid, folder / "grid.png")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    shown: dict[str, Any] = figures | {
        name: f"{figures[name]:.3f} ± {figures[f'{name}_margin']:.3f}" for name in MARGINED
    }
    distance, margin = figures["frechet_distance"], figures["frechet_distance_margin"]
    shown |= {"frechet_distance": f"{distance:.2f} ± {margin:.2f}", "num": figures["num_samples"]}
    card = CARD.format(
        **shown,
        **counts,
        dataset={"fashion_mnist": "Fashion-MNIST"}.get(params.data.dataset, params.data.dataset),
        size=params.data.image_size,
        prompt=prompts[0],
        folder=folder.as_posix(),
        megabytes=size / 1e6,
        val=params.data.val_fraction,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
