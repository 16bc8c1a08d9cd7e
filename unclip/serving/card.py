"""The model card of a system to give away, written from the files beside it."""

import json
from pathlib import Path
from typing import Any

from unclip.config.errors import reading
from unclip.config.layout import KINDS, Layout
from unclip.core.artifacts import WEIGHTS, load_artifact, weights_hash
from unclip.params.loading import load_params

FIGURES, GRID, CARD = "evaluate.json", "grid.png", "README.md"

TITLES = {"clip": "CLIP", "fashion_mnist": "Fashion-MNIST", "image_folder": "own pictures"}
# Of each figure its name, its key, the key of what real pictures reach, and its decimals.
ROWS = (
    ("the judge sees what the caption says", "joint_accuracy", "judge_real_accuracy", 3),
    ("the same, of captions held out of training", "joint_accuracy_held_out", "", 3),
    ("Fréchet distance", "frechet_distance", "frechet_distance_floor", 2),
    ("precision", "precision", "precision_ceiling", 3),
    ("recall", "recall", "recall_ceiling", 3),
    ("density", "density", "density_ceiling", 3),
    ("coverage", "coverage", "coverage_ceiling", 3),
    ("diversity within a caption", "diversity", "diversity_ceiling", 3),
    ("nearer to a training picture than 99 % of real ones", "memorised", "", 3),
)
CARD_TEXT = """\
# {title}: a small unCLIP

Paints {size} × {size} pictures from captions such as "{prompt}".

{usage}

{picture}| | |
|---|---|
{networks}
| files | safetensors in {precision} precision, {megabytes:.1f} MB; nothing is pickled |
| trained on | the training pictures of {title}, less {val_fraction:.0%} for validation |
| made by | [params.yaml](params.yaml), `dvc repro` |

## Figures

{figures}

## What it is not

It knows the captions of its data set and their words, and nothing else of the world. Other prompts
paint something; the command line names the words that it never saw.
"""
FIGURES_TEXT = """\
Of {count} pictures, one seed{rounded}; ± is the 95 %
margin. Beside every figure is what real test pictures reach.

| | painted | real |
|---|---|---|
{rows}

All of them are in [evaluate.json](evaluate.json). Distances are in the features of a judge trained
on the same data set; they cannot be compared with distances in other features."""


def model_card(folder: Path, usage: str) -> str:
    """Returns the card, in Markdown, of a system in a folder; `usage` says how to paint with it.

    The folder holds clip, prior, decoder and params.yaml, and perhaps evaluate.json and grid.png.

    Raises:
        UserError: a network or its params are missing or damaged.
    """
    params = load_params(Layout(folder).params)
    networks, is_half, prompt = [], True, ""
    for kind in KINDS:
        artifact = load_artifact(folder / kind, kind)
        prompt = prompt or artifact.facts["prompts"][0]
        count = sum(tensor.numel() for tensor in artifact.weights.values())
        is_half &= (folder / kind / WEIGHTS).stat().st_size < 3 * count
        name, digest = TITLES.get(kind, kind), weights_hash(folder / kind)
        networks.append(f"| {name} | {count:,} parameters, SHA-256 `{digest}` |")
    return CARD_TEXT.format(
        title=TITLES.get(params.data.dataset, params.data.dataset),
        size=params.data.image_size,
        prompt=prompt,
        usage=usage.strip(),
        picture="![Painted from captions](grid.png)\n\n" if (folder / GRID).exists() else "",
        networks="\n".join(networks),
        precision="half" if is_half else "single",
        megabytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6,
        val_fraction=params.data.val_fraction,
        figures=_figures(folder / FIGURES, is_half),
    )


def _figures(path: Path, is_half: bool) -> str:
    """Returns the figures as a table; half precision was rounded after the judging."""
    if not path.exists():
        return "Nobody has judged what it paints: `dvc repro` does."
    with reading(path, "evaluate"):
        figures = json.loads(path.read_text(encoding="utf-8"))
    return FIGURES_TEXT.format(
        count=figures.get("num_samples", "some"),
        rounded=", before the weights were rounded to half precision" if is_half else "",
        rows="\n".join(_row(figures, *row) for row in ROWS if row[1] in figures),
    )


def _row(figures: dict[str, Any], name: str, key: str, real: str, digits: int) -> str:
    painted = f"{figures[key]:.{digits}f}"
    if f"{key}_margin" in figures:
        painted += f" ± {figures[f'{key}_margin']:.{digits}f}"
    reached = f"{figures[real]:.{digits}f}" if real in figures else "–"
    # By definition, 1 % of real pictures are nearer than 99 % of them.
    return f"| {name} | {painted} | {'0.010' if key == 'memorised' else reached} |"
