"""`python cli.py trajectory`: how pictures of prompts come out of noise."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unclip.commands.common import (
    checkpoints,
    make_folder,
    say_where,
    slugs,
    warn_of_unknown_words,
)
from unclip.commands.latents import END_TIME, FRAME_TIME, Easel
from unclip.painting.options import recipe_of, sample_params
from unclip.running.progress import track

MOST_MOMENTS, MOST_FRAMES = 10, 33  # in the strip and in the film


def show(
    prompts: Sequence[str],
    changes: Mapping[str, Any],
    *,
    rev: str | None,
    source: Path | None,
    out: Path,
) -> None:
    """Paints prompts, keeps what is on the way, and says where the pictures are.

    Args:
        prompts: none for the data set's own.
        changes: options, by the keys of the sample section that they stand for; None if not given.
        rev: git revision or experiment whose checkpoints are used.
        source: folder whose checkpoints are used.
        out: folder for the pictures.

    Raises:
        UserError: nothing is trained yet, an option is out of bounds, or a prompt can not be read.
    """
    with checkpoints(rev, source) as folder:
        sample = sample_params(changes, recipe_of(folder))
        import numpy as np

        from unclip.data.tokenizer import tokenize
        from unclip.painting.latents import paint_moments
        from unclip.painting.notes import evenly, join_prompts
        from unclip.pictures.gif import save_gif
        from unclip.pictures.png import save_png
        from unclip.pictures.sheets import film, trajectory

        easel = Easel.of("trajectory", folder, sample, out)
        prompts = list(prompts) or easel.system.prompts
        tokenize(prompts, easel.system.text_length)
        make_folder(out)
        warn_of_unknown_words(prompts, easel.system)
        rows, replaced = [], 0
        for prompt, slug in track(
            zip(prompts, slugs(prompts), strict=True), "painting", len(prompts)
        ):
            latent = easel.latent_of_prompt(prompt)
            with easel.machine.accelerator.autocast():
                moments, timesteps = paint_moments(easel.system, latent, easel.settings.decoder)
            rows.append(moments)
            replaced += easel.save(
                moments[-1], latent, f"trajectory_{slug}_seed{latent.seed}", prompt, prompt=prompt
            )
        pictures = np.stack(rows)
        shown = evenly(len(timesteps), MOST_MOMENTS)
        sheet = trajectory(pictures[:, shown], prompts, [timesteps[i] for i in shown])
        path = out / "trajectory.png"
        note = easel.sheet_note("from noise to picture", [sample.seed])
        save_png(sheet, path, note | {"prompts": join_prompts(prompts)})
        shown = evenly(len(timesteps), MOST_FRAMES)
        frames = film(
            pictures[:, shown].swapaxes(0, 1), prompts, [f"t = {timesteps[i]}" for i in shown]
        )
        durations = [FRAME_TIME] * (len(frames) - 1) + [2 * END_TIME]
        save_gif(frames, path.with_suffix(".gif"), durations)
        say_where(path, len(prompts), replaced)
