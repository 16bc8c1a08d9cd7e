"""A stage that DVC started ends when DVC has ended, however that was.

Killed or terminated, DVC leaves its stages behind, and the next `dvc repro` would train beside it.
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
        threading.Thread(target=_watch, args=(dvc,), name="dvc-watch", daemon=True).start()


def _is_dvc(process: psutil.Process) -> bool:
    """Returns whether a process is DVC's command or one of its queue's workers."""
    try:
        return any(os.path.basename(part) == "dvc" for part in process.cmdline()[:3])
    except psutil.Error:
        return False


def _watch(dvc: psutil.Process) -> None:
    try:
        while dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
            time.sleep(SECONDS)
    except psutil.NoSuchProcess:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
