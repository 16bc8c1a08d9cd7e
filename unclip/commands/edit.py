"""`python cli.py edit`: a picture led from one caption to another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unclip.commands.common import (
    checkpoints,
    make_folder,
    say_where,
    slugs,
    warn_of_unknown_words,
)
from unclip.commands.latents import Easel
from unclip.config.strict import one_line
from unclip.painting.options import ddim_changes, recipe_of, sample_params
from unclip.pictures.files import picture_size


def edit(
    picture: Path,
    caption: str,
    wanted: str,
    changes: Mapping[str, Any],
    *,
    frames: int,
    strength: float,
    invert: bool,
    rev: str | None,
    source: Path | None,
    out: Path,
) -> None:
    """Paints the way of a picture towards another caption and says where the pictures are.

    Args:
        picture: the file.
        caption: what it shows.
        wanted: what it is to show.
        changes: options, by the keys of the sample section that they stand for; None if not given.
        frames: pictures, the unedited one first.
        strength: how much of the difference of the captions is added to the last; 1 is all.
        invert: whether they are painted from the picture's own noise.
        rev: git revision or experiment whose checkpoints are used.
        source: folder whose checkpoints are used.
        out: folder for the pictures.

    Raises:
        UserError: the picture or a caption can not be read, nothing is trained yet, or an option is
            out of bounds.
    """
    picture_size(picture)  # a wrong file is told before torch is loaded
    chosen = ddim_changes(changes, invert=invert)
    with checkpoints(rev, source) as folder:
        sample = sample_params(chosen, recipe_of(folder))
        from unclip.data.tokenizer import tokenize
        from unclip.painting.latents import shares

        easel = Easel.of("edit", folder, sample, out)
        tokenize([caption, wanted], easel.system.text_length)
        given = easel.read(picture)
        latent = easel.latent_of(given, invert=invert)
        latents = easel.edited(latent, caption, wanted, strength, frames)
        make_folder(out)
        warn_of_unknown_words([caption, wanted], easel.system)
        names = slugs([picture.stem, wanted])
        way = f"{one_line(caption)} → {one_line(wanted)}"
        sheet, replaced = easel.save_way(
            easel.paint(latents),
            latents,
            f"edit_{names[0]}_{names[1]}",
            way,
            [strength * share for share in shares(frames)],
            (given, None),
        )
        say_where(sheet, frames, replaced)
