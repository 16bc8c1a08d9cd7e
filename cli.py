"""The command line of unCLIP Lab: `python cli.py --help`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unclip.painting.options import (
    EDIT_STRENGTH,
    FRAMES,
    INVERSION_STEPS,
    TRAJECTORY_STEPS,
    VARY_ETA,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Paint with what `dvc repro` has trained, and look after its records in MLflow.",
)


class Sampler(StrEnum):
    """The samplers, by the names that params.yaml has for them."""

    dpmpp_2m = "dpmpp_2m"
    ddim = "ddim"
    ddpm = "ddpm"


class Noise(StrEnum):
    """What becomes of the noise between two pictures."""

    fixed = "fixed"
    slerp = "slerp"


class Trained(StrEnum):
    """The stages that train a network."""

    clip = "train_clip"
    prior = "train_prior"
    decoder = "train_decoder"
    judge = "train_judge"


Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        help="What to paint; without one, the data set's own prompts.",
        show_default=False,
    ),
]
Picture = Annotated[
    Path,
    typer.Argument(
        metavar="PICTURE", help="A PNG, JPEG, WebP, BMP, GIF or TIFF file.", show_default=False
    ),
]
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
DecoderSampler = Annotated[
    Sampler | None, typer.Option("--sampler", help="Sampler of the decoder.")
]
Frames = Annotated[int, typer.Option(min=2, max=64, help="Pictures on the way, ends included.")]
Invert = Annotated[
    bool,
    typer.Option(
        "--invert",
        help="Start from the picture's own noise, by DDIM inversion; takes "
        f"{INVERSION_STEPS} steps where --steps says nothing.",
    ),
]
Rev = Annotated[
    str | None,
    typer.Option(help="Paint with the checkpoints of this experiment, commit, branch or tag."),
]
From = Annotated[
    Path | None, typer.Option("--from", help="Paint with the checkpoints in this folder.")
]
Out = Annotated[Path, typer.Option(help="Folder for the pictures.")]
PAINTED = Path("samples/painted")


@app.command()
def sample(
    prompts: Prompts = None,
    num: Annotated[int | None, typer.Option(min=1, max=64, help="Pictures of each prompt.")] = None,
    seed: FirstSeed = None,
    guidance: Guidance = None,
    prior_guidance: PriorGuidance = None,
    steps: Steps = None,
    sampler: DecoderSampler = None,
    rev: Rev = None,
    source: From = None,
    out: Out = PAINTED,
) -> None:
    """Paint pictures of prompts with the trained system.

    Options left out are as the sample section of the params.yaml beside the checkpoints says, or
    else that of this repository. Writes a grid and each picture in its own size; a picture carries
    prompt, seed, settings and checkpoint hashes in its PNG text.

    Example: `python cli.py sample "a large red circle" --num 4 --seed 7`
    """
    from unclip.commands.sample import paint

    changes = {
        "num_per_prompt": num,
        "seed": seed,
        "guidance": guidance,
        "prior_guidance": prior_guidance,
        "steps": steps,
        "sampler": sampler and sampler.value,
    }
    paint(prompts or [], changes, rev=rev, source=source, out=out)


@app.command()
def trace(
    picture: Annotated[Path, typer.Argument(help="A PNG that was painted here.")],
    repaint: Annotated[
        bool, typer.Option("--repaint", help="Paint it again and say whether it is the same.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="One more folder in which its checkpoints may be."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the picture that --repaint paints.")
    ] = None,
) -> None:
    """Show the whole way back from a saved picture, and paint it again.

    Shows prompt, seed and settings, the checkpoints by their hashes, the revisions that have them,
    and from MLflow the runs that trained them, with params, data set and commit. The checkpoints
    are looked for in models/, pretrained/ and all that DVC remembers: commits, branches, tags and
    experiments, in its cache or its remote.

    With --repaint the exit status is 1 if a pixel comes out otherwise.

    Example: `python cli.py trace samples/painted/a-large-red-circle_seed0.png --repaint`
    """
    from unclip.commands.trace import trace as show

    if not show(picture, repaint=repaint, source=source, out=out):
        raise typer.Exit(1)


@app.command()
def compare(
    revs: Annotated[
        list[str],
        typer.Argument(
            metavar="REV",
            help="Experiments, commits, branches or tags; `workspace` is this folder.",
        ),
    ],
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            help="What to paint, once for each prompt; without it, the data set's own prompts.",
            show_default=False,
        ),
    ] = None,
    num: Annotated[int, typer.Option(min=1, max=16, help="Pictures of each prompt.")] = 2,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of the first picture; without it, that of the first revision's params.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the sheet and the page.")] = Path(
        "samples/compared"
    ),
) -> None:
    """Put experiments side by side: figures, changed params, and pictures from the same noise.

    Each is painted as its own sample section says. Writes comparison.png and comparison.html,
    which needs no network and holds all of its pictures.

    Example: `python cli.py compare workspace lr-1 lr-2 --prompt "a large red circle" --num 4`
    """
    from unclip.commands.compare import compare as show

    show(revs, prompts=prompts or [], num=num, seed=seed, out=out)


@app.command()
def vary(
    picture: Picture,
    num: Annotated[int | None, typer.Option(min=1, max=64, help="Pictures to paint.")] = None,
    seed: FirstSeed = None,
    invert: Invert = False,
    eta: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of fresh noise at each step, by DDIM; with --invert it is "
            f"{VARY_ETA} by default, and 0 gives the picture back.",
        ),
    ] = None,
    guidance: Guidance = None,
    steps: Steps = None,
    rev: Rev = None,
    source: From = None,
    out: Out = PAINTED,
) -> None:
    """Paint pictures that show what a picture shows.

    Its image embedding is painted again from other noise (unCLIP §3.1).
    Options left out are as the sample section of the params.yaml beside the checkpoints says, or
    else that of this repository.

    Example: `python cli.py vary samples/painted/a-large-red-circle_seed0.png --num 8`
    """
    from unclip.commands.vary import vary

    changes = {
        "num_per_prompt": num,
        "seed": seed,
        "eta": eta,
        "guidance": guidance,
        "steps": steps,
    }
    vary(picture, changes, invert=invert, rev=rev, source=source, out=out)


@app.command()
def interpolate(
    start: Annotated[
        str, typer.Argument(metavar="A", help="A picture file or a prompt.", show_default=False)
    ],
    end: Annotated[
        str, typer.Argument(metavar="B", help="A picture file or a prompt.", show_default=False)
    ],
    frames: Frames = FRAMES,
    noise: Annotated[
        Noise | None,
        typer.Option(
            help="Keep the noise of A, or go from noise to noise too; by default slerp with "
            "--invert, else fixed.",
            show_default=False,
        ),
    ] = None,
    invert: Annotated[
        bool,
        typer.Option(
            "--invert",
            help="Start pictures from their own noise, by DDIM inversion: the ends are they; takes "
            f"{INVERSION_STEPS} steps where --steps says nothing.",
        ),
    ] = False,
    seed: Seed = None,
    guidance: Guidance = None,
    prior_guidance: PriorGuidance = None,
    steps: Steps = None,
    rev: Rev = None,
    source: From = None,
    out: Out = PAINTED,
) -> None:
    """Paint the way from one picture or prompt to another, as a strip and a film.

    The image embedding goes along the great circle between the two (unCLIP §3.2).
    Options left out are as the sample section of the params.yaml beside the checkpoints says, or
    else that of this repository.

    Example: `python cli.py interpolate "a large red circle" "a large blue star"`
    """
    from unclip.commands.interpolate import interpolate

    changes = {
        "seed": seed,
        "guidance": guidance,
        "prior_guidance": prior_guidance,
        "steps": steps,
    }
    slerp_noise = None if noise is None else noise is Noise.slerp
    interpolate(
        (start, end),
        changes,
        frames=frames,
        slerp_noise=slerp_noise,
        invert=invert,
        rev=rev,
        source=source,
        out=out,
    )


@app.command()
def edit(
    picture: Picture,
    caption: Annotated[
        str, typer.Argument(metavar="CAPTION", help="What the picture shows.", show_default=False)
    ],
    wanted: Annotated[
        str, typer.Argument(metavar="WANTED", help="What it is to show.", show_default=False)
    ],
    strength: Annotated[
        float, typer.Option(min=0, max=2, help="How far the last picture goes; 1 is all the way.")
    ] = EDIT_STRENGTH,
    frames: Frames = FRAMES,
    invert: Invert = False,
    seed: Seed = None,
    guidance: Guidance = None,
    steps: Steps = None,
    rev: Rev = None,
    source: From = None,
    out: Out = PAINTED,
) -> None:
    """Lead a picture from one caption to another, as a strip and a film.

    To its image embedding the difference is added that the prior sees between the two captions, as
    much of it as strength says (unCLIP §3.3 adds that of the text embeddings). Options left out are
    as the sample section of the params.yaml beside the checkpoints says, or else that of this
    repository.

    Example: `python cli.py edit samples/painted/a-large-red-circle_seed0.png "a large red circle"
    "a large blue circle"`
    """
    from unclip.commands.edit import edit

    changes = {"seed": seed, "guidance": guidance, "steps": steps}
    edit(
        picture,
        caption,
        wanted,
        changes,
        frames=frames,
        strength=strength,
        invert=invert,
        rev=rev,
        source=source,
        out=out,
    )


@app.command()
def trajectory(
    prompts: Prompts = None,
    seed: Seed = None,
    guidance: Guidance = None,
    prior_guidance: PriorGuidance = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Denoising steps of the decoder.")
    ] = TRAJECTORY_STEPS,
    sampler: DecoderSampler = None,
    rev: Rev = None,
    source: From = None,
    out: Out = PAINTED,
) -> None:
    """Show how prompts come out of noise, as a strip and a film.

    Options left out are as the sample section of the params.yaml beside the checkpoints says, or
    else that of this repository.

    Example: `python cli.py trajectory "a large red circle" "a small blue star"`
    """
    from unclip.commands.trajectory import show

    changes = {
        "seed": seed,
        "guidance": guidance,
        "prior_guidance": prior_guidance,
        "steps": steps,
        "sampler": sampler and sampler.value,
    }
    show(prompts or [], changes, rev=rev, source=source, out=out)


@app.command()
def log(
    force: Annotated[
        bool, typer.Option("--force", help="Write the record anew even if it stands.")
    ] = False,
) -> None:
    """Write the state of the pipeline in this folder as one run in MLflow, from files alone.

    `dvc repro` does this by itself. Do it by hand after `dvc pull`, after moving the repository, or
    when MLflow was out of reach.

    Example: `python cli.py log`
    """
    from unclip.commands.log import record

    record(force)


data = typer.Typer(no_args_is_help=True, help="Look at pictures of your own before training.")
app.add_typer(data, name="data")


@data.command()
def check(
    folder: Annotated[
        Path,
        typer.Argument(help="A folder of pictures with metadata.jsonl or metadata.csv."),
    ],
) -> None:
    """Show what training would be given of a folder of pictures, and all that is wrong with it.

    Counts, sizes, captions, attributes and duplicates; pictures and lines that can not be read,
    with their names. image_size, text_length and test_fraction are those of params.yaml. The exit
    status is 1 if `dvc repro` would refuse the folder.

    Example: `python cli.py data check data/own`
    """
    from unclip.commands.data_check import check as show

    if not show(folder):
        raise typer.Exit(1)


@app.command()
def register(
    name: Annotated[str, typer.Option(help="Name of the registered model.")] = "unclip",
    alias: Annotated[
        str, typer.Option(help="Alias that the new version gets; it leaves the one that had it.")
    ] = "champion",
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Register the checkpoints in this folder."),
    ] = None,
) -> None:
    """Register the trained system in MLflow as one model, to be served or given away.

    The model holds networks, recipe, code and a card with its figures; nothing in it is pickled. It
    is loaded and has to paint before it gets the alias.

    Example: `python cli.py register --from pretrained/fashion_mnist`, and then
    `mlflow models serve -m models:/unclip@champion --env-manager local -p 5001`
    """
    from unclip.commands.register import register as give

    give(name, alias, source)


@app.command()
def play(
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default nobody else can reach the page.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 7860,
    rev: Rev = None,
    source: From = None,
) -> None:
    """Open a page to play on: prompts, variations, ways between pictures, pictures out of noise.

    Where nothing is trained yet it paints with what came with the code. Nothing leaves this
    machine: the page and its server ask no other host for anything.

    Example: `python cli.py play --from pretrained/fashion_mnist`
    """
    from unclip.commands.play import play as serve

    serve(host, port, rev=rev, source=source)


@app.command()
def profile(
    stage: Annotated[Trained, typer.Argument(help="The training stage.")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps to profile.")] = 20,
    top: Annotated[int, typer.Option(min=1, help="Operators to show.")] = 15,
    trace: Annotated[
        Path | None, typer.Option(help="Write the whole trace to this JSON file.")
    ] = None,
) -> None:
    """Show where the time of a training step goes, by operator, with the params of this folder.

    Trains some steps on what the stages before it have left, and throws them away: no checkpoint,
    metric or record changes.

    Example: `python cli.py profile train_decoder --steps 50`
    """
    from unclip.commands.profile import print_profile  # before torch: it sets what torch logs

    from stages import train_clip, train_decoder, train_judge, train_prior  # isort: skip

    tasks = {
        Trained.clip: train_clip.ClipTask,
        Trained.prior: train_prior.PriorTask,
        Trained.decoder: train_decoder.DecoderTask,
        Trained.judge: train_judge.JudgeTask,
    }
    print_profile(tasks[stage], stage.value, count=steps, shown=top, trace=trace)


@app.command()
def doctor(
    clear_states: Annotated[
        bool,
        typer.Option("--clear-states", help="Remove what trainings have left to go on from."),
    ] = False,
) -> None:
    """Show machine, versions, stores and kept states, and what stands in the way of a run.

    The exit status is 1 if something does.

    Example: `python cli.py doctor`
    """
    from unclip.commands.doctor import examine

    if not examine(clear_states=clear_states):
        raise typer.Exit(1)


def main() -> None:
    """Runs the command line; what the user can mend ends in one line and status 1."""
    from unclip.config.errors import TOO_LITTLE_MEMORY, UserError, is_out_of_memory

    try:
        app()
    except UserError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that can not be written to
        said = " ".join(str(error).split())
        typer.echo(f"error: {said}; mend that and run it again", err=True)
        sys.exit(1)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        typer.echo(f"error: {TOO_LITTLE_MEMORY}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
