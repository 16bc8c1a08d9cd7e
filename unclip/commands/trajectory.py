"""`python cli.py trajectory`: how pictures of prompts come out of noise."""

from typing import Annotated

import typer

from unclip.commands import options
from unclip.commands.common import check_prompts, open_unclip, slugs
from unclip.painting.options import TRAJECTORY_STEPS

MOST_MOMENTS, MOST_FRAMES = 10, 33  # in the strip and in the film


def trajectory(
    prompts: options.Prompts = None,
    seed: options.Seed = None,
    guidance: options.Guidance = None,
    prior_guidance: options.PriorGuidance = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Denoising steps of the decoder.")
    ] = TRAJECTORY_STEPS,
    sampler: options.Sampler = None,
    rev: options.Rev = None,
    source: options.From = None,
    out: options.Out = options.PAINTED,
) -> None:
    """Show how prompts come out of noise, as a strip and a film.

    Defaults come from the params.yaml beside the checkpoints, or else from this repository's.

    Example: `python cli.py trajectory "a large red circle" "a small blue star"`
    """
    unclip = open_unclip(rev, source)
    from unclip.commands.saving import END_TIME, FRAME_TIME, painting, save_all
    from unclip.painting.latents import evenly
    from unclip.pictures import sheets
    from unclip.pictures.gif import save_gif

    prompts = prompts or unclip.system.prompts
    check_prompts(prompts, unclip.system)
    chosen = {"guidance": guidance, "prior_guidance": prior_guidance, "sampler": sampler}
    with painting(out, len(prompts)) as progress:
        way = unclip.trajectory(prompts, seed, steps, progress=progress, **chosen)
    labels = unclip.system.known.labels(prompts)
    shown = evenly(len(way.timesteps), MOST_FRAMES)
    headings = [f"t = {way.timesteps[i]}" for i in shown]
    frames = sheets.film(way.moments[:, shown].swapaxes(0, 1), labels, headings)
    durations = [FRAME_TIME] * (len(frames) - 1) + [2 * END_TIME]
    save_gif(frames, out / "trajectory.gif", durations)
    shown = evenly(len(way.timesteps), MOST_MOMENTS)
    sheet = sheets.trajectory(way.moments[:, shown], labels, [way.timesteps[i] for i in shown])
    named = zip(slugs(prompts), way.painted.notes, strict=True)
    names = [f"trajectory_{slug}_seed{note['seed']}" for slug, note in named]
    save_all(way.painted, names, sheet, out / "trajectory.png")
