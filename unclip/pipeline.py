"""The trained system as one object: from captions to pictures in five lines.

from pathlib import Path
from unclip.pipeline import Settings, UnCLIP

system = UnCLIP.load(Path("models"))
pictures = system.sample(["a large red circle"], seeds=[0], settings=settings)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unclip.artifacts import build, load_artifact, weights_hash
from unclip.data import Normalisation
from unclip.models.clip import CLIP
from unclip.models.prior import Prior
from unclip.models.unet import UNet
from unclip.sampling import Diffusion, Solver, droppable, reverse_diffusion
from unclip.seeding import generator
from unclip.tokenizer import split_words, tokenize, trim_padding

KINDS = ("clip", "prior", "decoder")


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


@dataclass(frozen=True)
class Texts:
    """What the networks read of B captions.

    Attributes:
        tokens: (B, L) int64.
        mask: (B, L) bool.
        embeds: (B, D), unit norm.
        encodings: (B, L, text_dim).
    """

    tokens: Tensor
    mask: Tensor
    embeds: Tensor
    encodings: Tensor

    def __getitem__(self, rows: Any) -> "Texts":
        return Texts(self.tokens[rows], self.mask[rows], self.embeds[rows], self.encodings[rows])


class UnCLIP:
    """CLIP, prior and decoder, ready to paint.

    Attributes:
        hashes: the SHA-256 of each network's weights.
        normalisation: between the decoder's numbers and pixels.
        text_length: the longest prompt in bytes, start and end included.
        prompts: the default prompts of the data set it was trained on.
        words: the words of the captions it was trained on.
    """

    def __init__(
        self,
        clip: CLIP,
        prior: Prior,
        decoder: UNet,
        *,
        facts: dict[str, dict[str, Any]],
        configs: dict[str, dict[str, Any]],
        hashes: dict[str, str],
        device: str,
    ) -> None:
        self.clip: CLIP = clip.to(device)
        self.prior: Prior = prior.to(device)
        self.decoder: UNet = decoder.to(device)
        self.hashes, self.device = hashes, device
        self.prompts: list[str] = facts["clip"]["prompts"]
        self.words = frozenset(facts["clip"]["words"])
        self.text_length: int = configs["clip"]["text_length"]
        self.embed_dim: int = configs["clip"]["embed_dim"]
        size = configs["decoder"]["image_size"]
        self.picture_shape = (configs["decoder"]["in_channels"], size, size)
        self.reads_captions: bool = configs["decoder"]["caption_depth"] > 0
        decoder_facts, prior_facts = facts["decoder"], facts["prior"]
        self.normalisation = Normalisation(
            tuple(decoder_facts["mean"]), tuple(decoder_facts["std"])
        )
        self.decoder_diffusion = Diffusion(**decoder_facts["diffusion"])
        self.prior_diffusion = Diffusion(**prior_facts["diffusion"])
        self.embed_mean = torch.tensor(prior_facts["embed_mean"], device=device)
        self.embed_std = torch.tensor(prior_facts["embed_std"], device=device)

    @classmethod
    def load(cls, models: Path, device: str = "cpu") -> "UnCLIP":
        """Returns the system in a folder with the folders clip, prior and decoder.

        Raises:
            UserError: a network is missing, damaged or of another kind.
        """
        artifacts = {kind: load_artifact(models / kind, kind) for kind in KINDS}
        clip, prior, decoder = (
            build(artifacts[kind], constructor, models / kind)
            for kind, constructor in (("clip", CLIP), ("prior", Prior), ("decoder", UNet))
        )
        assert isinstance(clip, CLIP)
        assert isinstance(prior, Prior)
        assert isinstance(decoder, UNet)
        return cls(
            clip,
            prior,
            decoder,
            facts={kind: artifact.facts for kind, artifact in artifacts.items()},
            configs={kind: artifact.config for kind, artifact in artifacts.items()},
            hashes={kind: weights_hash(models / kind) for kind in KINDS},
            device=device,
        )

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> Texts:
        """Returns what the networks read of the prompts; equal prompts are encoded once.

        Raises:
            UserError: a prompt is empty, too long or holds control characters.
        """
        distinct = list(dict.fromkeys(prompts))
        tokens, mask = trim_padding(*tokenize(distinct, self.text_length))
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        embeds, encodings = self.clip.encode_text(tokens, mask)
        texts = Texts(tokens, mask, embeds, encodings)
        place = {prompt: row for row, prompt in enumerate(distinct)}
        return texts[torch.tensor([place[prompt] for prompt in prompts], device=self.device)]

    def unknown_words(self, prompt: str) -> list[str]:
        """Returns the words of a prompt that no training caption has."""
        return [word for word in split_words(prompt) if word not in self.words]

    def sample_prior(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: Settings
    ) -> Tensor:
        """Returns image embeddings (N, D), unit norm, one for each prompt and its seed."""
        texts = self.read(prompts)
        parts = [
            self._sample_prior(texts[rows], seeds[rows], settings)
            for rows in _slices(len(prompts), settings.batch_size)
        ]
        return torch.cat(parts)

    def _sample_prior(self, texts: Texts, seeds: Sequence[int], settings: Settings) -> Tensor:
        count = settings.prior_candidates
        texts = texts[torch.arange(len(seeds), device=self.device).repeat_interleave(count)]
        conditions = {
            "text_encodings": texts.encodings,
            "text_embeds": texts.embeds,
            "text_mask": texts.mask,
        }
        drawn = reverse_diffusion(
            self.prior,
            conditions,
            [generator(seed, "prior noise", i) for seed in seeds for i in range(count)],
            (self.embed_dim,),
            self.prior_diffusion,
            settings.prior,
            device=self.device,
        )
        embeds = torch.nn.functional.normalize(drawn * self.embed_std + self.embed_mean, dim=-1)
        scores = (embeds * texts.embeds).sum(dim=-1).view(-1, count)
        best = scores.argmax(dim=1) + torch.arange(len(seeds), device=self.device) * count
        return embeds[best]

    def decode(
        self,
        image_embeds: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Settings,
        *,
        callback: Callable[[int, int, Tensor, Tensor], None] | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> npt.NDArray[np.uint8]:
        """Returns pictures (N, C, H, W) uint8, picture i painted from embedding i with seed i.

        Args:
            image_embeds: (N, D), unit norm: the prior's, or those of real pictures.
            prompts: N captions, read only by a decoder with a caption encoder.
            seeds: N seeds of the noise.
            settings: how to paint.
            callback: see `samplers.Sampler`; sees one batch after another.
            progress: called with the number of pictures after each batch.
        """
        texts = self.read(prompts)
        low, high = (end.to(self.device) for end in self.normalisation.value_range())
        parts = []
        for rows in _slices(len(prompts), settings.batch_size):
            conditions = {"image_embeds": image_embeds[rows].to(self.device)}
            if self.reads_captions:
                conditions |= {"text_tokens": texts.tokens[rows], "text_mask": texts.mask[rows]}
            painted = reverse_diffusion(
                droppable(self.decoder),
                conditions,
                [generator(seed, "decoder noise") for seed in seeds[rows]],
                self.picture_shape,
                self.decoder_diffusion,
                settings.decoder,
                device=self.device,
                x_start_range=(low, high),
                callback=callback,
            )
            parts.append(self.normalisation.to_uint8(painted.cpu()).numpy())
            progress(len(parts[-1]))
        return np.concatenate(parts)

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: Settings
    ) -> npt.NDArray[np.uint8]:
        """Returns pictures (N, C, H, W) uint8, one for each prompt and its seed."""
        return self.decode(self.sample_prior(prompts, seeds, settings), prompts, seeds, settings)


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))
