"""A system of tiny random networks, for what does not depend on training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny_params import REPO
from torch import nn

from unclip.api import UnCLIP
from unclip.core.artifacts import Artifact
from unclip.diffusion.reverse import Solver
from unclip.models.clip import CLIP
from unclip.models.prior import Prior
from unclip.models.unet import UNet
from unclip.painting.loading import make_system
from unclip.painting.settings import Settings
from unclip.painting.system import System
from unclip.params.loading import load_painting_params

MEAN, STD = (0.30, 0.2, 0.1), (0.33, 0.3, 0.4)  # normalised values from -0.9 to 2.67
EMBED_MEAN, EMBED_STD = (0.5, -0.2, 0.1, 0.0, 0.3, -0.4), (0.1, 0.3, 0.2, 0.5, 0.1, 0.2)
SETTINGS = Settings(
    prior=Solver("ddim", 5, 0.0, 2.0),
    decoder=Solver("dpmpp_2m", 4, 0.0, 1.5),
    prior_candidates=2,
    batch_size=8,
    precision="fp32",
)
CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {
        **{"image_size": 8, "in_channels": 3, "patch_size": 4, "embed_dim": 6, "vision_dim": 8},
        **{"vision_depth": 1, "vision_heads": 2, "text_dim": 8, "text_depth": 1, "text_heads": 2},
        **{"vocab_size": 256, "text_length": 32, "dropout": 0.2},
    },
    "prior": {
        **{"embed_dim": 6, "text_dim": 8, "text_length": 32},
        **{"dim": 8, "depth": 1, "num_heads": 2, "dropout": 0.2},
    },
    "decoder": {
        **{"image_size": 8, "in_channels": 3, "patch_size": 2, "model_channels": 8},
        **{"channel_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [2]},
        **{"head_channels": 8, "dropout": 0.2, "embed_dim": 6, "num_image_tokens": 2},
        **{"downsample": "conv", "conditioning": "scale_shift", "caption_depth": 0},
        **{"caption_dim": 8, "vocab_size": 256, "text_length": 32},
    },
}
NETWORKS: dict[str, type[nn.Module]] = {"clip": CLIP, "prior": Prior, "decoder": UNet}


def change(settings: Settings, **values: Any) -> Settings:
    """Returns settings with some changed: `prior__steps=3` is the prior's steps."""
    for key, value in values.items():
        name, _, part = key.partition("__")
        value = replace(getattr(settings, name), **{part: value}) if part else value
        settings = replace(settings, **{name: value})
    return settings


def shake(network: nn.Module, seed: int) -> nn.Module:
    """Returns the network with weights that are random everywhere, also where they start as 0."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=draws)
    return network.eval().requires_grad_(False)


def random_system(caption_depth: int = 0, **diffusion: str) -> System:
    """Returns a system whose networks have learned nothing and heed all their inputs.

    `diffusion` is what the decoder's process has other than the prior's, as in params.yaml.
    """
    torch.manual_seed(0)
    configs = CONFIGS | {"decoder": CONFIGS["decoder"] | {"caption_depth": caption_depth}}
    process = {"num_timesteps": 20, "schedule": "cosine", "schedule_offset": 0.008}
    facts: dict[str, dict[str, Any]] = {
        "clip": {"prompts": ["a red circle", "a blue star"], "words": ["a", "red", "circle"]},
        "prior": {
            "diffusion": process | {"prediction_type": "x_start"},
            **{"embed_mean": EMBED_MEAN, "embed_std": EMBED_STD},
        },
        "decoder": {
            "diffusion": process | {"prediction_type": "v"} | diffusion,
            **{"mean": MEAN, "std": STD},
        },
    }
    artifacts = {}
    for seed, (kind, config) in enumerate(configs.items()):
        weights = shake(NETWORKS[kind](**config), seed).state_dict()
        artifacts[kind] = Artifact(kind, config, weights, facts[kind])
    return make_system(artifacts, {kind: kind * 2 for kind in configs}, "cpu", Path("models"))


def random_unclip(caption_depth: int = 0) -> UnCLIP:
    """Returns that system with the params.yaml that ships with the code."""
    return UnCLIP(random_system(caption_depth), load_painting_params(REPO / "params.yaml"))
