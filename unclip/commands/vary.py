"""`python cli.py vary`: pictures like one that there is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unclip.commands.common import checkpoints, make_folder, say_where, slugs
from unclip.commands.latents import Easel, title
from unclip.painting.options import recipe_of, sample_params, vary_changes
from unclip.pictures.files import picture_size


def vary(
    picture: Path,
    changes: Mapping[str, Any],
    *,
    invert: bool,
    rev: str | None,
    source: Path | None,
    out: Path,
) -> None:
    """Paints pictures of the same image embedding and says where they are.

    Args:
        picture: the file.
        changes: options, by the keys of the sample section that they stand for; None if not given.
        invert: whether they are painted from the picture's own noise.
        rev: git revision or experiment whose checkpoints are used.
        source: folder whose checkpoints are used.
        out: folder for the pictures.

    Raises:
        UserError: the picture can not be read, nothing is trained yet, or an option is out of
            bounds.
    """
    picture_size(picture)  # a wrong file is told before torch is loaded
    chosen = vary_changes(changes, invert=invert)
    with checkpoints(rev, source) as folder:
        sample = sample_params(chosen, recipe_of(folder))
        from unclip.painting.latents import varied
        from unclip.pictures.png import save_png
        from unclip.pictures.sheets import strip

        easel = Easel.of("vary", folder, sample, out)
        given = easel.read(picture)
        make_folder(out)
        latents = varied(easel.latent_of(given, invert=invert), sample.num_per_prompt)
        painted = easel.paint(latents)
        name, label = f"vary_{slugs([picture.stem])[0]}", f"like {title(str(picture))}"
        replaced = sum(
            easel.save(each, latent, f"{name}_seed{latent.seed}", label)
            for each, latent in zip(painted, latents, strict=True)
        )
        seeds = [latent.seed for latent in latents]
        sheet = strip(painted, label, [f"seed {seed}" for seed in seeds], (given, None))
        save_png(sheet, out / f"{name}.png", easel.sheet_note(label, seeds))
        say_where(out / f"{name}.png", len(painted), replaced)
