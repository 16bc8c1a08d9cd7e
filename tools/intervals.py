"""Print mean and 95 % interval of figures over seeds, from DVC's table of experiments.

    dvc exp show --csv | python tools/intervals.py joint_accuracy frechet_distance

Experiments whose values differ in nothing but seeds are one row.
"""

import io
import sys
from pathlib import Path

import pandas as pd
import yaml
from scipy.special import stdtrit  # quantiles of Student's t

PARAMS = Path("params.yaml")


def interval(figures: pd.Series) -> str:
    """Returns the mean, and the half width of its 95 % interval where there are two or more."""
    if len(figures) < 2:
        return f"{figures.mean():.4g}" if len(figures) else "-"  # queued, running or failed
    half = stdtrit(len(figures) - 1, 0.975) * figures.sem()
    return f"{figures.mean():.4g} ± {half:.2g}"


def table(experiments: pd.DataFrame, sections: list[str], figures: list[str]) -> pd.DataFrame:
    """Returns a row for each group: the values that differ, how many seeds, intervals.

    Args:
        experiments: a row each, everything as text.
        sections: of params.yaml.
        figures: names of columns.
    """
    values = experiments.columns[experiments.columns.str.startswith(tuple(sections))]
    differing = [
        name
        for name in values
        if not name.endswith(".seed") and experiments[name].nunique(dropna=False) > 1
    ]
    lines = []
    for (_, *group), members in experiments.groupby([lambda _: 0, *differing], dropna=False):
        known = members[figures].dropna().astype(float)
        lines.append([*group, len(known), *(interval(known[name]) for name in figures)])
    return pd.DataFrame(lines, columns=[*differing, "seeds", *figures])


def main() -> None:
    """Print the table."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    rows, figures = pd.read_csv(io.StringIO(sys.stdin.read() or "typ"), dtype=str), sys.argv[1:]
    if not figures or not set(figures) <= set(rows):
        unknown = [name for name in figures if name not in rows] or ["no figure"]
        sys.exit(
            f"{unknown[0]}: not in the table; run `dvc exp show --csv | python tools/intervals.py "
            "FIGURE …` with figures of metrics/headline.json"
        )
    experiments = rows[rows["typ"].str.startswith("branch_")]
    if experiments.empty:
        sys.exit("no experiments in the table; `dvc exp run` makes one")
    sections = [f"{name}." for name in yaml.safe_load(PARAMS.read_text(encoding="utf-8"))]
    print(table(experiments, sections, figures).to_string(index=False))


if __name__ == "__main__":
    main()
