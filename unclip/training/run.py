"""What every training stage does around its own work: keep a state, fit, record."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unclip.config.layout import MODEL_OF_STAGE, Layout, declared
from unclip.config.settings import main_repository
from unclip.core.artifacts import weights_hash
from unclip.core.device import Machine, processor
from unclip.running.preflight import require_space
from unclip.running.processes import require_even_shares
from unclip.running.state import key_of, open_state
from unclip.tracking.live import StageRun
from unclip.training.fit import Hook, fit
from unclip.training.ledger import Fitted
from unclip.training.share import Share

COPIES_IN_A_STATE = 5  # weights, EMA, at most two moments of an optimizer, the weights to keep
CURVES_AND_PICTURES = 10**7  # bytes that they may take


class Task(Protocol):
    """What a training stage learns, and from what."""

    def new_model(self) -> nn.Module:
        """Returns the network with its first, seeded weights."""

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step, a scalar."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the figures of the validation split, "val_loss" among them."""


@contextmanager
def trained(
    stage: str,
    task: Task,
    params: Any,
    layout: Layout,
    machine: Machine,
    *,
    hooks: Callable[[StageRun], tuple[Hook, ...]] = lambda log: (),
    made: Path | None = None,
    other_bytes: int = 0,
) -> Iterator[tuple[Fitted, StageRun]]:
    """Gives the trained weights and the stage's run in MLflow, to save and to add figures to.

    The checkpoint saved inside is then named in the run by its hash. Of several processes that
    share the training only the first comes back: the others end here, since one is enough for what
    is left.

    Args:
        stage: its name in dvc.yaml.
        task: what it learns.
        params: its section of params.yaml.
        layout: the workspace.
        machine: where it computes.
        hooks: further work at intervals, given the run.
        made: a folder that this work writes into.
        other_bytes: what the stage writes beside its checkpoint, about.

    Raises:
        UserError: there is too little room, or the batches cannot be shared.
        SystemExit: this is not the first process, and it has done its part.
    """
    kind, accelerator = MODEL_OF_STAGE[stage], machine.accelerator
    share = Share.of(accelerator)
    require_even_shares(params.batch_size, f"{kind}.batch_size", share.count)
    model = task.new_model()
    fit_it = functools.partial(
        fit,
        model,
        task.loss,
        task.validate,
        params,
        stage=stage,
        accelerator=accelerator,
    )
    if not share.leads:
        fit_it(log=None, history_path=None)
        accelerator.end_training()
        raise SystemExit(0)
    num_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
    room = num_bytes * (1 + COPIES_IN_A_STATE) + other_bytes + CURVES_AND_PICTURES
    require_space(layout.root, room, stage)
    key = _key(stage, params, layout, machine)
    with (
        open_state(states_folder(), stage, key, made, room) as state,
        StageRun(stage, {kind: params.model_dump()}, _tags(machine)) as log,
    ):
        fitted = fit_it(log=log, history_path=layout.history(stage), hooks=hooks(log), state=state)
        accelerator.end_training()
        yield fitted, log
        log.set_tags({"output_hash": weights_hash(layout.model(kind))})


def states_folder() -> Path:
    """Returns where trainings keep their states, also those in DVC's temporary workspaces."""
    return main_repository() / ".state"


def _tags(machine: Machine) -> dict[str, str]:
    """Returns what the run in MLflow says of the machine."""
    return {"precision": machine.precision, "processes": str(Share.of(machine.accelerator).count)}


def _key(stage: str, params: Any, layout: Layout, machine: Machine) -> str | None:
    """Returns what names this training among others, or None outside of a pipeline."""
    dvc_yaml = layout.root / "dvc.yaml"
    if not dvc_yaml.exists():
        return None
    facts = {
        "params": params.model_dump(),
        "device": processor(machine.device),
        "precision": machine.precision,
        "threads": torch.get_num_threads(),
        "processes": Share.of(machine.accelerator).count,
        "torch": torch.__version__,
    }
    return key_of(facts, layout.root, declared(dvc_yaml, stage, "deps"))
