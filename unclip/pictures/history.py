"""Training histories as stages leave them: CSV, a row a logged step."""

import csv
from pathlib import Path

from unclip.config.errors import UserError


def read_history(path: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Returns column → [(step, value)] of a CSV with a column `step`; empty cells are left out.

    Raises:
        UserError: no such file, no column `step`, or a cell that is not a number.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a training history as CSV") from None
    if "step" not in header:
        raise UserError(f"{path}: no column 'step' among {header}; expected a training history")
    history: dict[str, list[tuple[int, float]]] = {name: [] for name in header if name != "step"}
    for number, row in enumerate(rows, start=2):
        cells = {name: cell for name, cell in zip(header, row, strict=False) if cell.strip()}
        try:
            step = int(cells.pop("step"))
            for name, cell in cells.items():
                history[name].append((step, float(cell)))
        except (KeyError, ValueError):
            raise UserError(f"{path}: row {number} is {row}; expected numbers and a step") from None
    return history
