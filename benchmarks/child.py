"""Commands in a process of their own: how long they take and how much memory they need."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workspace import REPOSITORY
from unclip.config.settings import num_threads

STARTED = "BENCHMARK_STARTED"  # tells a child when its process was asked for, seconds since 1970
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Finished:
    """A command that ended well.

    Attributes:
        seconds: from the start of its process to its end.
        peak_memory: the most anonymous memory it held, in bytes; None where Linux does not say so.
    """

    seconds: float
    peak_memory: int | None


def run_child(
    command: Sequence[str | Path], folder: Path, variables: Mapping[str, str] | None = None
) -> Finished:
    """Runs a command in a folder, as in a workspace of its own, to its end.

    Args:
        command: program and arguments.
        folder: its working folder; also where MLflow's records go.
        variables: more environment variables.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    environment = os.environ | _environment(folder) | dict(variables or {})
    peak = None
    with tempfile.TemporaryFile() as output:
        environment[STARTED] = repr(time.time())
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            peak = max(filter(None, (peak, anonymous_memory(process.pid))), default=None)
            _wait(process)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(map(str, command))}: {process.returncode}\n{said}")
    return Finished(seconds, peak)


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return


def _environment(folder: Path) -> dict[str, str]:
    """Returns what makes a folder the main repository of a stage, on this machine's settings."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "DVC_ROOT": str(folder.resolve()),
        "DVC_SITE_CACHE_DIR": str(folder.resolve() / ".dvc" / "site"),
        "UNCLIP_THREADS": str(num_threads()),
    }


def anonymous_memory(pid: int) -> int | None:
    """Returns the anonymous memory of a process in bytes, which no file backs; None if unknown."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) * 1024 if lines else None
