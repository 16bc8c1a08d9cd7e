"""A whole workspace with tiny networks, trained in the test's own process: seconds, not minutes."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from dag import STAGES
from tiny_params import tiny_params, write_params

from unclip.config.layout import Layout
from unclip.params.loading import validate_params
from unclip.params.sections import Params
from unclip.running.stage import handed

PICTURES = {"num_objects": 1, "num_train": 240, "num_test": 120, "num_judge": 120}


def forget_accelerator() -> None:
    """Makes Accelerate forget the one precision that it allows a process."""
    AcceleratorState._reset_state(reset_partial_state=True)


def small_params(**sections: dict[str, Any]) -> Params:
    """Returns tiny params in float32 with some values of some sections changed."""
    raw = tiny_params()
    raw["data"]["shapes"] = dict(PICTURES)
    for section in ("clip", "prior", "decoder", "judge", "sample"):
        raw[section]["precision"] = "fp32"
    for section, values in sections.items():
        raw[section] |= values
    return validate_params(raw)


@dataclass(frozen=True)
class Workspace:
    """A folder and the params that are used in it."""

    layout: Layout
    params: Params

    @classmethod
    def at(cls, folder: Path, **sections: dict[str, Any]) -> "Workspace":
        """Returns a workspace in a folder, with tiny params some of which are changed."""
        folder.mkdir(parents=True, exist_ok=True)
        params = small_params(**sections)
        write_params(folder / "params.yaml", params.model_dump())
        return cls(Layout(folder), params)

    def run(self, *stages: str) -> "Workspace":
        """Runs stages in this process, as if each had one of its own."""
        threads = torch.get_num_threads()
        for stage in stages:
            forget_accelerator()
            module = importlib.import_module(f"stages.{stage}")
            module.run(self.layout, **handed(self.params, STAGES[stage]["params"]))
        forget_accelerator()
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        return self
