"""Paints: the grid, the trajectory, and the pictures that evaluate judges.

Picture i depends on its prompt, its seed and the checkpoints alone, so two grids of two experiments
differ only by what was changed between them.
"""

import shutil
from dataclasses import replace

import numpy as np
from torch import Tensor

from unclip.config.layout import Layout
from unclip.core.device import open_machine
from unclip.data.prepared import Prepared
from unclip.painting.judged import judged_captions
from unclip.painting.notes import evenly, join_prompts, paint_rows, provenance, real_pictures
from unclip.painting.system import Settings, System
from unclip.params.sections import SampleParams
from unclip.pictures.png import save_png
from unclip.pictures.sheets import grid, trajectory
from unclip.running.progress import progress
from unclip.running.stage import main

STAGE = "sample"
MOMENTS = 10  # of the trajectory


def run(layout: Layout, sample: SampleParams) -> None:
    """Writes samples/grid.png, samples/trajectory.png and samples/judged."""
    machine = open_machine(sample.precision)
    data = Prepared(layout.prepared)
    system = System.load(layout.models, machine.device)
    settings = Settings.of(sample)
    with machine.accelerator.autocast():
        text = provenance(system, settings, machine.precision)
        text |= {"prompts": join_prompts(data.prompts)}
        paint_grid(layout, data, system, settings, sample, text)
        paint_trajectory(layout, data, system, settings, sample.seed, text)
        paint_judged(layout, data, system, settings, sample)


def paint_grid(
    layout: Layout,
    data: Prepared,
    system: System,
    settings: Settings,
    sample: SampleParams,
    text: dict[str, str],
) -> None:
    """Writes the grid of the data set's prompts × seeds, with a real picture before each row."""
    seeds = range(sample.seed, sample.seed + sample.num_per_prompt)
    rows = paint_rows(system, data.prompts, seeds, settings)
    image = grid(rows, data.prompts, real_pictures(data, data.prompts))
    save_png(image, layout.grid, text | {"seeds": " ".join(map(str, seeds))})


def paint_trajectory(
    layout: Layout,
    data: Prepared,
    system: System,
    settings: Settings,
    seed: int,
    text: dict[str, str],
) -> None:
    """Writes ten moments of the reverse diffusion: x_t on the way, and at last the picture."""
    moments: list[tuple[int, Tensor]] = []

    def remember(_: int, t: int, x_t: Tensor, pred_x_start: Tensor) -> None:
        moments.append((t, x_t.cpu()))

    one_batch = replace(settings, batch_size=len(data.prompts))
    final = paint_rows(system, data.prompts, [seed], one_batch, callback=remember)[:, 0]
    # The last column is the finished picture, so nine of the visited moments lead up to it.
    chosen = evenly(len(moments), MOMENTS - 1)
    frames = [system.normalisation.to_uint8(moments[i][1]).numpy() for i in chosen] + [final]
    timesteps = [moments[i][0] for i in chosen] + [0]
    image = trajectory(np.stack(frames, axis=1), data.prompts, timesteps)
    save_png(image, layout.trajectory, text | {"seeds": str(seed)})


def paint_judged(
    layout: Layout, data: Prepared, system: System, settings: Settings, sample: SampleParams
) -> None:
    """Writes pictures spread evenly over the captions, seen and held out, with their embeddings."""
    captions = judged_captions(data, sample.num_judged, sample.seed)
    prompts = [data.captions[i] for i in captions.tolist()]
    seeds = range(sample.seed, sample.seed + len(prompts))
    shutil.rmtree(layout.judged, ignore_errors=True)
    layout.judged.mkdir(parents=True)
    embeds = system.sample_prior(prompts, seeds, settings)
    with progress("painting pictures to judge", len(prompts)) as bar:
        painted = system.decode(
            embeds, prompts, seeds, settings.decoder, settings.batch_size, progress=bar.advance
        )
    np.save(layout.judged / "images.npy", painted)
    np.save(layout.judged / "caption_index.npy", captions.numpy())
    np.save(layout.judged / "prior_embeds.npy", embeds.cpu().numpy())


if __name__ == "__main__":
    main(STAGE, run)
