"""Options that commands share. Imports neither torch nor numpy, so that `--help` is instant."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unclip.diffusion.samplers import SAMPLERS
from unclip.painting.options import INVERSION_STEPS

PAINTED = Path("samples/painted")

Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        help="What to paint; by default the data set's own prompts.",
        show_default=False,
    ),
]
Picture = Annotated[
    Path, typer.Argument(help="A PNG, JPEG, WebP, BMP, GIF or TIFF file.", show_default=False)
]
Num = Annotated[int | None, typer.Option(min=1, max=64, help="Pictures of each prompt.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the noise.")]
FirstSeed = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, help="Seed of the first picture; the next ones count up from it."
    ),
]
Guidance = Annotated[
    float | None, typer.Option(min=0, max=100, help="Guidance of the decoder; 1 is off.")
]
PriorGuidance = Annotated[
    float | None, typer.Option(min=0, max=100, help="Guidance of the prior; 1 is off.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Denoising steps of the decoder.")]
if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]
Sampler = Annotated[SamplerName | None, typer.Option(help="Sampler of the decoder.")]
Frames = Annotated[
    int, typer.Option(min=2, max=64, help="Pictures on the way, both ends included.")
]
Invert = Annotated[
    bool,
    typer.Option(
        "--invert",
        help="Start pictures from their own noise, by DDIM inversion; takes "
        f"{INVERSION_STEPS} steps unless --steps is given.",
    ),
]
Rev = Annotated[
    str | None,
    typer.Option(help="Use the checkpoints of this experiment, commit, branch or tag."),
]
From = Annotated[Path | None, typer.Option("--from", help="Use the checkpoints in this folder.")]
Out = Annotated[Path, typer.Option(help="Folder for the pictures.")]
