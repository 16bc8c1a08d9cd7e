"""The peer: training and painting as Hugging Face's diffusers does them, at equal FLOPs.

The step is the plain one of its text-to-image training script (autocast, AdamW, clipping, EMA),
with the fused and foreach kernels that ours has too; the painting is the loop of its pipelines.
Pictures and embeddings are noise, which changes no time, and lie in memory, which spares it a
DataLoader.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from benchmarks.ours import DTYPES, count_flops
from benchmarks.turns import Work
from unclip.config.layout import Layout
from unclip.core.artifacts import describe
from unclip.models.unet import UNet
from unclip.params.loading import load_params

WIDTH_STEP = 8  # channels


def training(folder: Path, precision: str, device: str) -> Work:
    """Returns the training steps of the peer of a workspace's decoder.

    Args:
        folder: the workspace.
        precision: "bf16" or "fp32".
        device: where it computes.
    """
    params, peer = load_params(Layout(folder).params).decoder, _peer_of(folder).to(device)
    optimizer = torch.optim.AdamW(
        peer.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True
    )
    ema = EMAModel(peer.parameters(), decay=params.ema_decay, foreach=True)
    scheduler: Any = DDPMScheduler(params.num_timesteps)
    autocast = torch.autocast(device, DTYPES[precision], enabled=precision == "bf16")
    batch = params.batch_size
    images, embeds = torch.randn(batch, *peer.picture_shape), torch.randn(batch, peer.embed_dim)

    def step() -> None:
        x_start, condition = images.to(device), embeds.to(device)
        kept = torch.rand(batch, 1, device=device) >= params.image_drop_prob
        noise = torch.randn_like(x_start)
        t = torch.randint(params.num_timesteps, (batch,), device=device)
        x_t = scheduler.add_noise(x_start, noise, t)
        target = scheduler.get_velocity(x_start, noise, t)
        with autocast:
            output = peer(x_t, t, condition * kept)
            loss = F.mse_loss(output.float(), target.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), params.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.step(peer.parameters())
        loss.item()

    def run(count: int) -> None:
        for _ in range(count):
            step()

    parameters = sum(p.numel() for p in peer.parameters())
    facts = {"pictures": batch, "flops": count_flops(step), "parameters": parameters}
    return Work(run, facts | {"precision": precision, "widths": peer.widths})


def painting(folder: Path, num: int, steps: int, precision: str, device: str) -> Work:
    """Returns the painting of a batch by the peer of a workspace's decoder.

    DPM-Solver++(2M) with our number of steps, guidance by a doubled batch, pictures as uint8.
    """
    params, peer = load_params(Layout(folder).params), _peer_of(folder).to(device).eval()
    scheduler: Any = DPMSolverMultistepScheduler(
        params.decoder.num_timesteps,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    embeds = torch.randn(num, peer.embed_dim, device=device)
    both = torch.cat([embeds, torch.zeros_like(embeds)])

    @torch.inference_mode()
    def paint() -> Tensor:
        scheduler.set_timesteps(steps)
        x_t = torch.randn(num, *peer.picture_shape).to(device)
        for t in scheduler.timesteps:
            with torch.autocast(device, DTYPES[precision], enabled=precision == "bf16"):
                output = peer(torch.cat([x_t, x_t]), t.to(device).expand(2 * num), both)
            cond, uncond = output.float().chunk(2)
            guided = uncond + params.sample.guidance * (cond - uncond)
            x_t = scheduler.step(guided, t, x_t).prev_sample
        return (x_t.cpu() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)

    def run(count: int) -> None:
        for _ in range(count):
            paint()

    return Work(run, {"pictures": num, "steps": steps, "precision": precision})


class Peer(nn.Module):
    """UNet2DConditionModel behind a pixel unshuffle, given the image embedding as tokens.

    Attributes:
        widths: channels of each level.
        picture_shape: (C, H, W).
        embed_dim: width of the image embedding.
    """

    def __init__(self, config: dict[str, Any], widths: Sequence[int]) -> None:
        super().__init__()
        size, channels = config["image_size"], config["in_channels"]
        self.widths, self.picture_shape = tuple(widths), (channels, size, size)
        self.embed_dim, self.patch_size = config["embed_dim"], config["patch_size"]
        self.tokens = nn.Linear(self.embed_dim, config["num_image_tokens"] * self.embed_dim)
        size, channels = size // self.patch_size, channels * self.patch_size**2
        attends = [size // 2**i in config["attn_resolutions"] for i in range(len(widths))]
        self.unet: Any = UNet2DConditionModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=self.widths,
            layers_per_block=config["num_res_blocks"],
            down_block_types=tuple(
                "CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends
            ),
            up_block_types=tuple(
                "CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)
            ),
            cross_attention_dim=self.embed_dim,
            # Called so, it is their number of heads (diffusers issue 2011).
            attention_head_dim=tuple(_heads(width, config["head_channels"]) for width in widths),
            norm_num_groups=WIDTH_STEP,
            resnet_time_scale_shift="scale_shift",
            dropout=config["dropout"],
        )

    def forward(self, x_t: Tensor, t: Tensor, image_embeds: Tensor) -> Tensor:
        """Returns the model output (B, C, H, W) from x_t (B, C, H, W), t (B,) and embeds (B, D)."""
        tokens = self.tokens(image_embeds).unflatten(1, (-1, self.embed_dim))  # (B, N, D)
        h = F.pixel_unshuffle(x_t, self.patch_size)
        h = self.unet(h, t, encoder_hidden_states=tokens).sample
        return F.pixel_shuffle(h, self.patch_size)


def _heads(width: int, head_channels: int) -> int:
    """Returns the number of heads, each at least about `head_channels` wide, that divides."""
    most = max(1, width // head_channels)
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)


def _peer_of(folder: Path) -> Peer:
    """Returns the peer of a workspace's decoder."""
    config = describe(Layout(folder).model("decoder"), "decoder").config
    return Peer(config, _widths_for(folder))


@cache
def _widths_for(folder: Path) -> tuple[int, ...]:
    return matched_widths(describe(Layout(folder).model("decoder"), "decoder").config)


def matched_widths(config: dict[str, Any]) -> tuple[int, ...]:
    """Returns the channels of each level with which the peer of our UNet has about as many FLOPs.

    They are ours, all scaled alike.
    """
    ours = [config["model_channels"] * multiple for multiple in config["channel_mult"]]
    target = flops_of(UNet(**config), config)

    @cache
    def distance(widths: tuple[int, ...]) -> int:
        return flops_of(Peer(config, widths), config) - target

    scaled = sorted(
        {tuple(_rounded(percent * w / 100) for w in ours) for percent in range(40, 161)}
    )
    place = bisect_left(scaled, 0, key=distance)
    return min(scaled[max(0, place - 1) : place + 1], key=lambda widths: abs(distance(widths)))


def _rounded(width: float) -> int:
    return max(WIDTH_STEP, round(width / WIDTH_STEP) * WIDTH_STEP)


def flops_of(network: nn.Module, config: dict[str, Any]) -> int:
    """Returns the FLOPs, forward and backward, of a picture in our UNet or a peer of it."""
    x_t = torch.randn(1, config["in_channels"], config["image_size"], config["image_size"])
    t, embeds = torch.zeros(1).long(), torch.randn(1, config["embed_dim"])
    dropped = [torch.tensor([False])] if isinstance(network, UNet) else []
    return count_flops(lambda: network(x_t, t, embeds, *dropped).sum().backward())
