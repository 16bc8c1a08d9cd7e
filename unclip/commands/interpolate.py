"""`python cli.py interpolate`: the way from one picture or prompt to another."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unclip.commands.common import (
    checkpoints,
    make_folder,
    say_where,
    slugs,
    warn_of_unknown_words,
)
from unclip.commands.latents import Easel, title
from unclip.config.errors import UserError
from unclip.painting.options import ddim_changes, recipe_of, sample_params
from unclip.pictures.files import names_picture, picture_size


def interpolate(
    ends: tuple[str, str],
    changes: Mapping[str, Any],
    *,
    frames: int,
    slerp_noise: bool | None,
    invert: bool,
    rev: str | None,
    source: Path | None,
    out: Path,
) -> None:
    """Paints the way from one image embedding to another and says where the pictures are.

    Args:
        ends: each a picture file or a prompt.
        changes: options, by the keys of the sample section that they stand for; None if not given.
        frames: pictures, both ends among them.
        slerp_noise: whether the noise changes on the way too; None changes it if inverted.
        invert: whether pictures are painted from their own noise.
        rev: git revision or experiment whose checkpoints are used.
        source: folder whose checkpoints are used.
        out: folder for the pictures.

    Raises:
        UserError: a picture or prompt can not be read, options do not fit together or are out of
            bounds, or nothing is trained yet.
    """
    files = [Path(end) if names_picture(end) else None for end in ends]
    for file in files:
        if file is not None:
            picture_size(file)  # a wrong file is told before torch is loaded
    _require_fit(files, slerp_noise, invert)
    chosen = ddim_changes(changes, invert=invert)
    with checkpoints(rev, source) as folder:
        sample = sample_params(chosen, recipe_of(folder))
        from unclip.data.tokenizer import tokenize
        from unclip.painting.latents import interpolated, shares

        easel = Easel.of("interpolate", folder, sample, out)
        prompts = [end for end, file in zip(ends, files, strict=True) if file is None]
        tokenize(prompts, easel.system.text_length)  # what can not be read can not be printed
        before, after = (None if file is None else easel.read(file) for file in files)
        make_folder(out)
        warn_of_unknown_words(prompts, easel.system)
        start, end = (
            easel.latent_of_prompt(word)
            if picture is None
            else easel.latent_of(picture, invert=invert)
            for word, picture in zip(ends, (before, after), strict=True)
        )
        slerp_noise = invert if slerp_noise is None else slerp_noise
        if slerp_noise and not invert:
            end = replace(end, seed=end.seed + 1)  # two ends of one noise would be no way
        latents = interpolated(easel.system, start, end, frames, slerp_noise=slerp_noise)
        names = slugs([Path(end).stem if names_picture(end) else end for end in ends])
        sheet, replaced = easel.save_way(
            easel.paint(latents),
            latents,
            f"interpolate_{names[0]}_{names[1]}",
            f"{title(ends[0])} → {title(ends[1])}",
            shares(frames),
            (before, after),
        )
        say_where(sheet, frames, replaced)


def _require_fit(files: list[Path | None], slerp_noise: bool | None, invert: bool) -> None:
    """Raises UserError where there is nothing to invert, or what is inverted would be lost."""
    if invert and files == [None, None]:
        raise UserError(
            "--invert: finds the noise of a picture, and neither end is one; leave it out"
        )
    if invert and slerp_noise is False:
        raise UserError(
            "--invert: gives each end its own noise, and --noise fixed keeps that of the first; "
            "leave one of them out"
        )
