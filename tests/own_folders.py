"""Small folders of captioned pictures, made on the spot."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 210)}
Row = Mapping[str, object]


def write_pictures(folder: Path, names: Sequence[str], side: int = 10) -> None:
    """Writes a PNG of noise for each name, each another."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "PNG")


def write_jsonl(folder: Path, rows: Sequence[Row]) -> None:
    """Writes metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")


def write_csv(folder: Path, rows: Sequence[Row]) -> None:
    """Writes metadata.csv, its columns those of the first row."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def rows_of(count: int, **columns: Sequence[object]) -> list[dict[str, object]]:
    """Returns rows for count pictures; values of each column go round."""
    columns = {"text": ["a red thing", "a green thing", "a blue thing"]} | columns
    return [
        {"file_name": f"{number:03}.png"}
        | {name: values[number % len(values)] for name, values in columns.items()}
        for number in range(count)
    ]


def make_folder(folder: Path, count: int = 40, **columns: Sequence[object]) -> Path:
    """Makes a folder that is as it should be."""
    rows = rows_of(count, **columns)
    write_jsonl(folder, rows)
    write_pictures(folder, [str(row["file_name"]) for row in rows])
    return folder
