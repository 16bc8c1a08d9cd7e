"""A training in several processes of this machine, started and ended by torch's own launcher.

The number is a fact about the machine (`UNCLIP_PROCESSES`), so DVC calls a stage as ever, and the
stage starts itself anew as often as asked. Who prefers `accelerate launch` or `torchrun`, on
several machines for example, calls `-m stages.NAME` by them.
"""

import logging
import os
import socket
import sys
from datetime import timedelta

import psutil

from unclip.config.errors import UserError
from unclip.config.settings import num_processes

ANSWER_SECONDS = 5.0  # for the launcher's store, which is on a machine of ours


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


def num_started() -> int:
    """Returns how many processes a launcher has started of this command; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def run_in(count: int, stage: str) -> int:
    """Runs a stage in several processes of this machine; returns its status when all have ended.

    When one fails or this one is told to end, all are ended.

    Args:
        count: how many.
        stage: its name in dvc.yaml.
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
    except ChildFailedError:
        return 1
    except SignalException:
        return 130
    return 0


def has_another_failed_before() -> bool:
    """Returns whether another process of this training failed first, and so has said why.

    Each is told so once: whoever asks has failed too. Without an answer the first process speaks.
    """
    if num_started() == 1:
        return False
    from torch.distributed import TCPStore

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # TCPStore itself knocks again and again, with a page of complaints, where nobody is left.
        socket.create_connection((host, port), ANSWER_SECONDS).close()
        store = TCPStore(
            host,
            port,
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=ANSWER_SECONDS),
        )
        return store.add(f"failed of attempt {attempt}", 1) > 1
    except (KeyError, ValueError, OSError, RuntimeError):
        return os.environ.get("RANK", "0") != "0"


def has_lost_another(error: BaseException) -> bool:
    """Returns whether an error says that another process of this training is gone.

    Its connection broke, or the launcher has noticed first and now ends this one too.
    """
    if num_started() == 1:
        return False
    if isinstance(error, KeyboardInterrupt):
        return _num_running_here() < int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    from torch.distributed import DistError

    # gloo, which connects CPUs, raises a plain RuntimeError with its place in the source.
    return isinstance(error, DistError) or "gloo/transport" in str(error)


def _num_running_here() -> int:
    """Returns how many processes of this training run on this machine, this one among them."""
    launcher = psutil.Process().parent()
    running = 0
    for process in launcher.children() if launcher else []:
        try:
            running += process.status() != psutil.STATUS_ZOMBIE and "RANK" in process.environ()
        except psutil.Error:  # it ended while it was looked at
            continue
    return running
