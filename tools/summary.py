"""Say where the results of `dvc repro` are, how good they are, and what to do next."""

import json
import sys
from pathlib import Path

METRICS = Path("metrics/headline.json")

# Each figure with what it means, and the figure to read it against: its floor or its ceiling.
FIGURES = (
    ("joint_accuracy", "judge_real_accuracy", "the same judge on real pictures"),
    ("joint_accuracy_held_out", None, "captions that training never showed"),
    ("frechet_distance", "frechet_distance_floor", "real against real pictures"),
    ("zero_shot_accuracy", None, "CLIP alone, on real pictures"),
)

NEXT_STEPS = """\
Activate the environment; dvc, mlflow, pytest and python cli.py then work bare:
  . .venv/bin/activate
Paint, and change one value:
  python cli.py sample "a large red circle"
  dvc exp run -S decoder.lr=3e-4
See every run, curve and picture in MLflow (the first page takes about half a minute):
  mlflow ui                              # then http://127.0.0.1:5000
  MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1   # starts sooner"""


def read_metrics(path: Path) -> dict[str, object]:
    """The figures in the JSON file `path`.

    Exits with one line where the file is missing or broken.
    """
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        sys.exit(f"{path}: not there; run `dvc repro`, which writes it")
    except json.JSONDecodeError as error:
        sys.exit(f"{path}: not JSON ({error}); run `dvc repro`, which writes it anew")
    if not isinstance(metrics, dict):
        sys.exit(f"{path}: expected an object of named figures; run `dvc repro`")
    return metrics


def show(value: object) -> str:
    """`value` to three digits where it is a number."""
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def figure_lines(metrics: dict[str, object]) -> list[str]:
    """One line for each figure that the data set allows, beside what to read it against."""
    lines = []
    for name, reference, meaning in FIGURES:
        if name not in metrics:
            continue
        if reference in metrics:
            meaning = f"{meaning}: {show(metrics[reference])}"
        lines.append(f"  {name:<24}{show(metrics[name]):>6}   ({meaning})")
    return lines


def main() -> None:
    """Print the summary of the laboratory in the working folder."""
    figures = figure_lines(read_metrics(METRICS))
    pictures = [f"  {path}" for path in sorted(Path("samples").glob("*.png"))]
    print("\nThe pictures:", *pictures or ["  none in samples/"], sep="\n")
    print("How good they are:", *figures, sep="\n")
    print(NEXT_STEPS)


if __name__ == "__main__":
    main()
