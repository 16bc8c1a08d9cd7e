"""Peak memory of stages of their own process, from few pictures to many: files stay on disk."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dag import REPO
from workspace import Workspace

STATUS = Path("/proc/self/status")
pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(
        not STATUS.exists() or "RssAnon:" not in STATUS.read_text(encoding="utf-8"),
        reason="this system does not tell anonymous memory from mapped files",
    ),
]
FEW, MANY = 10_000, 400_000  # pictures
STAGES = ("prepare", "train_clip", "train_prior")
RUN = """
import sys
from unclip.config.layout import Layout
from unclip.params.loading import load_params
from workspace import Workspace

Workspace(Layout(), load_params(Layout().params)).run(sys.argv[1])
"""


def anonymous_memory(process: int) -> int:
    """KiB that a process holds now and that no file backs; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def peak_memory(stage: str, folder: Path) -> int:
    """The most anonymous memory, in KiB, that a stage is seen to hold while it runs in a folder."""
    environment = {"UNCLIP_TRACKING": "off", "UNCLIP_DEVICE": "cpu"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "tests")])}
    command = [sys.executable, "-c", RUN, stage]
    with subprocess.Popen(command, cwd=folder, env=os.environ | environment) as child:
        peak = 0
        while child.poll() is None:
            peak = max(peak, anonymous_memory(child.pid))
            time.sleep(0.005)
    assert child.returncode == 0
    return peak


@pytest.fixture(scope="module")
def peaks(tmp_path_factory) -> dict[str, list[int]]:
    """stage → its peak with few and with many pictures, in KiB."""
    found: dict[str, list[int]] = {stage: [] for stage in STAGES}
    for count in (FEW, MANY):
        folder = tmp_path_factory.mktemp(f"{count}_pictures")
        shapes = {"num_objects": 1, "num_train": count, "num_test": 300, "num_judge": 300}
        data = {"image_size": 8, "shapes": shapes}
        Workspace.at(folder, data=data, clip={"embed_dim": 64})
        for stage in STAGES:
            found[stage].append(peak_memory(stage, folder))
        shutil.rmtree(folder / "data")
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_forty_times_the_pictures_take_no_more_memory(peaks, stage):
    few, many = peaks[stage]
    assert many < 1.1 * few
