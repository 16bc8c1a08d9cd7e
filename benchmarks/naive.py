"""The naive way, as a baseline: what a first implementation of unCLIP does in every single step.

The decoder is trained and sampled with CLIP and the prior *inside* its step: every caption of the
batch is encoded anew and padded to the longest text there may be, every picture is encoded by CLIP,
and the prior draws two candidates for each picture, in one forward that shares nothing between
equal captions. Everything is float32 in the plain memory layout, the optimizer is a loop over
tensors, and sampling visits all timesteps. The networks are those of `unclip.models`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.flops import count_flops
from benchmarks.worker import Work
from unclip.config.layout import Layout
from unclip.core.artifacts import build, load_artifact
from unclip.data.prepared import Prepared
from unclip.data.tokenizer import tokenize
from unclip.diffusion.guidance import predict_x_start
from unclip.diffusion.predictions import q_sample
from unclip.diffusion.reverse import Diffusion
from unclip.diffusion.samplers import sample_ddpm
from unclip.diffusion.schedules import sampling_timesteps
from unclip.models.clip import CLIP
from unclip.models.prior import Prior
from unclip.models.unet import UNet
from unclip.params.loading import load_params
from unclip.params.sections import DecoderParams

CANDIDATES = 2  # embeddings drawn for a picture; the one nearest its caption is taken


@dataclass
class NaiveSystem:
    """CLIP and prior, frozen, and the decoder.

    Attributes:
        clip: encodes captions and pictures.
        prior: draws image embeddings.
        decoder: learns, or paints.
        prior_diffusion: what the prior was trained with.
        decoder_diffusion: what the decoder is trained with.
        text_length: tokens that every caption is padded to.
        device: where it computes.
    """

    clip: CLIP
    prior: Prior
    decoder: UNet
    prior_diffusion: Diffusion
    decoder_diffusion: Diffusion
    text_length: int
    device: str

    @classmethod
    def load(cls, folder: Path, device: str) -> "NaiveSystem":
        """Returns the system of a workspace."""
        layout = Layout(folder)
        params, built = load_params(layout.params), {}
        for kind, constructor in (("clip", CLIP), ("prior", Prior), ("decoder", UNet)):
            where = layout.model(kind)
            built[kind] = build(load_artifact(where, kind), constructor, where).to(device)
        return cls(
            built["clip"],  # type: ignore[arg-type]
            built["prior"],  # type: ignore[arg-type]
            built["decoder"],  # type: ignore[arg-type]
            Diffusion.of(params.prior),
            Diffusion.of(params.decoder),
            params.clip.text_length,
            device,
        )

    @torch.no_grad()
    def condition(self, captions: Sequence[str], images: Tensor | None = None) -> Tensor:
        """Returns image embeddings (B, D), unit norm, drawn by the prior for captions.

        Args:
            captions: B of them, each encoded by itself, also where two are equal.
            images: (B, C, H, W), normalised, whose embeddings are what the prior denoises; without
                them it starts from noise.
        """
        tokens, mask = (x.to(self.device) for x in tokenize(captions, self.text_length))
        text_embeds, encodings = self.clip.encode_text(tokens, mask)
        rows = len(captions) * CANDIDATES
        noise = torch.randn(rows, text_embeds.shape[1], device=self.device)
        t = torch.full((rows,), self.prior_diffusion.num_timesteps - 1, device=self.device)
        x_t = noise
        if images is not None:
            x_start = self.clip.encode_image(images).repeat_interleave(CANDIDATES, dim=0)
            t = torch.randint(self.prior_diffusion.num_timesteps, (rows,), device=self.device)
            x_t = q_sample(self.prior_diffusion.noise_schedule, x_start, t, noise)
        drawn = self.prior(
            x_t,
            t,
            encodings.repeat_interleave(CANDIDATES, dim=0),
            text_embeds.repeat_interleave(CANDIDATES, dim=0),
            mask.repeat_interleave(CANDIDATES, dim=0),
            torch.zeros(rows, dtype=torch.bool, device=self.device),
        )
        candidates = F.normalize(drawn, dim=-1).unflatten(0, (-1, CANDIDATES))  # (B, 2, D)
        nearest = (candidates * text_embeds[:, None]).sum(dim=-1).argmax(dim=1)  # (B,)
        return candidates[torch.arange(len(nearest)), nearest]

    def sample(self, captions: Sequence[str], shape: tuple[int, ...], steps: int) -> Tensor:
        """Returns x_t (B, *shape) after the first `steps` of all timesteps, without guidance.

        Ancestral sampling (Ho et al. 2020, algorithm 2); every step asks CLIP and the prior again.
        """

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            keep = torch.zeros(len(x_t), dtype=torch.bool, device=self.device)
            output: Tensor = self.decoder(x_t, t, self.condition(captions), keep)
            return output

        diffusion = self.decoder_diffusion
        timesteps = sampling_timesteps(diffusion.num_timesteps, diffusion.num_timesteps)
        return sample_ddpm(
            predict_x_start(denoise, diffusion.noise_schedule, diffusion.prediction_type, None),
            torch.randn(len(captions), *shape, device=self.device),
            diffusion.noise_schedule,
            timesteps[:steps],
            draw_noise=torch.randn_like,
        )


def training(folder: Path, device: str) -> Work:
    """Returns the training steps of the decoder in the naive way."""
    system = NaiveSystem.load(folder, device)
    layout = Layout(folder)
    decoder = load_params(layout.params).decoder
    step = training_step(system, Prepared(layout.prepared), decoder)
    flops = count_flops(step)

    def run(count: int) -> None:
        for _ in range(count):
            step()

    parameters = sum(p.numel() for p in system.decoder.parameters())
    facts = {"pictures": decoder.batch_size, "parameters": parameters, "flops": flops}
    return Work(run, facts | {"precision": "fp32"})


def training_step(
    system: NaiveSystem, data: Prepared, decoder: DecoderParams
) -> Callable[[], None]:
    """Returns a function that does one training step of the decoder."""
    model = system.decoder.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=decoder.lr,
        weight_decay=decoder.weight_decay,
        foreach=False,
        fused=False,
    )
    average = [parameter.detach().clone() for parameter in model.parameters()]
    train, schedule = data.split("train"), system.decoder_diffusion.noise_schedule

    def step() -> None:
        rows = torch.randint(len(train), (decoder.batch_size,))
        captions = [data.captions[i] for i in train.caption_index[rows].tolist()]
        images = data.normalise(train.gather(rows).to(system.device))
        embeds = system.condition(captions, images)
        t = torch.randint(decoder.num_timesteps, (len(rows),), device=system.device)
        noise = torch.randn_like(images)
        drop_mask = torch.rand(len(rows), device=system.device) < decoder.image_drop_prob
        output = model(q_sample(schedule, images, t, noise), t, embeds, drop_mask)
        loss = F.mse_loss(output, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), decoder.grad_clip)
        optimizer.step()
        with torch.no_grad():
            for averaged, current in zip(average, model.parameters(), strict=True):
                averaged.lerp_(current, 1 - decoder.ema_decay)
        loss.item()

    return step


def painting(folder: Path, count_of_pictures: int, device: str) -> Work:
    """Returns single steps of sampling; `num_timesteps` of them make the pictures."""
    system, data = NaiveSystem.load(folder, device), Prepared(Layout(folder).prepared)
    captions = [data.captions[i % len(data.captions)] for i in range(count_of_pictures)]
    shape = (data.channels, data.image_size, data.image_size)

    def run(count: int) -> None:
        with torch.no_grad():
            system.sample(captions, shape, count)

    num_timesteps = system.decoder_diffusion.num_timesteps
    return Work(run, {"pictures": count_of_pictures, "steps": num_timesteps, "precision": "fp32"})
