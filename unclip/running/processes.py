"""The processes of a stage: how many there are, who speaks for them, and what ends them.

Their number is a setting of the machine (`UNCLIP_PROCESSES`): DVC starts a stage once, and the
stage starts itself in so many processes by torch's launcher. `accelerate launch` and `torchrun`,
which also span several machines, work with `-m stages.NAME`.
"""

import logging
import os
import signal
import sys
import threading
import time

import psutil

from unclip.config.errors import UserError
from unclip.config.settings import num_processes

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_SPEAK = 3.0  # for the first process to speak for all


def num_started() -> int:
    """Returns how many processes a launcher has started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def num_to_start(stage: str, is_shared: bool) -> int:
    """Returns in how many processes to start a stage; 1 is this process alone.

    Raises:
        UserError: a launcher has started several, and its work is for one.
    """
    if (started := num_started()) == 1:
        return num_processes() if is_shared else 1
    if not is_shared:
        raise UserError(
            f"{stage}: was started in {started} processes, and its work is for one; "
            f"start it with `python -m stages.{stage}`"
        )
    return 1


def require_even_shares(batch_size: int, key: str, count: int) -> None:
    """Checks that `count` processes can share a batch, whose size has this key in params.yaml.

    Raises:
        UserError: their parts would be unequal.
    """
    if batch_size % count:
        raise UserError(
            f"{key}: {batch_size} is not a multiple of {count}, the number of processes "
            "that share each batch; set UNCLIP_PROCESSES to a number that divides it"
        )


def run_in(count: int, stage: str) -> int:
    """Runs a stage in `count` processes of this machine and returns its exit status.

    When one fails, or this process is told to end, all are ended.

    Raises:
        UserError: one of them was killed, and could not say why.
        KeyboardInterrupt: this process was told to end.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The stage itself says why it failed; the launcher's report adds nothing.
    logger = logging.getLogger("torch.distributed.elastic")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        run_id=f"{stage}-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        local_addr="localhost",
    )
    try:
        elastic_launch(config, sys.executable)("-m", f"stages.{stage}")
    except ChildFailedError as error:
        if any(failure.exitcode == 1 for failure in error.failures.values()):
            return 1  # it has said why
        raise UserError(
            f"{stage}: one of its processes was killed (out of memory?); `dvc repro` goes on"
        ) from None
    except SignalException:
        raise KeyboardInterrupt from None
    return 0


def is_to_explain(error: BaseException) -> bool:
    """Returns whether this process tells the user of an error; all but the first wait before.

    All processes meet a user's mistake, and the first reports it at once. Any other failure may
    follow from a process that has already ended: then the launcher ends this one while it waits.
    """
    if num_started() == 1:
        return True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if isinstance(error, KeyboardInterrupt):
        return False  # the launcher reports it
    if os.environ["RANK"] != "0" or not isinstance(error, UserError):
        time.sleep(SECONDS_TO_SPEAK)
    return True


def end_with_starter() -> None:
    """Sends this process SIGTERM once the launcher or DVC command that started it is gone.

    If they are killed, their stages would go on, and the next `dvc repro` would train beside them.
    """
    starter = None
    if num_started() > 1:
        starter = psutil.Process().parent()
    elif "DVC_STAGE" in os.environ:
        starter = next((p for p in psutil.Process().parents() if _is_dvc(p)), None)
    if starter is not None:
        threading.Thread(target=_end_with, args=(starter,), daemon=True).start()


def _is_dvc(process: psutil.Process) -> bool:
    """Returns whether a process is DVC's command or one of its queue's workers."""
    try:
        return any(os.path.basename(part) == "dvc" for part in process.cmdline()[:3])
    except psutil.Error:
        return False


def _end_with(process: psutil.Process) -> None:
    try:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    except psutil.NoSuchProcess:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
