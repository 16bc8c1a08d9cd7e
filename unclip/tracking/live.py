"""A training stage's run in MLflow, written while it trains, which never waits for it."""

import math
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import psutil
from PIL import Image

from unclip.config.errors import first_line
from unclip.tracking.address import is_tracking_on
from unclip.tracking.store import STAGES, Point, Store, now_ms, open_store
from unclip.tracking.workspace import experiment_name, find_commit, flatten

FLUSH_SECONDS = 5.0
EXIT_SECONDS = 60.0
INTERRUPT_SECONDS = 10.0  # after Ctrl-C nobody wants to wait

Job = Callable[[Store, str], None]


class StageRun:
    """One run in `unclip-stages`, used as a context manager around a training.

    Every method only puts a copy into a queue; a background thread imports mlflow, opens the store
    and writes. If MLflow fails, one line on stderr says so and all later calls do nothing: files
    are the truth and MLflow is a view of them. With UNCLIP_TRACKING=off no call does anything.

    Args:
        stage: the stage's name in dvc.yaml.
        params: of the stage; nested ones are flattened to dotted keys.
        tags: more tags for the run.
    """

    def __init__(
        self, stage: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> None:
        self.run_id: str | None = None  # known once the thread has opened the store
        self._stage, self._params, self._tags = stage, flatten(params), dict(tags or {})
        self._started = now_ms()
        self._silent = not is_tracking_on()
        # Points, another call of the store, or the final status.
        self._queue: queue.SimpleQueue[list[Point] | Job | str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)

    def __enter__(self) -> Self:
        if not self._silent:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._silent:
            return
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self._queue.put("KILLED" if interrupted else "FAILED" if kind else "FINISHED")
        self._thread.join(INTERRUPT_SECONDS if interrupted else EXIT_SECONDS)
        if self._thread.is_alive():
            self._give_up("the store did not answer in time")

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queues metric values at a training step, except those that are not finite."""
        now = now_ms()
        values = ((key, float(value)) for key, value in metrics.items())
        self._put([Point(key, v, now, step) for key, v in values if math.isfinite(v)])

    def log_image(self, key: str, image: Image.Image, step: int) -> None:
        """Queues a picture."""
        copied = image.copy()
        self._put(lambda store, run_id: store.client.log_image(run_id, copied, key=key, step=step))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queues tags. The record finds this run by `output_hash`, of the weight file."""
        copied = dict(tags)
        self._put(lambda store, run_id: store.log(run_id, tags=copied))

    def _put(self, item: list[Point] | Job) -> None:
        if not self._silent:
            self._queue.put(item)

    def _give_up(self, reason: str) -> None:
        if self._silent:
            return
        self._silent = True
        print(
            f"warning: MLflow: {reason}; {self._stage} goes on without it, and"
            " `python cli.py log` rebuilds the record",
            file=sys.stderr,
            flush=True,
        )

    def _work(self) -> None:
        try:
            store = open_store()
            close_dead_runs(store)
            self.run_id = self._create(store)
            self._write(store, self.run_id)
        except Exception as error:
            self._give_up(first_line(error))

    def _create(self, store: Store) -> str:
        commit, name = find_commit(), experiment_name()
        tags = {
            "stage": self._stage,
            "dvc_exp": name,
            "commit": commit,
            "mlflow.source.name": f"stages/{self._stage}.py",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": commit,
            "host": socket.gethostname(),
            # Pids are reused; with its start time a process is unique.
            "pid": str(os.getpid()),
            "process_started": f"{psutil.Process().create_time():.0f}",
            **self._tags,
        }
        label = f"{self._stage} {name or commit[:7]}".strip()
        run_id = store.create_run(STAGES, label, tags, self._started)
        store.log(run_id, params=self._params)
        return run_id

    def _write(self, store: Store, run_id: str) -> None:
        """Writes items of the queue until the final status comes; collects points first."""
        points: list[Point] = []
        due = time.monotonic() + FLUSH_SECONDS
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                item = []
            if isinstance(item, list):
                points += item
                if time.monotonic() < due:
                    continue
            store.log(run_id, points=points)
            points, due = [], time.monotonic() + FLUSH_SECONDS
            if isinstance(item, str):
                return store.client.set_terminated(run_id, status=item)
            if callable(item):
                item(store, run_id)


def close_dead_runs(store: Store) -> None:
    """Marks as KILLED the runs of this machine that say RUNNING although their process is gone."""
    for run in store.find_runs(STAGES, {"host": socket.gethostname()}, status="RUNNING"):
        try:
            started = psutil.Process(int(run.tags["pid"])).create_time()
        except psutil.NoSuchProcess:
            started = math.inf
        # The system derives the start from the boot time, which a clock correction shifts.
        if abs(started - float(run.tags["process_started"])) > 5:
            store.client.set_terminated(run.id, status="KILLED")
