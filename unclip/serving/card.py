"""The model card of a system to give away, written from the files that lie beside it."""

import json
from pathlib import Path
from typing import Any

from unclip.config.errors import UserError
from unclip.config.layout import KINDS
from unclip.core.artifacts import WEIGHTS, Artifact, load_artifact, weights_hash
from unclip.params.loading import load_params

RECIPE, FIGURES, GRID, CARD = "params.yaml", "evaluate.json", "grid.png", "README.md"

TITLES = {"clip": "CLIP", "fashion_mnist": "Fashion-MNIST", "image_folder": "own pictures"}
PRECISIONS = {2: "half", 4: "single"}  # by the bytes of a number
# Each figure as it is called, by its key, beside what real pictures reach, with its digits.
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


def model_card(folder: Path, usage: str) -> str:
    """Returns the card, in Markdown, of a system in a folder.

    Args:
        folder: with the folders clip, prior and decoder and params.yaml, and, where they were made,
            evaluate.json and grid.png.
        usage: how to paint with it, in Markdown.

    Raises:
        UserError: a network, its params or its figures are missing or damaged.
    """
    params = load_params(folder / RECIPE)
    artifacts = {kind: load_artifact(folder / kind, kind) for kind in KINDS}
    prompt = artifacts["clip"].facts.get("prompts", [""])[0]
    title = TITLES.get(params.data.dataset, params.data.dataset)
    size = params.data.image_size
    bytes_of_number = {kind: _bytes_of_number(folder, artifacts[kind]) for kind in KINDS}
    precision = PRECISIONS[max(bytes_of_number.values())]
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    picture = ["![Painted from captions](grid.png)", ""] if (folder / GRID).exists() else []
    facts = {
        **{TITLES.get(kind, kind): _network(folder, artifacts[kind]) for kind in KINDS},
        "files": f"safetensors in {precision} precision, {megabytes:.1f} MB; nothing is pickled",
        "trained on": f"the training pictures of {title}, less {params.data.val_fraction:.0%} for "
        "validation",
        "recipe": f"[params.yaml]({RECIPE}), `dvc repro`",
    }
    return "\n".join(
        [
            f"# {title}: a small unCLIP",
            "",
            f'Paints {size} × {size} pictures from captions such as "{prompt}".',
            "",
            usage.strip(),
            "",
            *picture,
            "| | |",
            "|---|---|",
            *(f"| {name} | {fact} |" for name, fact in facts.items()),
            "",
            "## Figures",
            "",
            *_figures(folder / FIGURES, rounded=precision == "half"),
            "",
            "## What it is not",
            "",
            "It knows the captions of its data set and their words, and nothing else of the world. "
            "Other prompts",
            "paint something; the command line names the words that it never saw.",
            "",
        ]
    )


def _network(folder: Path, artifact: Artifact) -> str:
    numbers = sum(tensor.numel() for tensor in artifact.weights.values())
    return f"{numbers:,} parameters, SHA-256 `{weights_hash(folder / artifact.kind)}`"


def _bytes_of_number(folder: Path, artifact: Artifact) -> int:
    """Returns how many bytes a weight takes in its file, which has little else in it."""
    numbers = sum(tensor.numel() for tensor in artifact.weights.values())
    size = (folder / artifact.kind / WEIGHTS).stat().st_size
    return 2 if size < 3 * numbers else 4


def _figures(path: Path, *, rounded: bool) -> list[str]:
    """Returns the lines on how good it is; `rounded` if the weights were better when judged."""
    if not path.exists():
        return ["Nobody has judged what it paints: `dvc repro` does."]
    figures = _read(path)
    count = figures.get("num_samples", "some")
    told = f"Of {count} pictures, one seed"
    if rounded:
        told += ", before the weights were rounded to half precision"
    return [
        f"{told}; ± is the 95 %",
        "margin. Every figure stands beside what real test pictures reach.",
        "",
        "| | painted | real |",
        "|---|---|---|",
        *(_row(figures, *row) for row in ROWS if row[1] in figures),
        "",
        f"All of them are in [evaluate.json]({FIGURES}). Distances are in the features of a judge "
        "trained",
        "on the same data set; they can not be compared with distances in other features.",
    ]


def _row(figures: dict[str, Any], name: str, key: str, real: str, digits: int) -> str:
    painted = f"{figures[key]:.{digits}f}"
    if f"{key}_margin" in figures:
        painted += f" ± {figures[f'{key}_margin']:.{digits}f}"
    reached = f"{figures[real]:.{digits}f}" if real in figures else "–"
    # Of real pictures as many are so near by what the figure means.
    return f"| {name} | {painted} | {'0.010' if key == 'memorised' else reached} |"


def _read(path: Path) -> dict[str, Any]:
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        return dict(figures)
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"{path}: not readable as JSON; expected figures by their names; run "
            "`dvc repro`, which writes it anew"
        ) from None
