"""The peer: training and painting as Hugging Face's diffusers does them, at equal FLOPs.

The step is the plain one of its text-to-image training script (autocast, AdamW, clipping, EMA),
with the fused and foreach kernels that ours has too; the painting is the loop of its pipelines.
Pictures are already in memory, which spares it a DataLoader.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from benchmarks.flops import DTYPES, count_flops
from benchmarks.peer_network import Peer, PeerShape, matched_peer, widths_of
from benchmarks.worker import Work
from unclip.config.layout import Layout
from unclip.core.artifacts import describe
from unclip.data.embeddings import Embeddings
from unclip.data.prepared import Prepared
from unclip.painting.system import Settings
from unclip.params.loading import load_params
from unclip.params.sections import DecoderParams

PREDICTION_TYPES = {"eps": "epsilon", "x_start": "sample", "v": "v_prediction"}


def training(folder: Path, precision: str, device: str, *, has_our_flops: bool = True) -> Work:
    """Returns the training steps of the peer of a workspace's decoder.

    Args:
        folder: the workspace.
        precision: "bf16" or "fp32".
        device: where it computes.
        has_our_flops: False gives it our widths instead, and so more floating-point operations.
    """
    layout = Layout(folder)
    decoder = load_params(layout.params).decoder
    config = describe(layout.model("decoder"), "decoder").config
    peer = matched_peer(config) if has_our_flops else Peer(PeerShape.of(config), widths_of(config))
    peer = peer.to(device)
    step = _training_step(peer, decoder, _pictures(layout), precision, device)
    flops = count_flops(step)

    def run(count: int) -> None:
        for _ in range(count):
            step()

    return Work(run, _facts(peer, decoder.batch_size) | {"flops": flops, "precision": precision})


def _training_step(
    peer: Peer,
    decoder: DecoderParams,
    pictures: tuple[Tensor, Tensor],
    precision: str,
    device: str,
) -> Callable[[], None]:
    """Returns a function that does one training step as their scripts do it."""
    images, embeds = pictures
    optimizer = torch.optim.AdamW(
        peer.parameters(), lr=decoder.lr, weight_decay=decoder.weight_decay, fused=True
    )
    ema = EMAModel(peer.parameters(), decay=decoder.ema_decay, foreach=True)
    kind = PREDICTION_TYPES[decoder.prediction_type]
    scheduler: Any = DDPMScheduler(decoder.num_timesteps, prediction_type=kind)
    autocast = torch.autocast(device, DTYPES[precision], enabled=precision == "bf16")

    def step() -> None:
        rows = torch.randint(len(images), (decoder.batch_size,))
        x_start, condition = images[rows].to(device), embeds[rows].to(device)
        kept = torch.rand(len(rows), 1, device=device) >= decoder.image_drop_prob
        noise = torch.randn_like(x_start)
        t = torch.randint(decoder.num_timesteps, (len(rows),), device=device)
        x_t = scheduler.add_noise(x_start, noise, t)
        target = {"epsilon": noise, "sample": x_start}.get(kind)
        if target is None:
            target = scheduler.get_velocity(x_start, noise, t)
        with autocast:
            output = peer(x_t, t, condition * kept)
            loss = F.mse_loss(output.float(), target.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), decoder.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.step(peer.parameters())
        loss.item()

    return step


def painting(folder: Path, batch_size: int, steps: int, precision: str, device: str) -> Work:
    """Returns the painting of batches by the peer of a workspace's decoder.

    DPM-Solver++(2M) with our number of steps, guidance by a doubled batch, pictures as uint8.
    """
    layout = Layout(folder)
    params = load_params(layout.params)
    guidance = Settings.of(params.sample).decoder.guidance
    peer = matched_peer(describe(layout.model("decoder"), "decoder").config).to(device).eval()
    data, kind = Prepared(layout.prepared), PREDICTION_TYPES[params.decoder.prediction_type]
    scheduler: Any = DPMSolverMultistepScheduler(
        params.decoder.num_timesteps, prediction_type=kind, timestep_spacing="trailing"
    )
    embeds = torch.randn(batch_size, params.clip.embed_dim, device=device)
    both = torch.cat([embeds, torch.zeros_like(embeds)])

    @torch.inference_mode()
    def paint() -> Tensor:
        scheduler.set_timesteps(steps)
        x_t = torch.randn(batch_size, data.channels, data.image_size, data.image_size)
        x_t = x_t.to(device)
        for t in scheduler.timesteps:
            with torch.autocast(device, DTYPES[precision], enabled=precision == "bf16"):
                output = peer(torch.cat([x_t, x_t]), t.to(device).expand(2 * batch_size), both)
            cond, uncond = output.float().chunk(2)
            guided = uncond + guidance * (cond - uncond)
            x_t = scheduler.step(guided, t, x_t).prev_sample
        return data.to_uint8(x_t.cpu())

    def run(count: int) -> None:
        for _ in range(count):
            paint()

    return Work(run, _facts(peer, batch_size) | {"steps": steps, "precision": precision})


def _pictures(layout: Layout) -> tuple[Tensor, Tensor]:
    """Returns all training pictures (N, C, H, W), normalised, and their embeddings (N, D)."""
    data = Prepared(layout.prepared)
    train = data.split("train")
    images = data.normalise(train.gather(torch.arange(len(train))))
    return images, torch.from_numpy(Embeddings(layout.embeddings).images("train").copy())


def _facts(peer: Peer, pictures: int) -> dict[str, Any]:
    parameters = sum(p.numel() for p in peer.parameters())
    widths = tuple(peer.unet.config.block_out_channels)
    return {"pictures": pictures, "parameters": parameters, "widths": widths}
