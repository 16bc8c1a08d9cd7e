"""docs/serving.md: its commands as they stand there, in a small repository that was reproduced."""

import re
import signal
import subprocess
import urllib.request

import pytest
from dvc_repo import Lab
from pages import blocks
from reproduced import EXPERIMENT

pytestmark = pytest.mark.slow


def commands(words: str) -> list[str]:
    """The commands of the page that begin with these words."""
    lines = [line for block in blocks("docs/serving.md") for line in block.splitlines()]
    return [line for line in lines if line.startswith(words)]


@pytest.fixture(scope="module")
def lab(reproduced_once, tmp_path_factory) -> Lab:
    return reproduced_once.copied(tmp_path_factory.mktemp("serving") / "lab").lab


def test_what_was_trained_here_and_what_came_with_the_code_are_registered(lab):
    for version, command in enumerate(commands("python cli.py register"), 1):
        said = lab.run("bash", "-euc", command)
        assert f"models:/unclip@champion: version {version}, " in said
    assert version == 2


@pytest.mark.parametrize("command", commands("python cli.py play"))
def test_the_page_to_play_on_opens_on_this_machine(lab, command):
    command = command.partition("#")[0].replace("NAME", EXPERIMENT)
    if "--port" not in command:
        command += " --port 0"  # another may have the usual one
    process = subprocess.Popen(
        ["bash", "-euc", f"exec {command}"],
        cwd=lab.root,
        env=lab.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = process.stdout.readline() + process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address, said + process.stderr.read()
        with urllib.request.urlopen(f"{address.group()}/facts", timeout=60) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, process.stderr.read()
