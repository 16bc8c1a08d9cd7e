"""`python cli.py profile`: where the time of a stage goes."""

import re
from pathlib import Path

import pytest
from dag import REPO


@pytest.mark.parametrize("stage", ["train_clip", "train_prior", "train_decoder", "train_judge"])
def test_profile_shows_the_dearest_operators_of_a_stage(run, trained, stage, monkeypatch):
    monkeypatch.chdir(trained.layout.root)
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    status, out, err = run("profile", stage, "--steps", "2", "--top", "3")
    assert status == 0, err
    assert re.match(rf"{stage} on cpu, fp32, \d+ threads: [\d.]+ ms a step, [\d.]+ GFLOP", out)
    shares = re.findall(r"^ *\S.*? +([\d.]+)% ", out, flags=re.MULTILINE)
    assert len(shares) == 3
    assert shares == sorted(shares, key=float, reverse=True)
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_profile_writes_a_trace(run, trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained.layout.root)
    run("profile", "train_prior", "--steps", "1", "--trace", tmp_path / "trace.json")
    assert '"traceEvents"' in (tmp_path / "trace.json").read_text()


def test_profile_before_anything_is_prepared_is_one_line(run, monkeypatch, tmp_path):
    (tmp_path / "params.yaml").write_bytes((REPO / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    status, _, err = run("profile", "train_clip")
    assert status == 1
    assert re.fullmatch(r"error: .*dataset\.json: is missing; .*`dvc repro .*prepare`.*\n", err)
