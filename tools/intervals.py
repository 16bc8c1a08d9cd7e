"""Print mean and 95 % interval of figures over seeds, from DVC's table of experiments.

    dvc exp show --csv | python tools/intervals.py joint_accuracy frechet_distance

Experiments whose values differ in nothing but seeds are one row.
"""

import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

PARAMS = Path("params.yaml")
# 97.5 % quantiles of Student's t distribution with 1, 2, … degrees of freedom.
STUDENT_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)

Row = Mapping[str, str]
Values = tuple[tuple[str, str], ...]


def interval(figures: list[float]) -> str:
    """Return the mean, and the half width of its 95 % interval where there are two or more."""
    mean, count = statistics.fmean(figures), len(figures)
    if count == 1:
        return f"{mean:.4g}"
    t = STUDENT_T[min(count - 1, len(STUDENT_T)) - 1]  # of 31 and more: a little too wide
    return f"{mean:.4g} ± {t * statistics.stdev(figures) / count**0.5:.2g}"


def groups(rows: Iterable[Row], sections: Iterable[str]) -> dict[Values, list[Row]]:
    """Return the experiments by all values that are no seed.

    Args:
        rows: of the table; commits and the workspace are left out.
        sections: of params.yaml.
    """
    prefixes = tuple(f"{section}." for section in sections)
    found = defaultdict(list)
    for row in rows:
        if row["typ"].startswith("branch_"):
            values = [
                (name, value)
                for name, value in row.items()
                if name.startswith(prefixes) and not name.endswith(".seed")
            ]
            found[tuple(values)].append(row)
    return found


def table(by_values: Mapping[Values, list[Row]], figures: list[str]) -> list[list[str]]:
    """Return a heading and a line for each group: the values that differ, how many, intervals."""
    first = next(iter(by_values))
    places = [i for i in range(len(first)) if len({values[i][1] for values in by_values}) > 1]
    lines = [[*(first[i][0] for i in places), "seeds", *figures]]
    for values, rows in sorted(by_values.items()):
        known = [row for row in rows if all(row[figure] for figure in figures)]
        cells = (
            [interval([float(row[figure]) for row in known]) for figure in figures]
            if known
            else ["-"] * len(figures)  # queued, running or failed
        )
        lines.append([*(values[i][1] for i in places), str(len(known)), *cells])
    return lines


def main() -> None:
    """Print the table."""
    rows, figures = list(csv.DictReader(sys.stdin)), sys.argv[1:]
    columns = list(rows[0]) if rows else []
    if not figures or not set(figures) <= set(columns) or "typ" not in columns:
        unknown = [name for name in figures if name not in columns] or ["no figure"]
        sys.exit(
            f"{unknown[0]}: not in the table; run `dvc exp show --csv | python tools/intervals.py "
            "FIGURE …` with figures of metrics/headline.json"
        )
    by_values = groups(rows, yaml.safe_load(PARAMS.read_text(encoding="utf-8")))
    if not by_values:
        sys.exit("no experiments in the table; `dvc exp run` makes one")
    lines = table(by_values, figures)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    main()
