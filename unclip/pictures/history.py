"""Training histories as stages leave them: CSV, one row for each logged step."""

import csv
from pathlib import Path

from unclip.config.errors import reading


def read_history(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns column → [(step, value)] of a CSV with a column `step`; empty cells are left out.

    Raises:
        UserError: the file is missing, has no column `step`, or a cell is not a number.
    """
    with reading(path, path.stem), path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        columns = [name for name in rows.fieldnames or [] if name != "step"]
        history: dict[str, list[tuple[int, float]]] = {name: [] for name in columns}
        for row in rows:
            step = int(row["step"])
            for name in columns:
                if row[name]:
                    history[name].append((step, float(row[name])))
        return history
