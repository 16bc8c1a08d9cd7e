"""The trained system: CLIP, prior and decoder, from captions to pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.config.layout import KINDS
from unclip.core.seeding import generator
from unclip.diffusion.reverse import Diffusion, Solver, reverse_diffusion
from unclip.models.clip import CLIP
from unclip.models.prior import Prior
from unclip.models.unet import UNet
from unclip.painting.checkpoints import ClipFacts, DecoderFacts, Loaded, PriorFacts
from unclip.painting.painter import Painter, require_steps, slices


@dataclass(frozen=True)
class Settings:
    """How to paint.

    Attributes:
        prior: how the prior is sampled.
        decoder: how the decoder is sampled.
        prior_candidates: embeddings drawn for each picture; the one with the highest dot product
            with the caption's embedding is painted (unCLIP §2.2 draws two).
        batch_size: pictures at once; changes speed, and a picture by no more than rounding.
    """

    prior: Solver
    decoder: Solver
    prior_candidates: int
    batch_size: int

    @classmethod
    def of(cls, params: Any) -> "Settings":
        """Returns the settings of the sample section of params.yaml."""
        prior = Solver(
            params.prior_sampler, params.prior_steps, params.prior_eta, params.prior_guidance
        )
        decoder = Solver(params.sampler, params.steps, params.eta, params.guidance)
        return cls(prior, decoder, params.prior_candidates, params.batch_size)


class System(Painter):
    """CLIP, prior and decoder, ready to paint from captions; attributes as of `Painter`."""

    def __init__(
        self,
        clip: CLIP,
        prior: Prior,
        decoder: UNet,
        *,
        facts: tuple[ClipFacts, PriorFacts, DecoderFacts],
        configs: dict[str, dict[str, Any]],
        hashes: dict[str, str],
        device: str,
    ) -> None:
        clip_facts, prior_facts, decoder_facts = facts
        super().__init__(
            clip,
            decoder,
            facts=(clip_facts, decoder_facts),
            configs=configs,
            hashes=hashes,
            device=device,
        )
        self.prior: Prior = prior.to(device)
        self.prior_diffusion = Diffusion.of(prior_facts.diffusion)
        self.embed_mean = torch.tensor(prior_facts.embed_mean, device=device)
        self.embed_std = torch.tensor(prior_facts.embed_std, device=device)

    @classmethod
    def load(cls, models: Path, device: str = "cpu") -> Self:
        """Returns the system in a folder with the folders clip, prior and decoder.

        Raises:
            UserError: a network is missing, damaged, of another kind or does not fit the others.
        """
        loaded = Loaded.of(models, KINDS)
        clip, prior, decoder = (
            loaded.build("clip", CLIP),
            loaded.build("prior", Prior),
            loaded.build("decoder", UNet),
        )
        clip_facts, decoder_facts = loaded.painter_facts()
        prior_facts = loaded.facts("prior", PriorFacts, loaded.configs["clip"]["embed_dim"])
        return cls(
            clip,
            prior,
            decoder,
            facts=(clip_facts, prior_facts, decoder_facts),
            configs=loaded.configs,
            hashes=loaded.hashes,
            device=device,
        )

    @torch.inference_mode()
    def sample_prior(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: Settings
    ) -> Tensor:
        """Returns image embeddings (N, D), unit norm, one for each prompt and its seed.

        Raises:
            UserError: as `read`, or more steps are asked for than the prior has timesteps.
        """
        require_steps("sample.prior_steps", settings.prior, self.prior_diffusion)
        texts, index = self.read(prompts)
        # What the captions leave in the transformer is the same at every step.
        memory = self.prior.read(texts.encodings, texts.embeds, texts.mask)

        def denoise(
            x_t: Tensor, t: Tensor, /, *, drop_mask: Tensor, caption_index: Tensor
        ) -> Tensor:
            return self.prior.denoise(x_t, t, memory, caption_index, drop_mask)

        count, parts = settings.prior_candidates, []
        for rows in slices(len(prompts), settings.batch_size):
            drawn = reverse_diffusion(
                denoise,
                {"caption_index": index[rows].repeat_interleave(count)},
                [generator(seed, "prior noise", i) for seed in seeds[rows] for i in range(count)],
                (self.embed_dim,),
                self.prior_diffusion,
                settings.prior,
                device=self.device,
            )
            embeds = F.normalize(drawn * self.embed_std + self.embed_mean, dim=-1)
            parts.append(_nearest(embeds.unflatten(0, (-1, count)), texts.embeds[index[rows]]))
        return torch.cat(parts)

    def paint(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: Settings
    ) -> npt.NDArray[np.uint8]:
        """Returns pictures (N, C, H, W) uint8, one for each prompt and its seed."""
        embeds = self.sample_prior(prompts, seeds, settings)
        return self.decode(embeds, prompts, seeds, settings.decoder, settings.batch_size)


def _nearest(candidates: Tensor, text_embeds: Tensor) -> Tensor:
    """Returns of each row's candidates (B, count, D) the one nearest its caption, (B, D)."""
    best = (candidates * text_embeds[:, None]).sum(dim=-1).argmax(dim=1)
    return candidates[torch.arange(len(best), device=best.device), best]
