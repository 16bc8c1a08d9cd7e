"""What every training stage does around its own work: keep a state, fit, record."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unclip.config.layout import MODEL_OF_STAGE, Layout, declared
from unclip.config.settings import main_repository
from unclip.core.artifacts import weights_hash
from unclip.core.device import processor
from unclip.running.preflight import require_space
from unclip.running.processes import require_even_shares
from unclip.running.state import key_of, open_state
from unclip.tracking.live import StageRun
from unclip.training.fit import Hook, fit
from unclip.training.ledger import Fitted
from unclip.training.task import Task

COPIES = 6  # of the weights: checkpoint, and in a state EMA, optimizer (2), last and kept ones
CURVES_AND_PICTURES = 10**7  # bytes that they may take


@contextmanager
def trained(
    task: Task[Any],
    layout: Layout,
    *,
    hooks: Callable[[StageRun], tuple[Hook, ...]] = lambda log: (),
    made: Path | None = None,
) -> Iterator[tuple[Fitted, StageRun]]:
    """Gives the trained weights and the stage's run in MLflow, to save and to add figures to.

    The run then names the checkpoint saved inside by its hash. Of several processes that share the
    training only the first returns; the others end here, since one is enough for the rest.

    Args:
        task: what to learn.
        layout: the workspace.
        hooks: further work at intervals, given the run.
        made: a folder that this work writes into.

    Raises:
        UserError: there is too little room, or the batches cannot be shared.
        SystemExit: this is not the first process, and it has done its part.
    """
    stage, params, accelerator = task.stage, task.params, task.machine.accelerator
    kind = MODEL_OF_STAGE[stage]
    require_even_shares(params.batch_size, f"{kind}.batch_size", task.share.count)
    model = task.new_model()
    fit_model = functools.partial(
        fit, model, task.loss, task.validate, params, stage=stage, accelerator=accelerator
    )
    if not task.share.leads:
        fit_model(log=None, history_path=None)
        accelerator.end_training()
        raise SystemExit(0)
    num_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
    require_space(layout.root, num_bytes * COPIES + CURVES_AND_PICTURES, stage)
    tags = {"precision": task.machine.precision, "processes": str(task.share.count)}
    with (
        open_state(states_folder(), stage, _key(task, layout), made) as state,
        StageRun(stage, {kind: params.model_dump()}, tags) as log,
    ):
        history = layout.history(stage)
        fitted = fit_model(log=log, history_path=history, hooks=hooks(log), state=state)
        accelerator.end_training()
        yield fitted, log
        log.set_tags({"output_hash": weights_hash(layout.model(kind))})


def states_folder() -> Path:
    """Returns where trainings keep their states, also those in DVC's temporary workspaces."""
    return main_repository() / ".state"


def _key(task: Task[Any], layout: Layout) -> str | None:
    """Returns the key of this training's state, or None outside of a pipeline."""
    dvc_yaml = layout.root / "dvc.yaml"
    if not dvc_yaml.exists():
        return None
    facts = {
        "params": task.params.model_dump(),
        "device": processor(task.machine.device),
        "precision": task.machine.precision,
        "threads": torch.get_num_threads(),
        "processes": task.share.count,
        "torch": torch.__version__,
    }
    return key_of(facts, layout.root, declared(dvc_yaml, task.stage, "deps"))
