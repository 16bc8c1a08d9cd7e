"""A stage that DVC or a launcher started ends when that has ended, however that was.

Killed or terminated, DVC leaves its stages behind, and the next `dvc repro` would train beside it.
So does a launcher that is killed outright with its processes.
"""

import os
import signal
import threading
import time

import psutil

SECONDS = 1.0


def end_with_dvc() -> None:
    """Sends this process SIGTERM once the DVC command that started it is gone.

    A stage that was started by hand is left alone.
    """
    if "DVC_STAGE" not in os.environ:
        return
    dvc = next((p for p in psutil.Process().parents() if _is_dvc(p)), None)
    if dvc is not None:
        _end_with(dvc)


def end_with_launcher() -> None:
    """Sends this process SIGTERM once the launcher that started it in several processes is gone."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launcher = psutil.Process().parent()
    if launcher is not None:
        _end_with(launcher)


def _is_dvc(process: psutil.Process) -> bool:
    """Returns whether a process is DVC's command or one of its queue's workers."""
    try:
        return any(os.path.basename(part) == "dvc" for part in process.cmdline()[:3])
    except psutil.Error:
        return False


def _end_with(process: psutil.Process) -> None:
    threading.Thread(target=_watch, args=(process,), name="watch", daemon=True).start()


def _watch(process: psutil.Process) -> None:
    try:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(SECONDS)
    except psutil.NoSuchProcess:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
