"""Pictures for people: the grid of prompts × seeds, and what every saved picture carries."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unclip.data import Prepared
from unclip.pipeline import Settings, UnCLIP

Pictures = npt.NDArray[np.uint8]


def paint_rows(
    system: UnCLIP, prompts: Sequence[str], seeds: Sequence[int], settings: Settings, **how: Any
) -> Pictures:
    """Returns pictures (R, N, C, H, W) uint8, a row for each prompt and a column for each seed."""
    every_prompt = [prompt for prompt in prompts for _ in seeds]
    every_seed = [seed for _ in prompts for seed in seeds]
    embeds = system.sample_prior(every_prompt, every_seed, settings)
    painted = system.decode(
        embeds, every_prompt, every_seed, settings.decoder, settings.batch_size, **how
    )
    return painted.reshape(len(prompts), len(seeds), *painted.shape[1:])


def real_pictures(data: Prepared, prompts: Sequence[str]) -> Pictures | None:
    """Returns the first test picture of each prompt, (R, C, H, W), if every prompt has one."""
    test = data.split("test")
    found = []
    for prompt in prompts:
        if prompt not in data.captions:
            return None
        rows = (test.caption_index == data.captions.index(prompt)).nonzero()
        if len(rows) == 0:
            return None
        found.append(test.gather(rows[0]).numpy()[0])
    return np.stack(found)


def provenance(system: UnCLIP, settings: Settings, precision: str) -> dict[str, str]:
    """Returns what a painted picture carries beside prompt and seed: settings and checkpoints.

    Enough to paint it again. No time, host or commit: pictures that are DVC outs would change.

    Args:
        system: what paints.
        settings: how it paints.
        precision: as the machine resolved it, fp32 or bf16.
    """
    solvers = {
        f"{name}.{key}": str(getattr(solver, key))
        for name, solver in (("prior", settings.prior), ("decoder", settings.decoder))
        for key in ("sampler", "steps", "eta", "guidance")
    }
    hashes = {f"checkpoint.{kind}": value for kind, value in system.hashes.items()}
    others = {"prior.candidates": str(settings.prior_candidates), "precision": precision}
    return solvers | hashes | others
