import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unclip.config.errors import UserError
from unclip.config.layout import Layout, declared
from unclip.params.loading import load_params
from unclip.running.stage import exit_status

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture
def layout(tmp_path) -> Layout:
    shutil.copy(REPO / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  paint:\n    params: [sample, data]\n  bare: {}\n"
    )
    return Layout(tmp_path)


def test_a_stage_is_handed_the_sections_it_declares_and_no_others(layout):
    handed = []

    def run(layout, **sections):
        handed.append((layout, sections))

    assert exit_status("paint", run, layout) == 0
    assert exit_status("bare", run, layout) == 0
    assert handed[0][0] == layout
    assert [set(sections) for _, sections in handed] == [{"sample", "data"}, set()]
    assert handed[0][1]["sample"].num_judged >= 10


def test_of_a_section_a_stage_may_be_handed_single_values(layout):
    (layout.root / "dvc.yaml").write_text(
        "stages:\n  paint:\n    params: [sample.steps, sample.seed, data]\n"
    )
    handed = {}
    assert exit_status("paint", lambda layout, **sections: handed.update(sections), layout) == 0
    assert set(handed) == {"sample", "data"}
    whole = load_params(layout.params)
    assert vars(handed["sample"]) == {"steps": whole.sample.steps, "seed": whole.sample.seed}
    assert handed["data"] == whole.data


def test_a_value_that_a_stage_does_not_declare_can_not_be_read(layout):
    def run(layout, sample, data):
        return sample.lr

    with pytest.raises(AttributeError):
        exit_status("paint", run, layout)


def test_params_are_validated_as_a_whole_before_any_work(layout, capsys):
    text = layout.params.read_text()
    layout.params.write_text(text.replace("judge:\n", "judge:\n  sed: 1\n"))
    assert exit_status("paint", lambda *_, **__: pytest.fail("it ran"), layout) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(
        f"error: {layout.params}: judge.sed: unknown key (did you mean judge.seed?)"
    )


@pytest.mark.parametrize("is_aside", [False, True])
def test_a_refused_experiment_says_what_it_leaves_behind(layout, capsys, monkeypatch, is_aside):
    monkeypatch.setenv("DVC_EXP_NAME", "fox")
    monkeypatch.setenv("DVC_ROOT", str(layout.root.parent if is_aside else layout.root))
    layout.params.write_text("seed: 1\n")
    assert exit_status("paint", lambda *_, **__: pytest.fail("it ran"), layout) == 1
    err = capsys.readouterr().err
    assert ("the next `dvc repro` would use it" in err) == (not is_aside)


def test_each_line_of_a_users_mistake_is_a_line_of_its_own(layout, capsys):
    def run(layout, **sections):
        raise UserError("a: one\nb: two")

    assert exit_status("paint", run, layout) == 1
    assert capsys.readouterr().err == "error: a: one\nerror: b: two\n"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_one_line_that_says_what_to_lower(layout, capsys, error):
    def run(layout, **sections):
        raise error

    assert exit_status("paint", run, layout) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: paint: the device has too little memory; lower batch_size in")


def test_an_error_that_nothing_is_known_of_keeps_its_traceback(layout):
    def run(layout, **sections):
        raise RuntimeError("a shape that does not fit")

    with pytest.raises(RuntimeError, match="a shape"):
        exit_status("paint", run, layout)


def test_an_interrupted_stage_does_not_end_well(layout, capsys):
    def run(layout, **sections):
        raise KeyboardInterrupt

    assert exit_status("paint", run, layout) == 130
    assert capsys.readouterr().err.startswith("error: paint was interrupted")


def test_a_programmers_mistake_keeps_its_traceback(layout):
    def run(layout, **sections):
        raise AssertionError("shapes differ")

    with pytest.raises(AssertionError, match="shapes differ"):
        exit_status("paint", run, layout)


@pytest.mark.parametrize(
    "content", [None, "", "stages: {}\n", "- a\n", "a: [\n", "stages: {x: 3}\n"]
)
def test_a_stage_that_dvc_yaml_does_not_have_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "dvc.yaml").write_text(content)
    with pytest.raises(UserError, match="no stage 'x'; run from the folder that"):
        declared(tmp_path / "dvc.yaml", "x", "params")


def test_a_disk_that_takes_no_more_is_one_line(layout, capsys):
    def run(layout, **sections):
        raise OSError(28, "No space left on device", "models/clip/model.json")

    assert exit_status("paint", run, layout) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: paint: [Errno 28] No space left on device: 'models/clip/")


def test_a_character_that_the_terminal_lacks_is_replaced_and_no_traceback(layout):
    script = (
        "from unclip.config.errors import UserError\n"
        "from unclip.running.stage import main\n"
        "def run(layout):\n"
        "    print('猫')\n"
        "    raise UserError('← 猫: no such cat')\n"
        "main('bare', run)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=layout.root,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "?\n", "error: ? ?: no such cat\n")
