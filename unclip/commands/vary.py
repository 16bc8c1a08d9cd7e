"""`python cli.py vary`: pictures like a given one."""

from typing import Annotated

import typer

from unclip.commands import options
from unclip.commands.common import open_unclip, slugs
from unclip.painting.options import VARY_ETA


def vary(
    picture: options.Picture,
    num: options.Num = None,
    seed: options.FirstSeed = None,
    invert: options.Invert = False,
    eta: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of fresh noise at each step, by DDIM; with --invert it is "
            f"{VARY_ETA} by default, and 0 gives the picture back.",
        ),
    ] = None,
    guidance: options.Guidance = None,
    steps: options.Steps = None,
    rev: options.Rev = None,
    source: options.From = None,
    out: options.Out = options.PAINTED,
) -> None:
    """Paint pictures that show what a picture shows.

    Paints its image embedding again from other noise (unCLIP §3.1). Defaults come from the
    params.yaml beside the checkpoints, or else from this repository's.

    Example: `python cli.py vary samples/painted/a-large-red-circle_seed0.png --num 8`
    """
    from unclip.pictures.files import picture_size

    picture_size(picture)  # reports a wrong file before torch is loaded
    unclip = open_unclip(rev, source)
    from unclip.commands.saving import painting, save_all
    from unclip.painting.sources import read_source
    from unclip.pictures.sheets import strip

    given = read_source(picture, unclip.system)
    num = num or unclip.defaults.sample.num_per_prompt
    chosen = {"eta": eta, "guidance": guidance, "steps": steps}
    with painting(out, num) as progress:
        painted = unclip.vary(picture, num, seed, invert=invert, progress=progress, **chosen)
    name = f"vary_{slugs([picture.stem])[0]}"
    seeds = [note["seed"] for note in painted.notes]
    label, above = painted.sheet_note["description"], [f"seed {seed}" for seed in seeds]
    sheet = strip(painted.images, label, above, (given, None))
    save_all(painted, [f"{name}_seed{seed}" for seed in seeds], sheet, out / f"{name}.png")
