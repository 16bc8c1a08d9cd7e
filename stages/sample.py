"""Paints: the grid, the trajectory, and the pictures that evaluate judges.

Picture i depends on its prompt, its seed and the checkpoints alone, so the grids of two experiments
differ only by what was changed between them.
"""

import shutil

import numpy as np
from PIL import Image

from unclip.config.layout import Layout
from unclip.core.device import autocast, open_device
from unclip.data.prepared import Prepared
from unclip.painting.judged import judged_captions
from unclip.painting.latents import evenly
from unclip.painting.loading import load_system
from unclip.painting.notes import join_prompts, settings_note
from unclip.painting.settings import Settings
from unclip.painting.system import System
from unclip.params.sections import SampleParams
from unclip.pictures.png import save_png
from unclip.pictures.sheets import grid, trajectory
from unclip.running.progress import progress
from unclip.running.stage import main

STAGE = "sample"
MOMENTS = 10  # of the trajectory


def run(layout: Layout, sample: SampleParams) -> None:
    """Writes samples/grid.png, samples/trajectory.png and samples/judged."""
    data = Prepared(layout.prepared)
    system = load_system(layout.models, open_device())
    settings = Settings.of(sample, system.device)
    note = settings_note(system, settings) | {"prompts": join_prompts(data.prompts)}

    seeds = range(sample.seed, sample.seed + sample.num_per_prompt)
    rows = system.paint(data.prompts, seeds, settings)
    image = grid(rows, system.known.labels(data.prompts), data.real_pictures(data.prompts))
    save_png(image, layout.grid, note | {"seeds": " ".join(map(str, seeds))})

    image = paint_trajectory(system, data.prompts, sample.seed, settings)
    save_png(image, layout.trajectory, note | {"seeds": str(sample.seed)})
    paint_judged(layout, data, system, settings, sample)


def paint_trajectory(
    system: System, prompts: list[str], seed: int, settings: Settings
) -> Image.Image:
    """Returns ten moments of the reverse diffusion: x_t on the way, and at last the picture."""
    seeds = [seed] * len(prompts)
    embeds = system.sample_prior(prompts, seeds, settings)
    with autocast(system.device, settings.precision):
        steps = list(system.denoise(embeds, prompts, seeds, settings))
    # The last column is the finished picture, so nine of the visited moments lead up to it.
    chosen = [steps[i] for i in evenly(len(steps), MOMENTS - 1)]
    frames = [system.to_uint8(step.x_t) for step in chosen]
    frames.append(system.to_uint8(steps[-1].pred_x_start))
    timesteps = [*(step.t for step in chosen), 0]
    return trajectory(np.stack(frames, axis=1), system.known.labels(prompts), timesteps)


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
        painted = system.decode(embeds, prompts, seeds, settings, progress=bar.advance)
    np.save(layout.judged / "images.npy", painted)
    np.save(layout.judged / "caption_index.npy", captions.numpy())
    np.save(layout.judged / "prior_embeds.npy", embeds.cpu().numpy())


if __name__ == "__main__":
    main(STAGE, run)
