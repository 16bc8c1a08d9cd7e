"""Experiments side by side: their files, and the differences between them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unclip.config.errors import UserError
from unclip.config.strict import checked
from unclip.config.yaml12 import load_yaml
from unclip.params.sections import SampleParams
from unclip.tracking.workspace import flatten

if TYPE_CHECKING:
    from unclip.painting.painted import Painted

PARAMS, HEADLINE, EVALUATE = "params.yaml", "metrics/headline.json", "metrics/evaluate.json"
NONE = "–"  # of an experiment without such a value

# Of other figures neither more nor less is better: a diversity should match that of real pictures.
MORE_IS_BETTER = ("joint_accuracy", "joint_accuracy_held_out", "coverage", "zero_shot_accuracy")
LESS_IS_BETTER = ("frechet_distance",)


@dataclass(frozen=True)
class Experiment:
    """The files of a revision."""

    name: str  # given by the user
    commit: str  # its short hash; "" for a folder
    params: dict[str, str]  # params.yaml, flattened
    sample: SampleParams  # how it paints
    figures: dict[str, float]  # metrics/headline.json
    margins: dict[str, float]  # 95 %, of those figures that have one

    @property
    def dataset(self) -> str:
        """The data set that it learned."""
        return self.params.get("data.dataset", "")

    @property
    def origin(self) -> str:
        """Its commit and data set."""
        return ", ".join(filter(None, [self.commit, self.dataset]))


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    label: str
    cells: list[str]  # one for each experiment
    best: int | None = None  # the experiment that stands out


@dataclass(frozen=True)
class Comparison:
    """What the page shows of E experiments."""

    experiments: list[Experiment]  # in the order of the columns
    figures: list[Row]
    params: list[Row]  # those in which they differ
    prompts: list[str]
    painted: "list[list[Painted | None]]"  # E for each prompt; None: it did not paint this one
    remarks: list[str] = field(default_factory=list)


def read_experiment(
    name: str, commit: str, texts: Mapping[str, str], changes: Mapping[str, Any]
) -> Experiment:
    """Returns the experiment of a revision, with some changes to its sample section.

    Its sample section must be valid in this version; the others may be older. `texts` are its files
    by path; those with figures may be missing.

    Raises:
        UserError: params.yaml is missing or cannot be read, or a file of figures is damaged.
    """
    try:
        raw = load_yaml(texts[PARAMS])
        sample = checked(SampleParams, raw["sample"] | changes)
    except KeyError as error:
        raise UserError(
            f"{name}: has no {error.args[0]}; name a revision of this project"
        ) from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {PARAMS}: sample section: {error}") from None
    figures, every = _figures(name, texts, HEADLINE), _figures(name, texts, EVALUATE)
    margins = {key: every[f"{key}_margin"] for key in figures if f"{key}_margin" in every}
    return Experiment(name, commit, flatten(raw), sample, figures, margins)


def _figures(name: str, texts: Mapping[str, str], path: str) -> dict[str, float]:
    try:
        values = json.loads(texts.get(path, "{}"))
        return {k: float(v) for k, v in values.items() if isinstance(v, (int, float))}
    except (ValueError, AttributeError):
        raise UserError(f"{name}: {path}: is damaged; `dvc repro` writes it again") from None


def figure_rows(experiments: Sequence[Experiment]) -> list[Row]:
    """Returns the figures; one stands out if it is better than all others beyond both margins.

    Without margins, or with different data sets, none does.
    """
    names = dict.fromkeys(key for experiment in experiments for key in experiment.figures)
    compares = len({experiment.dataset for experiment in experiments}) == 1
    return [
        Row(name, [_cell(e, name) for e in experiments], _best(experiments, name, compares))
        for name in names
    ]


def _cell(experiment: Experiment, name: str) -> str:
    if name not in experiment.figures:
        return NONE
    value, margin = experiment.figures[name], experiment.margins.get(name, 0.0)
    if margin <= 0:
        return f"{value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(margin)))
    return f"{value:.{decimals}f} ± {margin:.{decimals}f}"


def _best(experiments: Sequence[Experiment], name: str, compares: bool) -> int | None:
    sign = (name in MORE_IS_BETTER) - (name in LESS_IS_BETTER)
    if not (compares and sign and all(name in e.margins for e in experiments)):
        return None
    ranges = [(sign * e.figures[name], e.margins[name]) for e in experiments]
    lows, highs = [v - margin for v, margin in ranges], [v + margin for v, margin in ranges]
    best = int(np.argmax(lows))
    return best if lows[best] > max(highs[:best] + highs[best + 1 :]) else None


def param_rows(experiments: Sequence[Experiment]) -> list[Row]:
    """Returns the params in which the experiments differ."""
    names = dict.fromkeys(key for experiment in experiments for key in experiment.params)
    rows = [Row(name, [e.params.get(name, NONE) for e in experiments]) for name in names]
    return [row for row in rows if len(set(row.cells)) > 1]
