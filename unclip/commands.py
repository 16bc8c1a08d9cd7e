"""The work behind `cli.py`; imported only once a command is chosen, so that help is instant."""

import itertools
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from unclip.errors import UserError
from unclip.layout import Layout
from unclip.params import SampleParams, load_params, validate_params
from unclip.progress import progress

SHOWN_WORDS = 12  # of those that a model knows, in a warning
LONGEST_NAME = 40  # characters of a prompt in a file name, which may hold 255 bytes


def paint(
    prompts: Sequence[str],
    changes: dict[str, Any],
    *,
    rev: str | None,
    source: Path | None,
    out: Path,
) -> None:
    """Paints prompts and says where the pictures are.

    Args:
        prompts: none for the data set's own.
        changes: values of the sample section that are not those of params.yaml.
        rev: git revision or experiment whose checkpoints are used.
        source: folder whose checkpoints are used.
        out: folder for the pictures.

    Raises:
        UserError: nothing is trained yet, an option is out of bounds, or a prompt can not be read.
    """
    if rev is not None and source is not None:
        raise UserError("--rev and --from: each names checkpoints; give only one of them")
    sample = _changed(Layout(Path(__file__).resolve().parent.parent).params, changes)
    if rev is None:
        _paint(prompts, sample, source or Path(), out)
        return
    with tempfile.TemporaryDirectory() as folder:
        _fetch(rev, Path(folder))
        _paint(prompts, sample, Path(folder), out)


def _changed(path: Path, changes: dict[str, Any]) -> SampleParams:
    """Returns the sample section with some values changed, validated as a whole."""
    raw = load_params(path).model_dump()
    raw["sample"] |= changes
    return validate_params(raw, where="options").sample


def _fetch(rev: str, folder: Path) -> None:
    """Brings the checkpoints of a revision into a folder, from DVC's cache or remote."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    try:
        files = DVCFileSystem(".", rev=rev)
        files.get("models", str(folder / "models"), recursive=True)
    except (DvcException, SCMError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--rev {rev}: its checkpoints can not be had ({reason}); `dvc exp show` and `git log` "
            "name what there is, `dvc fetch` brings what is not on this machine"
        ) from None


def _paint(prompts: Sequence[str], sample: SampleParams, folder: Path, out: Path) -> None:
    models = folder / "models" if (folder / "models").is_dir() else folder
    if not (models / "decoder").is_dir():
        raise UserError(
            f"{models.resolve()}: nothing is trained there yet; `dvc repro` trains everything "
            "(minutes), or name a folder with --from"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {out}: can not be made ({error.strerror}); name another folder"
        ) from None
    # Torch takes seconds to import; every check that needs none of it stands above.
    from unclip.figures import grid
    from unclip.machine import open_machine
    from unclip.painting import paint_rows, provenance
    from unclip.pipeline import Settings, UnCLIP
    from unclip.png import save_png
    from unclip.tokenizer import tokenize

    machine = open_machine(sample.precision)
    system = UnCLIP.load(models, machine.device)
    prompts = list(prompts) or system.prompts
    tokenize(prompts, system.text_length)  # what can not be read can not be printed either
    _warn_of_unknown_words(prompts, system.words, system.unknown_words)
    settings = Settings.of(sample)
    seeds = range(sample.seed, sample.seed + sample.num_per_prompt)
    with progress("painting", len(prompts) * len(seeds)) as bar, machine.accelerator.autocast():
        rows = paint_rows(system, prompts, seeds, settings, progress=bar.advance)
    text = provenance(system, settings, machine.precision)
    for prompt, slug, row in zip(prompts, _slugs(prompts), rows, strict=True):
        for seed, picture in zip(seeds, row, strict=True):
            note = text | {"prompt": prompt, "seed": str(seed)}
            save_png(_image(picture), out / f"{slug}_seed{seed}.png", note)
    sheet = text | {"prompts": "\n".join(prompts), "seeds": " ".join(map(str, seeds))}
    real = _real(folder, prompts, rows.shape[2:])
    save_png(grid(rows, prompts, real), out / "grid.png", sheet)
    typer.echo(f"{out / 'grid.png'}  and {len(prompts) * len(seeds)} pictures beside it")


def _real(folder: Path, prompts: Sequence[str], shape: tuple[int, ...]) -> Any:
    """Returns a real picture of each prompt where a data set of such pictures is at hand."""
    from unclip.data import Prepared
    from unclip.painting import real_pictures

    if not Layout(folder).prepared.is_dir():
        return None
    data = Prepared(Layout(folder).prepared)
    fits = shape == (data.channels, data.image_size, data.image_size)
    return real_pictures(data, prompts) if fits else None


def _image(picture: Any) -> Any:
    """Returns a picture (C, H, W) uint8 as a Pillow image."""
    from PIL import Image

    return Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))


def _slugs(prompts: Sequence[str]) -> list[str]:
    """Returns a file name for each prompt; prompts that would share one are numbered."""
    slugs: list[str] = []
    for prompt in prompts:
        slug = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:LONGEST_NAME] or "picture"
        numbered = (f"{slug}--{number}" for number in itertools.count(2))
        slugs.append(next(name for name in itertools.chain([slug], numbered) if name not in slugs))
    return slugs


def _warn_of_unknown_words(prompts: Sequence[str], words: frozenset[str], unknown: Any) -> None:
    console = Console(stderr=True, highlight=False)
    for prompt in prompts:
        strangers = unknown(prompt)
        if strangers:
            some = ", ".join(sorted(words)[:SHOWN_WORDS])
            console.print(
                f"warning: {', '.join(strangers)}: never seen in training, so expect anything; "
                f"words that were: {some}{', …' if len(words) > SHOWN_WORDS else ''}",
                markup=False,
                soft_wrap=True,
            )


def record(force: bool) -> None:
    """Writes the record of this folder's pipeline and says where it stands.

    Raises:
        UserError: there is nothing to record, or MLflow can not be used.
    """
    from unclip.tracking.address import find_root, open_hint
    from unclip.tracking.record import record_experiment
    from unclip.tracking.store import TrackingError

    try:
        found = record_experiment(find_root(), Path(), force=force)
    except TrackingError as error:
        raise UserError(str(error)) from None
    typer.echo(f"{'recorded' if found['created'] else 'already recorded'}: run {found['run_id']}")
    for line in open_hint(find_root()):
        typer.echo(line)
