"""`python cli.py edit`: a picture changed from one caption to another."""

from typing import Annotated, Any

import typer

from unclip.commands import options
from unclip.commands.common import check_prompts, open_unclip
from unclip.painting.options import EDIT_STRENGTH, FRAMES


def edit(
    picture: options.Picture,
    caption: Annotated[str, typer.Argument(help="What the picture shows.")],
    wanted: Annotated[str, typer.Argument(help="What it is to show.")],
    strength: Annotated[
        float, typer.Option(min=0, max=2, help="How far the last picture goes; 1 is all the way.")
    ] = EDIT_STRENGTH,
    frames: options.Frames = FRAMES,
    invert: options.Invert = False,
    seed: options.Seed = None,
    guidance: options.Guidance = None,
    steps: options.Steps = None,
    rev: options.Rev = None,
    source: options.From = None,
    out: options.Out = options.PAINTED,
) -> None:
    """Change a picture from one caption to another, as a strip and a film.

    Adds to its image embedding the difference between the prior's mean embeddings of the two
    captions, times --strength (unCLIP §3.3 uses the text embeddings). Defaults come from
    the params.yaml beside the checkpoints, or else from this repository's.

    Example: `python cli.py edit samples/painted/a-large-red-circle_seed0.png "a large red circle"
    "a large blue circle"`
    """
    from unclip.pictures.files import picture_size

    picture_size(picture)  # reports a wrong file before torch is loaded
    unclip = open_unclip(rev, source)
    from unclip.commands.saving import painting, save_way
    from unclip.painting.sources import read_source

    check_prompts([caption, wanted], unclip.system)
    given = read_source(picture, unclip.system)
    chosen: dict[str, Any] = {"strength": strength, "guidance": guidance, "steps": steps}
    with painting(out, frames) as progress:
        painted = unclip.edit(
            picture, caption, wanted, frames, seed, invert=invert, progress=progress, **chosen
        )
    save_way(painted, out, [picture.stem, wanted], (given, None), strength)
