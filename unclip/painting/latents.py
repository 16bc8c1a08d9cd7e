"""Pictures as latents that can be varied, interpolated and edited (Ramesh et al. 2022, §3).

A latent is an image embedding z_i, which says what a picture shows, and the noise x_T it is painted
from, which says all else. Every function returns latents, and `System.paint_latent` paints them
without a caption.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.config.errors import UserError
from unclip.core.device import autocast
from unclip.data.text import fold
from unclip.painting.settings import Latent, Settings
from unclip.painting.system import Pictures, Progress, System

EDIT_DRAWS = 32  # image embeddings of each caption, whose means are compared
SMALLEST_ANGLE = 1e-4  # radians; below it slerp and a straight line are the same in float32


def latent_of(
    system: System, picture: Pictures, seed: int, inverted_by: Settings | None = None
) -> Latent:
    """Returns the latent of a picture (C, H, W) uint8.

    With `inverted_by`, which must use ddim, its noise is the one from which the decoder paints the
    picture with these settings (§3: DDIM inversion); else its noise comes from the seed.

    Raises:
        UserError: more steps are asked for than the decoder has timesteps.
    """
    assert picture.shape == system.picture_shape, (picture.shape, system.picture_shape)
    (embed,) = system.embed(picture[None]).cpu()
    if inverted_by is None:
        return Latent(embed, seed)
    (x_T,) = system.invert(picture[None], embed[None], inverted_by).cpu()
    return Latent(embed, seed, x_T)


def latent_of_prompt(system: System, prompt: str, seed: int, settings: Settings) -> Latent:
    """Returns a latent that the prior draws for a prompt; its noise comes from the seed.

    Raises:
        UserError: the prompt cannot be read, or the prior has fewer timesteps than steps.
    """
    (embed,) = system.sample_prior([prompt], [seed], settings).cpu()
    return Latent(embed, seed)


def varied(latent: Latent, num: int) -> list[Latent]:
    """Returns `num` latents that show the same, their seeds counting up (§3.1)."""
    return [replace(latent, seed=latent.seed + i) for i in range(num)]


def interpolated(
    system: System, start: Latent, end: Latent, frames: int, *, slerp_noise: bool
) -> list[Latent]:
    """Returns `frames` latents on the way from one to another (§3.2), both ends included.

    With `slerp_noise` the noise goes from one to the other too; else it stays that of the start.
    """
    assert frames >= 2, f"frames: {frames}; expected at least the two ends"
    first, last = (
        system.first_noise(latent.seed) if latent.x_T is None else latent.x_T
        for latent in (start, end)
    )
    return [
        Latent(
            slerp(start.image_embed, end.image_embed, share),
            start.seed,
            slerp(first, last, share) if slerp_noise else start.x_T,
        )
        for share in shares(frames)
    ]


def edited(
    system: System,
    latent: Latent,
    caption: str,
    wanted: str,
    strength: float,
    frames: int,
    settings: Settings,
) -> list[Latent]:
    """Returns latents on the way from what one caption says to what another says.

    Unlike unCLIP §3.3, which goes towards the difference of the two text embeddings, this adds the
    difference of the prior's mean image embeddings of the two captions: CLIP learns which caption
    is nearest to a picture, not that texts differ in the direction in which pictures differ. The
    noise stays the same.

    Args:
        system: its prior draws the embeddings.
        latent: of the picture.
        caption: what it shows.
        wanted: what it is to show.
        strength: share of the difference that is added to the last latent, at least 0.
        frames: how many, at least 2; the first is the latent itself.
        settings: of the prior.

    Raises:
        UserError: a caption cannot be read, both are the same, or the prior has fewer timesteps
            than steps.
    """
    assert frames >= 2, f"frames: {frames}; expected at least the two ends"
    if fold(caption) == fold(wanted):
        raise UserError(
            f"{wanted!r}: is what the picture already shows; expected another caption; change one"
        )
    # Both captions are drawn from the same noise, which cancels most of its randomness.
    prompts = [caption] * EDIT_DRAWS + [wanted] * EDIT_DRAWS
    drawn = system.sample_prior(prompts, [*range(EDIT_DRAWS)] * 2, settings).cpu()
    before, after = drawn.unflatten(0, (2, EDIT_DRAWS)).mean(dim=1)
    moved = [
        F.normalize(latent.image_embed + strength * share * (after - before), dim=0)
        for share in shares(frames)[1:]
    ]
    return [latent, *(replace(latent, image_embed=image_embed) for image_embed in moved)]


def paint_each(
    system: System,
    latents: Sequence[Latent],
    settings: Settings,
    progress: Progress = lambda count: None,
) -> Pictures:
    """Returns the pictures (N, C, H, W) uint8 of N latents, each painted alone."""
    pictures = []
    for latent in latents:
        pictures.append(system.paint_latent(latent, settings))
        progress(1)
    return np.stack(pictures)


def paint_moments(system: System, latent: Latent, settings: Settings) -> tuple[Pictures, list[int]]:
    """Returns the reverse diffusion of a latent: M pictures (M, C, H, W) uint8, and their M t.

    They are x_t at each step, noise first, and finally the finished picture, at t = 0.
    """
    with autocast(system.device, settings.precision):
        steps = list(system.denoise_latent(latent, settings))
    seen = torch.cat([*(step.x_t for step in steps), steps[-1].pred_x_start])
    return system.to_uint8(seen), [*(step.t for step in steps), 0]


def shares(frames: int) -> list[float]:
    """Returns how far each frame is on its way, from 0 to 1."""
    return [i / (frames - 1) for i in range(frames)]


def evenly(count: int, most: int) -> list[int]:
    """Returns at most `most` evenly spread indices below `count`, the first and last included."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Returns the tensor at a share (0..1) of the great circle between two of the same shape.

    Shoemake 1985; Song et al. 2021, eq. 67, whose ends may differ in length. Shares 0 and 1 return
    the ends unchanged. If both point the same way or opposite ways, no single great circle joins
    them, and the tensor is on the straight line.
    """
    assert start.shape == end.shape, f"slerp between {start.shape} and {end.shape}"
    if share in (0, 1):
        return end if share else start
    first, last = start.double(), end.double()
    cosine = torch.dot(F.normalize(first.flatten(), dim=0), F.normalize(last.flatten(), dim=0))
    angle = cosine.clamp(-1, 1).acos()
    if angle.sin() < SMALLEST_ANGLE:
        return ((1 - share) * first + share * last).to(start)
    between = ((1 - share) * angle).sin() * first + (share * angle).sin() * last
    return (between / angle.sin()).to(start)
