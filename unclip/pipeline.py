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
import torch.nn.functional as F
from torch import Tensor

from unclip.artifacts import build, load_artifact, weights_hash
from unclip.data import Normalisation
from unclip.errors import UserError
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
    """What the networks read of K captions.

    Attributes:
        tokens: (K, L) int64.
        mask: (K, L) bool.
        embeds: (K, D), unit norm.
        encodings: (K, L, text_dim).
    """

    tokens: Tensor
    mask: Tensor
    embeds: Tensor
    encodings: Tensor


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
            UserError: a network is missing, damaged, of another kind or does not fit the others.
        """
        artifacts = {kind: load_artifact(models / kind, kind) for kind in KINDS}
        hashes = {kind: weights_hash(models / kind) for kind in KINDS}
        for kind in ("prior", "decoder"):
            if artifacts[kind].inputs.get("clip") != hashes["clip"]:
                raise UserError(
                    f"{models / kind}: was trained with another CLIP than the one beside it; "
                    "`dvc repro` trains it again, `dvc checkout` brings back what belongs together"
                )
        clip, prior, decoder = (
            build(artifacts[kind], constructor, models / kind)
            for kind, constructor in (("clip", CLIP), ("prior", Prior), ("decoder", UNet))
        )
        assert isinstance(clip, CLIP)
        assert isinstance(prior, Prior)
        assert isinstance(decoder, UNet)
        try:
            return cls(
                clip,
                prior,
                decoder,
                facts={kind: artifact.facts for kind, artifact in artifacts.items()},
                configs={kind: artifact.config for kind, artifact in artifacts.items()},
                hashes=hashes,
                device=device,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{models}: the facts in a model.json are damaged ({error!r}); "
                "`dvc checkout models` brings back what `dvc repro` made"
            ) from None

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> tuple[Texts, Tensor]:
        """Returns what the networks read of the distinct prompts, and each prompt's row, (N,).

        Raises:
            UserError: a prompt is empty, too long or holds control characters.
        """
        distinct = list(dict.fromkeys(prompts))
        tokens, mask = trim_padding(*tokenize(distinct, self.text_length))
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        embeds, encodings = self.clip.encode_text(tokens, mask)
        place = {prompt: row for row, prompt in enumerate(distinct)}
        index = torch.tensor([place[prompt] for prompt in prompts], device=self.device)
        return Texts(tokens, mask, embeds, encodings), index

    def unknown_words(self, prompt: str) -> list[str]:
        """Returns the words of a prompt that no training caption has."""
        return [word for word in split_words(prompt) if word not in self.words]

    @torch.inference_mode()
    def sample_prior(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: Settings
    ) -> Tensor:
        """Returns image embeddings (N, D), unit norm, one for each prompt and its seed.

        Raises:
            UserError: as `read`, or more steps are asked for than the prior has timesteps.
        """
        _require_steps("sample.prior_steps", settings.prior, self.prior_diffusion)
        texts, index = self.read(prompts)
        # What the captions leave in the transformer is the same at every step.
        memory = self.prior.read(texts.encodings, texts.embeds, texts.mask)

        def denoise(
            x_t: Tensor, t: Tensor, /, *, drop_mask: Tensor, caption_index: Tensor
        ) -> Tensor:
            return self.prior.denoise(x_t, t, memory, caption_index, drop_mask)

        count, parts = settings.prior_candidates, []
        for rows in _slices(len(prompts), settings.batch_size):
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

        Raises:
            UserError: as `read`, or more steps are asked for than the decoder has timesteps.
        """
        _require_steps("sample.steps", settings.decoder, self.decoder_diffusion)
        texts, index = self.read(prompts)
        low, high = (end.to(self.device) for end in self.normalisation.value_range())
        parts = []
        for rows in _slices(len(prompts), settings.batch_size):
            conditions = {"image_embeds": image_embeds[rows].to(self.device)}
            if self.reads_captions:
                captions = index[rows]
                conditions |= {"text_tokens": texts.tokens[captions]}
                conditions |= {"text_mask": texts.mask[captions]}
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


def _nearest(candidates: Tensor, text_embeds: Tensor) -> Tensor:
    """Returns of each row's candidates (B, count, D) the one nearest its caption, (B, D)."""
    best = (candidates * text_embeds[:, None]).sum(dim=-1).argmax(dim=1)
    return candidates[torch.arange(len(best), device=best.device), best]


def _require_steps(key: str, solver: Solver, diffusion: Diffusion) -> None:
    """Today's params may ask for more than the timesteps that stored weights were trained with."""
    if solver.steps > diffusion.num_timesteps:
        raise UserError(
            f"{key}: {solver.steps} is more than the {diffusion.num_timesteps} timesteps that this "
            "network was trained with; lower it"
        )


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))
