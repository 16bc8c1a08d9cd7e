"""`python cli.py trajectory`: how pictures of prompts come out of noise."""

from typing import Annotated

import typer

from unclip.commands import options
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
    from unclip.commands.common import check_prompts, make_folder, open_unclip, say_where, slugs
    from unclip.running.progress import progress

    unclip = open_unclip(rev, source)
    from unclip.commands.ways import END_TIME, FRAME_TIME
    from unclip.painting.latents import evenly
    from unclip.pictures import sheets
    from unclip.pictures.gif import save_gif
    from unclip.pictures.png import save_png

    prompts = prompts or unclip.system.prompts
    check_prompts(prompts, unclip.system)
    make_folder(out)
    with progress("painting", len(prompts)) as bar:
        way = unclip.trajectory(
            prompts,
            seed,
            steps,
            guidance=guidance,
            prior_guidance=prior_guidance,
            sampler=sampler,
            progress=bar.advance,
        )
    notes = way.painted.notes
    named = zip(slugs(prompts), notes, strict=True)
    replaced = way.painted.save(out, [f"trajectory_{slug}_seed{n['seed']}" for slug, n in named])
    shown = evenly(len(way.timesteps), MOST_MOMENTS)
    sheet = sheets.trajectory(way.moments[:, shown], prompts, [way.timesteps[i] for i in shown])
    path = out / "trajectory.png"
    save_png(sheet, path, way.painted.sheet_note)
    shown = evenly(len(way.timesteps), MOST_FRAMES)
    headings = [f"t = {way.timesteps[i]}" for i in shown]
    frames = sheets.film(way.moments[:, shown].swapaxes(0, 1), prompts, headings)
    save_gif(frames, path.with_suffix(".gif"), [FRAME_TIME] * (len(frames) - 1) + [2 * END_TIME])
    say_where(path, len(prompts), replaced)
