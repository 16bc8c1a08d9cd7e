"""`python cli.py sample`: pictures of prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclip.commands import options
from unclip.commands.common import check_prompts, open_unclip, slugs

if TYPE_CHECKING:
    from unclip.painting.system import Pictures


def sample(
    prompts: options.Prompts = None,
    num: options.Num = None,
    seed: options.FirstSeed = None,
    guidance: options.Guidance = None,
    prior_guidance: options.PriorGuidance = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    rev: options.Rev = None,
    source: options.From = None,
    out: options.Out = options.PAINTED,
) -> None:
    """Paint pictures of prompts with the trained system.

    Writes a grid and each picture in its own size; a picture carries prompt, seed, settings and
    checkpoint hashes in its PNG text. Defaults come from the params.yaml beside the checkpoints, or
    else from this repository's.

    Example: `python cli.py sample "a large red circle" --num 4 --seed 7`
    """
    unclip = open_unclip(rev, source)
    from unclip.commands.saving import painting, save_all
    from unclip.pictures.sheets import grid

    prompts = prompts or unclip.system.prompts
    check_prompts(prompts, unclip.system)
    num = num or unclip.defaults.sample.num_per_prompt
    chosen: dict[str, Any] = {"guidance": guidance, "prior_guidance": prior_guidance}
    chosen |= {"steps": steps, "sampler": sampler}
    with painting(out, len(prompts) * num) as progress:
        painted = unclip.sample(prompts, num, seed, progress=progress, **chosen)
    real = _real_pictures(source, prompts, painted.images.shape[2:]) if rev is None else None
    named = slugs(prompts)
    names = [f"{named[i // num]}_seed{note['seed']}" for i, note in enumerate(painted.notes)]
    labels = unclip.system.known.labels(prompts)
    save_all(painted, names, grid(painted.images, labels, real), out / "grid.png")


def _real_pictures(
    folder: Path | None, prompts: Sequence[str], shape: tuple[int, ...]
) -> "Pictures | None":
    """Returns a real picture of each prompt if the folder's data set has pictures of that shape."""
    from unclip.config.layout import Layout
    from unclip.data.prepared import Prepared

    prepared = Layout(folder or Path()).prepared
    if not prepared.is_dir():
        return None
    data = Prepared(prepared)
    fits = shape == (data.channels, data.image_size, data.image_size)
    return data.real_pictures(prompts) if fits else None
