import re
from types import SimpleNamespace

import pytest

from unclip.config.errors import UserError
from unclip.running.preflight import MARGIN, require_space


@pytest.fixture
def free(monkeypatch):
    """Sets the bytes that are free on every disk."""
    return lambda count: monkeypatch.setattr(
        "shutil.disk_usage", lambda _: SimpleNamespace(free=count)
    )


def test_room_for_three_times_what_is_written_is_enough(free, tmp_path):
    free(MARGIN * 1000)
    require_space(tmp_path, 1000, "train_toy")


def test_less_room_is_one_line_that_says_how_much_and_what_to_do(free, tmp_path):
    free(1.5e9)
    with pytest.raises(UserError) as error:
        require_space(tmp_path, 10**9, "train_toy")
    wanted = rf"{re.escape(str(tmp_path))}: 1\.5 GB are free, and train_toy wants 3\.0 .*: "
    assert re.match(wanted, str(error.value))
    assert "`dvc gc --all-commits --all-experiments`" in str(error.value), "it spares all in use"
    assert "\n" not in str(error.value)


def test_a_folder_that_can_not_be_written_to_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match="written to; train_toy"):
        require_space(tmp_path, 1, "train_toy")


@pytest.mark.parametrize("stage", ["prepare", "train_prior"])
def test_a_stage_looks_before_it_works(free, trained, stage, monkeypatch, tmp_path):
    from test_stages_training import copy_of

    free(1000)
    before = trained.layout.metrics("train_prior").stat().st_mtime_ns
    workspace = copy_of(trained, tmp_path / "copy")
    with pytest.raises(UserError, match="are free"):
        workspace.run(stage)
    assert trained.layout.metrics("train_prior").stat().st_mtime_ns == before
