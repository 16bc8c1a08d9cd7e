"""`python cli.py interpolate`: the way from one picture or prompt to another."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unclip.commands import options
from unclip.commands.common import check_prompts, open_unclip
from unclip.painting.options import FRAMES


def interpolate(
    start: Annotated[str, typer.Argument(help="A picture file or a prompt.")],
    end: Annotated[str, typer.Argument(help="A picture file or a prompt.")],
    frames: options.Frames = FRAMES,
    noise: Annotated[
        Literal["fixed", "slerp"] | None,
        typer.Option(
            help="Keep the noise of the start, or go from noise to noise; by default slerp with "
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

    The image embedding follows the great circle between the two (unCLIP §3.2); with --invert the
    first and last frames reproduce the pictures. Defaults come from the params.yaml beside the
    checkpoints, or else from this repository's.

    Example: `python cli.py interpolate "a large red circle" "a large blue star"`
    """
    from unclip.pictures.files import names_picture, picture_size

    files = [word for word in (start, end) if names_picture(word)]
    for file in files:
        picture_size(Path(file))  # reports a wrong file before torch is loaded
    unclip = open_unclip(rev, source)
    from unclip.commands.saving import painting, save_way
    from unclip.painting.sources import read_source

    check_prompts([word for word in (start, end) if word not in files], unclip.system)
    given = {file: read_source(file, unclip.system) for file in files}
    chosen = {"guidance": guidance, "prior_guidance": prior_guidance, "steps": steps}
    with painting(out, frames) as progress:
        painted = unclip.interpolate(
            start, end, frames, seed, invert=invert, noise=noise, progress=progress, **chosen
        )
    titles = [Path(word).stem if word in files else word for word in (start, end)]
    save_way(painted, out, titles, (given.get(start), given.get(end)))
