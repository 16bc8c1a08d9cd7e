"""`python cli.py interpolate`: the way from one picture or prompt to another."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unclip.commands import options
from unclip.painting.options import FRAMES


def interpolate(
    start: Annotated[
        str, typer.Argument(metavar="A", help="A picture file or a prompt.", show_default=False)
    ],
    end: Annotated[
        str, typer.Argument(metavar="B", help="A picture file or a prompt.", show_default=False)
    ],
    frames: options.Frames = FRAMES,
    noise: Annotated[
        Literal["fixed", "slerp"] | None,
        typer.Option(
            help="Keep the noise of A, or go from noise to noise too; by default slerp with "
            "--invert, else fixed.",
            show_default=False,
        ),
    ] = None,
    invert: options.Invert = False,
    seed: options.Seed = None,
    guidance: options.Guidance = None,
    prior_guidance: options.PriorGuidance = None,
    steps: options.Steps = None,
    rev: options.Rev = None,
    source: options.From = None,
    out: options.Out = options.PAINTED,
) -> None:
    """Paint the way from one picture or prompt to another, as a strip and a film.

    The image embedding goes along the great circle between the two (unCLIP §3.2); with --invert the
    first and last frames reproduce the pictures. Defaults come from the params.yaml beside the
    checkpoints, or else from this repository's.

    Example: `python cli.py interpolate "a large red circle" "a large blue star"`
    """
    from unclip.commands.common import check_prompts, make_folder, open_unclip, say_where, slugs
    from unclip.pictures.files import names_picture, picture_size
    from unclip.running.progress import progress

    files = [Path(word) if names_picture(word) else None for word in (start, end)]
    for file in files:
        if file is not None:
            picture_size(file)  # a wrong file is told before torch is loaded
    unclip = open_unclip(rev, source)
    from unclip.commands.ways import save_way
    from unclip.painting.sources import read_source

    prompts = [word for word, file in zip((start, end), files, strict=True) if file is None]
    check_prompts(prompts, unclip.system)
    given = [None if file is None else read_source(file, unclip.system) for file in files]
    make_folder(out)
    with progress("painting", frames) as bar:
        painted = unclip.interpolate(
            start,
            end,
            frames,
            seed,
            invert=invert,
            noise=noise,
            guidance=guidance,
            prior_guidance=prior_guidance,
            steps=steps,
            progress=bar.advance,
        )
    names = slugs([Path(word).stem if names_picture(word) else word for word in (start, end)])
    sheet, replaced = save_way(painted, out, f"interpolate_{names[0]}_{names[1]}", given)
    say_where(sheet, frames, replaced)
