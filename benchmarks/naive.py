"""The naive way, as a baseline: what a first implementation of unCLIP does in every single step.

The decoder is trained and sampled with CLIP and the prior *inside* its step: every caption of the
batch is encoded anew and padded to the longest text there may be, every picture is encoded by CLIP,
and the prior draws two candidates for each picture, in one forward that shares nothing between
equal captions. Everything is float32 in the plain memory layout, the optimizer is a loop over
tensors, and sampling visits all timesteps. The networks are ours, the noise is that of diffusers;
pictures are noise too, which changes no time.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor

from benchmarks.ours import count_flops
from benchmarks.turns import Work
from unclip.config.layout import Layout
from unclip.data.tokenizer import tokenize
from unclip.painting.loading import load_system
from unclip.painting.system import System
from unclip.params.loading import load_params
from unclip.params.sections import DecoderParams

CANDIDATES = 2  # embeddings drawn for a picture; the one nearest its caption is taken


def condition(
    system: System, scheduler: Any, captions: Sequence[str], images: Tensor | None = None
) -> Tensor:
    """Returns image embeddings (B, D), unit norm, drawn by the prior for captions.

    Args:
        system: its CLIP and prior.
        scheduler: adds noise.
        captions: B of them, each encoded by itself, also where two are equal.
        images: (B, C, H, W), normalised, whose embeddings are what the prior denoises; without
            them it starts from noise.
    """
    device, rows = system.device, len(captions) * CANDIDATES
    with torch.no_grad():
        tokens, mask = (x.to(device) for x in tokenize(captions, system.text_length))
        text_embeds, encodings = system.clip.encode_text(tokens, mask)
        x_t = torch.randn(rows, system.embed_mean.numel(), device=device)
        t = torch.full((rows,), len(scheduler) - 1, device=device)
        if images is not None:
            x_start = system.clip.encode_image(images).repeat_interleave(CANDIDATES, dim=0)
            t = torch.randint(len(scheduler), (rows,), device=device)
            x_t = scheduler.add_noise(x_start, x_t, t)
        assert system.prior is not None
        drawn = system.prior(
            x_t,
            t,
            *(x.repeat_interleave(CANDIDATES, dim=0) for x in (encodings, text_embeds, mask)),
            torch.zeros(rows, dtype=torch.bool, device=device),
        )
        candidates = F.normalize(drawn, dim=-1).unflatten(0, (-1, CANDIDATES))  # (B, 2, D)
        nearest = (candidates * text_embeds[:, None]).sum(dim=-1).argmax(dim=1)  # (B,)
        return candidates[torch.arange(len(nearest)), nearest]


def training(folder: Path, device: str) -> Work:
    """Returns the training steps of the decoder in the naive way."""
    system, decoder = (
        load_system(Layout(folder).models, device),
        load_params(Layout(folder).params).decoder,
    )
    step = training_step(system, decoder)

    def run(count: int) -> None:
        for _ in range(count):
            step()

    parameters = sum(p.numel() for p in system.decoder.parameters())
    facts = {"pictures": decoder.batch_size, "parameters": parameters, "precision": "fp32"}
    return Work(run, facts | {"flops": count_flops(step)})


def training_step(system: System, params: DecoderParams) -> Callable[[], None]:
    """Returns a function that does one training step of the decoder."""
    model, device, batch = system.decoder, system.device, params.batch_size
    model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=params.lr,
        weight_decay=params.weight_decay,
        foreach=False,
        fused=False,
    )
    average = [parameter.detach().clone() for parameter in model.parameters()]
    scheduler: Any = DDPMScheduler(params.num_timesteps)
    captions = _captions(system, batch)
    pictures = torch.randn(batch, *system.picture_shape)

    def step() -> None:
        images = pictures.to(device)
        embeds = condition(system, scheduler, captions, images)
        t = torch.randint(len(scheduler), (batch,), device=device)
        noise = torch.randn_like(images)
        drop_mask = torch.rand(batch, device=device) < params.image_drop_prob
        output = model(scheduler.add_noise(images, noise, t), t, embeds, drop_mask)
        loss = F.mse_loss(output, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), params.grad_clip)
        optimizer.step()
        with torch.no_grad():
            for averaged, current in zip(average, model.parameters(), strict=True):
                averaged.lerp_(current, 1 - params.ema_decay)
        loss.item()

    return step


def painting(folder: Path, num: int, steps: int, device: str) -> Work:
    """Returns the first steps of painting; `whole` of a unit are all that the pictures need.

    Args:
        folder: a workspace.
        num: pictures at once.
        steps: of a unit.
        device: where it computes.
    """
    system, params = (
        load_system(Layout(folder).models, device),
        load_params(Layout(folder).params).decoder,
    )

    def run(count: int) -> None:
        for _ in range(count):
            sample(system, params, _captions(system, num), steps)

    facts = {"pictures": num, "steps": params.num_timesteps, "precision": "fp32"}
    return Work(run, facts | {"whole": params.num_timesteps / steps})


@torch.no_grad()
def sample(system: System, params: DecoderParams, captions: Sequence[str], steps: int) -> Tensor:
    """Returns x_t (B, C, H, W) after the first `steps` of all timesteps, without guidance.

    Ancestral sampling (Ho et al. 2020, algorithm 2); every step asks CLIP and the prior again.
    """
    device = system.device
    scheduler: Any = DDPMScheduler(params.num_timesteps)
    scheduler.set_timesteps(params.num_timesteps)
    x_t = torch.randn(len(captions), *system.picture_shape, device=device)
    keep = torch.zeros(len(captions), dtype=torch.bool, device=device)
    for t in scheduler.timesteps[:steps]:
        embeds = condition(system, scheduler, captions)
        output = system.decoder(x_t, t.to(device).expand(len(captions)), embeds, keep)
        x_t = scheduler.step(output, t, x_t).prev_sample
    return x_t


def _captions(system: System, count: int) -> list[str]:
    return [system.prompts[i % len(system.prompts)] for i in range(count)]
