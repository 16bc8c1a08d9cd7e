"""Reads the trained system from a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from unclip.config.errors import UserError, reading
from unclip.config.layout import KINDS
from unclip.core.artifacts import Artifact, build, load_artifact, weights_hash
from unclip.data.prepared import Normalisation
from unclip.diffusion.process import Diffusion
from unclip.models.clip import CLIP
from unclip.models.prior import Prior
from unclip.models.unet import UNet
from unclip.painting.known import Known
from unclip.painting.system import System


def load_system(models: Path, device: str = "cpu", kinds: Sequence[str] = KINDS) -> System:
    """Returns the system in a folder that holds a folder for each network.

    `kinds` are the networks to load, CLIP first; a system without a prior paints embeddings only.

    Raises:
        UserError: a network is missing, damaged, of another kind or trained with another CLIP.
    """
    artifacts = {kind: load_artifact(models / kind, kind) for kind in kinds}
    hashes = {kind: weights_hash(models / kind) for kind in kinds}
    for kind in kinds[1:]:
        if artifacts[kind].inputs.get("clip") != hashes["clip"]:
            raise UserError(
                f"{models / kind}: was trained with another CLIP than the one beside it; "
                "`dvc repro` trains it again, `dvc checkout` restores networks that fit together"
            )
    return make_system(artifacts, hashes, device, models)


def make_system(
    artifacts: Mapping[str, Artifact], hashes: dict[str, str], device: str, models: Path
) -> System:
    """Returns the system of trained networks, by kind; errors name the folder `models`.

    Raises:
        UserError: config, weights or facts of a network are damaged.
    """
    clip, decoder = artifacts["clip"], artifacts["decoder"]
    embed_mean = embed_std = torch.empty(0)
    prior_network = prior_diffusion = None
    if prior := artifacts.get("prior"):
        prior_network = build(prior, Prior, models / "prior").to(device)
        with reading(models / "prior", "train_prior"):
            prior_diffusion = Diffusion(**prior.facts["diffusion"])
            embed_mean = torch.tensor(prior.facts["embed_mean"], device=device)
            embed_std = torch.tensor(prior.facts["embed_std"], device=device)
    clip_network = build(clip, CLIP, models / "clip").to(device)
    with reading(models / "clip", "train_clip"):
        prompts, captions = clip.facts["prompts"], clip.facts.get("captions")
        known = Known(captions or prompts, frozenset(clip.facts["words"]), bool(captions))
    unet = build(decoder, UNet, models / "decoder").to(device)
    with reading(models / "decoder", "train_decoder"):
        size = decoder.config["image_size"]
        return System(
            clip=clip_network,
            decoder=unet,
            prior=prior_network,
            decoder_diffusion=Diffusion(**decoder.facts["diffusion"]),
            prior_diffusion=prior_diffusion,
            embed_mean=embed_mean,
            embed_std=embed_std,
            normalisation=Normalisation(tuple(decoder.facts["mean"]), tuple(decoder.facts["std"])),
            picture_shape=(decoder.config["in_channels"], size, size),
            text_length=clip.config["text_length"],
            prompts=prompts,
            known=known,
            hashes=hashes,
            device=device,
        )
