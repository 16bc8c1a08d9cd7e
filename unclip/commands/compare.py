"""`python cli.py compare`: experiments side by side, painted from the same prompts and noise."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.commands import options
from unclip.commands.common import check_prompts, make_folder, open_unclip
from unclip.config.errors import UserError

if TYPE_CHECKING:
    from unclip.api import UnCLIP
    from unclip.comparison.experiments import Comparison, Experiment

WORKSPACE = "workspace"  # DVC's own word for the files of this folder
PAGE = "comparison.html"


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
            help="What to paint, once for each prompt; by default the data set's own prompts.",
            show_default=False,
        ),
    ] = None,
    num: Annotated[int, typer.Option(min=1, max=16, help="Pictures of each prompt.")] = 2,
    seed: options.FirstSeed = None,
    out: Annotated[Path, typer.Option(help="Folder for the page.")] = Path("samples/compared"),
) -> None:
    """Put experiments side by side: figures, changed params, and pictures from the same noise.

    Each experiment paints with its own sample section, all with one seed: by default that of the
    first. Writes comparison.html, which holds its pictures and needs no network.

    Example: `python cli.py compare workspace lr-1 lr-2 --prompt "a large red circle" --num 4`
    """
    if len(revs) < 2 or len(set(revs)) < len(revs):
        raise UserError(
            f"{' '.join(revs)}: expected two or more different revisions; `dvc exp show` and "
            "`git log` list them"
        )
    from unclip.comparison.page import comparison_page

    asked = list(dict.fromkeys(prompts or []))
    experiments = _read(revs, num, seed)
    make_folder(out)
    seed = experiments[0].sample.seed
    comparison = _paint(experiments, asked, num, seed)
    command = ["python", "cli.py", "compare", *revs]
    command += [part for prompt in asked for part in ("--prompt", prompt)]
    again = shlex.join([*command, "--num", str(num), "--seed", str(seed)])
    (out / PAGE).write_text(comparison_page(comparison, again), encoding="utf-8")
    typer.echo(out / PAGE)


def _read(revs: Sequence[str], num: int, seed: int | None) -> "list[Experiment]":
    """Returns the experiments of the revisions, all with the seed of the first."""
    from unclip.comparison.experiments import EVALUATE, HEADLINE, PARAMS, read_experiment
    from unclip.provenance.revisions import read_files

    found: list[Experiment] = []
    changes: dict[str, Any] = {"num_per_prompt": num} | ({} if seed is None else {"seed": seed})
    for rev in revs:
        paths = [PARAMS, HEADLINE, EVALUATE]
        commit, texts = read_files(None if rev == WORKSPACE else rev, paths)
        found.append(read_experiment(rev, commit, texts, changes))
        changes = changes | {"seed": found[0].sample.seed}
    return found


def _paint(
    experiments: "Sequence[Experiment]", asked: Sequence[str], num: int, seed: int
) -> "Comparison":
    from unclip.comparison.experiments import Comparison, figure_rows, param_rows
    from unclip.core.device import resolve_precision
    from unclip.running.progress import progress

    systems = [_open(experiment) for experiment in experiments]
    precision = resolve_precision(experiments[0].sample.precision, systems[0].system.device)
    own = [list(asked) or unclip.system.prompts for unclip in systems]
    for unclip, prompts in zip(systems, own, strict=True):
        check_prompts(prompts, unclip.system)
    columns = []
    with progress("painting", sum(map(len, own)) * num) as bar:
        for unclip, prompts in zip(systems, own, strict=True):
            painted = unclip.sample(prompts, num, seed, precision=precision, progress=bar.advance)
            rows = [painted.notes[i : i + num] for i in range(0, len(painted.notes), num)]
            named = zip(prompts, painted.images, rows, strict=True)
            columns.append(
                {
                    prompt: replace(painted, images=some, notes=notes)
                    for prompt, some, notes in named
                }
            )
    shown = list(dict.fromkeys(prompt for prompts in own for prompt in prompts))
    return Comparison(
        list(experiments),
        figure_rows(experiments),
        param_rows(experiments),
        shown,
        [[column.get(prompt) for column in columns] for prompt in shown],
        _remarks(experiments, num, precision, chosen=bool(asked)),
    )


def _open(experiment: "Experiment") -> "UnCLIP":
    rev = None if experiment.name == WORKSPACE else experiment.name
    try:
        return open_unclip(rev, None)
    except UserError as error:
        reason = str(error).removeprefix(f"--rev {rev}: ")
        raise UserError(f"{experiment.name}: {reason}") from None


def _remarks(
    experiments: "Sequence[Experiment]", num: int, precision: str, *, chosen: bool
) -> list[str]:
    """Returns what a reader of the page must know, a sentence or two each."""
    first = experiments[0].sample.seed
    seeds = f"seed {first}" if num == 1 else f"seeds {first} to {first + num - 1}"
    remarks = [
        f"Painted with {seeds} in {precision}, each experiment with its own sample section. ± is "
        "the 95 % margin over painting other pictures, not over training again."
    ]
    if len({experiment.dataset for experiment in experiments}) > 1:
        remarks.append(
            "These experiments learned different data sets: their figures are not comparable"
            + ("." if chosen else ", and each paints the prompts of its own.")
        )
    if len({experiment.sample.precision for experiment in experiments}) > 1:
        remarks.append(f"Their precisions differ; all were painted in {precision}.")
    return remarks
