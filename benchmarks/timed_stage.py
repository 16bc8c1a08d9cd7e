"""Runs a stage as `python -m stages.NAME` does, and notes where its time goes.

    python -m benchmarks.timed_stage train_clip times.json

Loads nothing of its own but the standard library, so that import and start-up are the stage's.
"""

import functools
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.stopwatch import Stopwatch, replace_attribute

STARTED = "BENCHMARK_STARTED"  # as in child.py, which would load what is not the stage's
CATEGORIES = {
    "data": (
        "unclip.data.prepared:Prepared.__init__",
        "unclip.data.prepared:Prepared.split",
        "unclip.data.prepared:PreparedSplit.gather",
        "unclip.data.embeddings:Embeddings.__init__",
        "unclip.data.embeddings:Embeddings.images",
        "unclip.data.embeddings:Embeddings.encodings",
        "unclip.training.batches:ShuffledBatches.__call__",
        "unclip.training.augment:augment",
        "unclip.core.artifacts:load_artifact",
        "unclip.running.state:key_of",
        "unclip.datasets.registry:load_dataset",
        "unclip.datasets.shapes:draw",
    ),
    "compute": (
        "stages.train_clip:ClipTask.validate",
        "stages.train_clip:ClipTask.embed_all",
        "stages.train_prior:PriorTask.validate",
        "stages.train_decoder:DecoderTask.validate",
        "stages.train_decoder:DecoderTask.paint",
        "stages.train_judge:JudgeTask.validate",
        "unclip.evaluation.judging:judge_pictures",
        "unclip.painting.system:System.sample_prior",
        "unclip.painting.system:System.decode",
        "unclip.evaluation.distances:FrechetReference.distance",
        "unclip.evaluation.distances:kernel_distance",
        "unclip.data.embeddings:mean_per_caption",
        "unclip.evaluation.distances:paired_cosine",
    ),
    "writing": (
        "unclip.core.artifacts:save_artifact",
        "unclip.core.artifacts:write_json",
        "unclip.training.ledger:History.write",
        "unclip.running.state:TrainingState.save",
        "unclip.pictures.png:save_png",
        "unclip.pictures.sheets:grid",
        "unclip.pictures.sheets:trajectory",
        "unclip.pictures.sheets:preview",
        "unclip.pictures.charts:curves",
        "unclip.pictures.charts:bar_accuracies",
        "unclip.datasets.writer:write_prepared",
        "stages.train_decoder:save_grid",
        "numpy:save",
    ),
    "tracking": (
        "unclip.tracking.live:StageRun.__init__",
        "unclip.tracking.live:StageRun.__enter__",
        "unclip.tracking.live:StageRun.__exit__",
        "unclip.tracking.live:StageRun.log_metrics",
        "unclip.tracking.live:StageRun.log_image",
        "unclip.tracking.live:StageRun.set_tags",
        "unclip.tracking.record:record_experiment",
    ),
}
STEPS = "unclip.training.loop:Training.steps"  # an iterator: each of its steps is compute
WRITER = "unclip.tracking.live:StageRun._work"  # runs in MLflow's own thread


def main(stage: str, times: Path) -> int:
    """Returns the exit status of the stage; writes seconds by category.

    Args:
        stage: its name in dvc.yaml.
        times: a JSON file: `startup` to the call of the stage's work, `run` for all of that work,
            its parts by category, `laps` for each training step, `writer` for the processor time
            of MLflow's thread.
    """
    module = importlib.import_module(f"stages.{stage}")
    from unclip.config.layout import Layout
    from unclip.running.stage import exit_status

    watch, found = Stopwatch(), {"writer": 0.0}
    for category, targets in CATEGORIES.items():
        for target in targets:
            replace_attribute(target, functools.partial(watch.timed, category))
    replace_attribute(STEPS, functools.partial(watch.timed_iterator, "compute"))
    replace_attribute(WRITER, lambda f: _noting_thread_time(f, found))
    work = module.run

    def run(*arguments: Any, **sections: Any) -> None:
        found["startup"] = time.time() - float(os.environ[STARTED])
        start = time.perf_counter()
        work(*arguments, **sections)
        found["run"] = time.perf_counter() - start

    status = exit_status(stage, run, Layout())
    times.write_text(json.dumps(found | watch.spent | {"laps": watch.laps}), encoding="utf-8")
    return status


def _noting_thread_time(
    function: Callable[..., None], found: dict[str, float]
) -> Callable[..., None]:
    """Returns the function; the processor time of its thread is noted as `writer`."""

    def noted(*arguments: Any) -> None:
        function(*arguments)
        found["writer"] = time.thread_time()

    return noted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
