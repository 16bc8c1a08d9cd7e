"""`python cli.py sweep`: one trained system over a range of guidance, steps and samplers."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.commands.common import make_folder, require_trained

FEWEST = 10  # pictures that a Fréchet distance needs
GUIDANCE, STEPS = [1.0, 1.5, 2.0, 3.0, 5.0], [4, 8, 16, 32, 64]


def sweep(
    num: Annotated[int, typer.Option(min=FEWEST, help="Pictures of each setting.")] = 300,
    guidance: Annotated[
        list[float], typer.Option(min=0, max=100, help="A guidance to try, once for each.")
    ] = GUIDANCE,
    steps: Annotated[
        list[int], typer.Option(min=1, help="A number of steps to try, once for each.")
    ] = STEPS,
    out: Annotated[Path, typer.Option(help="Folder for tables, plots and grids.")] = Path(
        "samples/sweep"
    ),
) -> None:
    """Paint the same captions and noise over guidance, steps and samplers, and judge each setting.

    Uses the networks, the judge and the params.yaml of this folder. Everything is judged against
    validation pictures, so that the test pictures play no part in choosing a setting.

    Example: `python cli.py sweep --num 300 --guidance 1 --guidance 2`
    """
    require_trained(None)
    make_folder(out)
    from unclip.config.layout import Layout
    from unclip.evaluation.sweep import Sweep
    from unclip.painting.options import painting_params_of

    swept = Sweep.of(Layout(), painting_params_of(Path()).sample, num, out)
    swept.guidance(guidance)
    swept.steps(steps)
    typer.echo(f"{out}: guidance.png and steps.png, their tables (.csv) and grids")
