"""`python cli.py sample`: pictures of prompts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unclip.commands.common import (
    checkpoints,
    make_folder,
    open_system,
    real_rows,
    save_picture,
    say_where,
    slugs,
    warn_of_unknown_words,
)
from unclip.painting.options import recipe_of, sample_params
from unclip.params.sections import SampleParams
from unclip.running.progress import progress


def paint(
    prompts: Sequence[str],
    changes: Mapping[str, Any],
    *,
    rev: str | None,
    source: Path | None,
    out: Path,
) -> None:
    """Paints prompts and says where the pictures are.

    Args:
        prompts: none for the data set's own.
        changes: options, by the keys of the sample section that they stand for; None if not given.
        rev: git revision or experiment whose checkpoints are used.
        source: folder whose checkpoints are used.
        out: folder for the pictures.

    Raises:
        UserError: nothing is trained yet, an option is out of bounds, or a prompt can not be read.
    """
    with checkpoints(rev, source) as folder:
        sample = sample_params(changes, recipe_of(folder))
        make_folder(out)
        _paint(prompts, sample, folder, out)


def _paint(prompts: Sequence[str], sample: SampleParams, folder: Path, out: Path) -> None:
    # Torch takes seconds to import; every check that needs none of it stands above.
    from unclip.data.tokenizer import tokenize
    from unclip.painting.notes import call_note, paint_rows, picture_notes, provenance
    from unclip.painting.system import Settings
    from unclip.pictures.png import save_png
    from unclip.pictures.sheets import grid

    system, machine = open_system(folder, sample.precision)
    prompts = list(prompts) or system.prompts
    tokenize(prompts, system.text_length)  # what can not be read can not be printed either
    warn_of_unknown_words(prompts, system)
    settings = Settings.of(sample)
    seeds = range(sample.seed, sample.seed + sample.num_per_prompt)
    with progress("painting", len(prompts) * len(seeds)) as bar, machine.accelerator.autocast():
        rows = paint_rows(system, prompts, seeds, settings, progress=bar.advance)
    text = provenance(system, settings, machine.precision) | {"command": "sample"}
    text |= call_note(prompts, seeds, settings.batch_size)
    notes = picture_notes(text, prompts, seeds)
    replaced = 0
    for slug, row, noted in zip(slugs(prompts), rows, notes, strict=True):
        for seed, picture, note in zip(seeds, row, noted, strict=True):
            replaced += save_picture(picture, out / f"{slug}_seed{seed}.png", note)
    real = real_rows(folder, prompts, rows.shape[2:])
    save_png(grid(rows, prompts, real), out / "grid.png", text)
    say_where(out / "grid.png", len(prompts) * len(seeds), replaced)
