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


def main() -> None:
    """Print the summary of the laboratory in the working folder."""
    try:
        metrics = json.loads(METRICS.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{METRICS}: {error}; run `dvc repro`, which writes it")
    pictures = [f"  {path}" for path in sorted(Path("samples").glob("*.png"))]
    print("\nThe pictures:", *pictures or ["  none in samples/"], sep="\n")
    print("How good they are:")
    for name, reference, meaning in FIGURES:
        if name in metrics:  # not every data set allows every figure
            beside = f": {metrics[reference]:.3g}" if reference in metrics else ""
            print(f"  {name:<24}{metrics[name]:>6.3g}   ({meaning}{beside})")
    print(NEXT_STEPS)


if __name__ == "__main__":
    main()
