"""`python cli.py compare`: experiments side by side, painted from the same prompts and noise."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from unclip.commands.common import checkpoints, make_folder, warn_of_unknown_words
from unclip.config.errors import UserError
from unclip.config.layout import models_in
from unclip.running.progress import progress

if TYPE_CHECKING:
    from unclip.comparison.experiments import Comparison, Experiment, Painted
    from unclip.core.device import Machine
    from unclip.painting.system import System

WORKSPACE = "workspace"  # DVC's own word for the files of this folder
SHEET, PAGE = "comparison.png", "comparison.html"


def compare(
    revs: Sequence[str], *, prompts: Sequence[str], num: int, seed: int | None, out: Path
) -> None:
    """Writes a sheet and a page and says where they are.

    Args:
        revs: two or more experiments, commits, branches or tags, or `workspace`.
        prompts: none for the data sets' own.
        num: pictures of each prompt.
        seed: of the first picture; None for the first revision's.
        out: folder for both files.

    Raises:
        UserError: a revision or its checkpoints can not be had, or a prompt can not be read.
    """
    if len(revs) < 2 or len(set(revs)) < len(revs):
        raise UserError(
            f"{' '.join(revs)}: expected two or more different revisions; `dvc exp show` and "
            "`git log` name what there is"
        )
    # Torch takes seconds to import; the check that needs none of it stands above.
    from unclip.comparison.page import comparison_page
    from unclip.comparison.sheet import comparison_sheet
    from unclip.pictures.png import save_png

    prompts = list(dict.fromkeys(prompts))
    experiments = _read(revs, num, seed)
    make_folder(out)
    comparison = _paint(experiments, prompts)
    command = ["python", "cli.py", "compare", *revs]
    command += [part for prompt in prompts for part in ("--prompt", prompt)]
    command += ["--num", str(num), "--seed", str(experiments[0].sample.seed)]
    again = shlex.join(command)
    save_png(comparison_sheet(comparison), out / SHEET, {"command": again})
    (out / PAGE).write_text(comparison_page(comparison, again), encoding="utf-8")
    typer.echo(f"{out / SHEET}\n{out / PAGE}")


def _read(revs: Sequence[str], num: int, seed: int | None) -> "list[Experiment]":
    """Returns what the files of the revisions say, all of them to be painted with one seed."""
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


def _paint(experiments: "Sequence[Experiment]", prompts: Sequence[str]) -> "Comparison":
    from unclip.comparison.experiments import Comparison, figure_rows, param_rows
    from unclip.data.tokenizer import tokenize

    systems, machine = _open(experiments)
    own = list(dict.fromkeys(prompt for system in systems for prompt in system.prompts))
    asked = [list(prompts) or system.prompts for system in systems]
    for system, wanted in zip(systems, asked, strict=True):
        tokenize(wanted, system.text_length)  # what can not be read can not be printed either
        warn_of_unknown_words(wanted, system)
    sample = experiments[0].sample
    with progress("painting", sum(map(len, asked)) * sample.num_per_prompt) as bar:
        painted = [
            _paint_one(experiment, system, wanted, machine, bar.advance)
            for experiment, system, wanted in zip(experiments, systems, asked, strict=True)
        ]
    shown = list(prompts) or own
    return Comparison(
        list(experiments),
        figure_rows(experiments),
        param_rows(experiments),
        shown,
        [[of.get(prompt) for of in painted] for prompt in shown],
        _remarks(experiments, machine.precision, chosen=bool(prompts)),
    )


def _open(experiments: "Sequence[Experiment]") -> "tuple[list[System], Machine]":
    """Returns the systems, and the machine that they all paint on, in one precision."""
    from unclip.core.device import open_machine
    from unclip.painting.system import System

    machine, systems = open_machine(experiments[0].sample.precision), []
    for experiment in experiments:
        rev = None if experiment.name == WORKSPACE else experiment.name
        try:
            with checkpoints(rev, None) as folder:
                systems.append(System.load(models_in(folder), machine.device))
        except UserError as error:
            reason = str(error).removeprefix(f"--rev {rev}: ")
            raise UserError(f"{experiment.name}: {reason}") from None
    return systems, machine


def _paint_one(
    experiment: "Experiment",
    system: "System",
    prompts: Sequence[str],
    machine: "Machine",
    advance: Callable[[int], None],
) -> "dict[str, Painted]":
    """Returns prompt → what an experiment paints of it, as its own sample section says."""
    from unclip.comparison.experiments import Painted
    from unclip.painting.notes import call_note, paint_rows, picture_notes, provenance
    from unclip.painting.system import Settings

    sample = experiment.sample
    settings, seeds = Settings.of(sample), range(sample.seed, sample.seed + sample.num_per_prompt)
    with machine.accelerator.autocast():
        rows = paint_rows(system, prompts, seeds, settings, progress=advance)
    text = provenance(system, settings, machine.precision)
    text |= call_note(prompts, seeds, settings.batch_size)
    notes = picture_notes(text, prompts, seeds)
    return {
        prompt: Painted(row, noted) for prompt, row, noted in zip(prompts, rows, notes, strict=True)
    }


def _remarks(experiments: "Sequence[Experiment]", precision: str, *, chosen: bool) -> list[str]:
    """Returns what a reader of the figures and pictures must know."""
    sample = experiments[0].sample
    last = sample.seed + sample.num_per_prompt - 1
    seeds = f"seed {last}" if last == sample.seed else f"seeds {sample.seed} to {last}"
    remarks = [
        f"Painted with {seeds} in {precision}, each experiment as its own sample section says. ± "
        "is the 95 % margin of having painted other pictures, not of having trained anew."
    ]
    if len({experiment.dataset for experiment in experiments}) > 1:
        remarks.append(
            "These experiments learned different data sets: their figures do not compare"
            + ("." if chosen else ", and each paints the prompts of its own.")
        )
    if len({experiment.sample.precision for experiment in experiments}) > 1:
        remarks.append(f"Their precisions differ; all were painted in {precision}, as one.")
    return remarks
