import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "tools/summary.py"


def write_metrics(root: Path, **figures: float) -> None:
    (root / "metrics").mkdir()
    (root / "metrics/headline.json").write_text(json.dumps(figures))


def summarize(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", str(SCRIPT)]  # -S: it has the standard library alone
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)


def test_the_summary_shows_each_figure_beside_its_reference(tmp_path):
    write_metrics(
        tmp_path,
        joint_accuracy=0.93125,
        judge_real_accuracy=0.995,
        frechet_distance=31.234,
        frechet_distance_floor=2.98,
        zero_shot_accuracy=0.98,
    )
    lines = summarize(tmp_path).stdout.splitlines()
    for numbers in (("0.931", "0.995"), ("31.2", "2.98"), ("0.98",)):
        assert any(all(number in line for number in numbers) for line in lines), numbers


def test_the_summary_leaves_out_a_figure_that_the_data_set_does_not_allow(tmp_path):
    write_metrics(tmp_path, frechet_distance=31.2, frechet_distance_floor=2.98)
    summary = summarize(tmp_path)
    assert summary.returncode == 0
    assert "joint_accuracy" not in summary.stdout


def test_the_summary_without_metrics_says_what_writes_them(tmp_path):
    summary = summarize(tmp_path)
    assert summary.returncode == 1
    assert summary.stderr.count("\n") == 1
    assert "dvc repro" in summary.stderr
