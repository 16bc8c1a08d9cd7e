"""The processes of a stage: how many there are, who speaks for them, and what ends them.

The number is a fact about the machine (`UNCLIP_PROCESSES`), so DVC calls a stage as ever, and the
stage starts itself anew as often as asked, by torch's own launcher. Who prefers `accelerate launch`
or `torchrun`, on several machines for example, calls `-m stages.NAME` by them.
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
SECONDS_TO_SPEAK = 3.0  # that the first process has to speak for all


def num_started() -> int:
    """Returns how many processes a launcher has started of this command; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def num_to_start(stage: str, is_shared: bool) -> int:
    """Returns in how many processes a stage has yet to be started; 1 is this one.

    Args:
        stage: its name in dvc.yaml.
        is_shared: whether several processes can share its work.

    Raises:
        UserError: it was started in several and only one can do its work.
    """
    if (started := num_started()) == 1:
        return num_processes() if is_shared else 1
    if not is_shared:
        raise UserError(
            f"{stage}: was started in {started} processes, and its work is for one; "
            f"start it by `python -m stages.{stage}`"
        )
    return 1


def require_even_shares(batch_size: int, key: str, count: int) -> None:
    """Checks that `count` processes can share a batch.

    Args:
        batch_size: rows of a whole batch.
        key: where it stands in params.yaml.
        count: how many processes share it.

    Raises:
        UserError: they would have unequal parts.
    """
    if batch_size % count:
        raise UserError(
            f"{key}: {batch_size} is not a multiple of {count}, the number of processes "
            "that share each batch; set UNCLIP_PROCESSES to a number that divides it"
        )


def run_in(count: int, stage: str) -> int:
    """Runs a stage in several processes of this machine; returns its status when all have ended.

    When one fails or this one is told to end, all are ended.

    Args:
        count: how many.
        stage: its name in dvc.yaml.

    Raises:
        UserError: one of them was killed, and so could not say why.
        KeyboardInterrupt: this process was told to end.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # A stage says itself why it failed; that the launcher has noticed is no news.
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
    """Returns whether this process is the one that tells the user of an error, after a wait.

    All processes meet a mistake of the user's, and the first one speaks at once. Any other failure
    may come of a process that has ended before: then the launcher ends this one while it waits.
    """
    if num_started() == 1:
        return True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if isinstance(error, KeyboardInterrupt):
        return False  # the launcher speaks, which was told to end or ends this one for another
    if os.environ["RANK"] != "0" or not isinstance(error, UserError):
        time.sleep(SECONDS_TO_SPEAK)
    return True


def end_with_starter() -> None:
    """Sends this process SIGTERM once the launcher or DVC command that started it is gone.

    Killed, they leave their stages behind, and the next `dvc repro` would train beside them. A
    stage that was started by hand is left alone.
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
