"""`python cli.py sample`: pictures of prompts."""

from unclip.commands import options


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
    from unclip.commands.common import (
        check_prompts,
        make_folder,
        open_unclip,
        real_rows,
        say_where,
        slugs,
    )
    from unclip.running.progress import progress

    unclip = open_unclip(rev, source)
    from unclip.pictures.png import save_png
    from unclip.pictures.sheets import grid

    prompts = prompts or unclip.system.prompts
    check_prompts(prompts, unclip.system)
    make_folder(out)
    num = num or unclip.defaults.sample.num_per_prompt
    with progress("painting", len(prompts) * num) as bar:
        painted = unclip.sample(
            prompts,
            num,
            seed,
            guidance=guidance,
            prior_guidance=prior_guidance,
            steps=steps,
            sampler=sampler,
            progress=bar.advance,
        )
    named = slugs(prompts)
    names = [f"{named[i // num]}_seed{note['seed']}" for i, note in enumerate(painted.notes)]
    replaced = painted.save(out, names)
    real = real_rows(source, prompts, painted.images.shape[2:]) if rev is None else None
    save_png(grid(painted.images, prompts, real), out / "grid.png", painted.sheet_note)
    say_where(out / "grid.png", len(names), replaced)
