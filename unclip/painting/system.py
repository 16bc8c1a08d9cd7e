"""The trained system: CLIP, prior and decoder, from captions to pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.core.device import autocast
from unclip.core.seeding import generator
from unclip.data.prepared import Normalisation
from unclip.data.tokenizer import END, START, tokenize, trim_padding
from unclip.diffusion.process import Diffusion
from unclip.diffusion.reverse import final, inverse_diffusion, reverse_diffusion
from unclip.diffusion.samplers import Step
from unclip.models.clip import CLIP
from unclip.models.prior import Prior
from unclip.models.unet import UNet
from unclip.painting.known import Known
from unclip.painting.settings import Latent, Settings, require_steps

Pictures = npt.NDArray[np.uint8]
Progress = Callable[[int], None]  # called with the number of pictures after each batch

NOISE = "decoder noise"  # what the decoder's draws are for
INVERSION_EVALUATIONS = 3  # of the decoder per step; with 25 steps an error of 0.002 of white


class Texts(NamedTuple):
    """What the prior reads of K captions."""

    embeds: Tensor  # (K, D), unit norm
    encodings: Tensor  # (K, L, text_dim)
    mask: Tensor  # (K, L) bool


@dataclass(frozen=True, eq=False)
class System:
    """CLIP, prior and decoder, ready to paint; `loading.load_system` reads one from a folder.

    Attributes:
        clip: embeds pictures and captions.
        decoder: paints.
        prior: draws an image embedding for a caption; None if embeddings are given.
        decoder_diffusion: the process that the decoder was trained with.
        prior_diffusion: the process that the prior was trained with, if there is one.
        embed_mean: (D,), of the embeddings that the prior was trained on.
        embed_std: (D,), of the same.
        normalisation: between the decoder's numbers and pixels.
        picture_shape: (C, H, W).
        text_length: the longest prompt in bytes, start and end included.
        prompts: the default prompts of the training data.
        known: what training showed.
        hashes: the SHA-256 of each network's weights, by kind.
        device: of the networks: "cpu", "cuda" or "mps".
    """

    clip: CLIP
    decoder: UNet
    prior: Prior | None
    decoder_diffusion: Diffusion
    prior_diffusion: Diffusion | None
    embed_mean: Tensor
    embed_std: Tensor
    normalisation: Normalisation
    picture_shape: tuple[int, int, int]
    text_length: int
    prompts: list[str]
    known: Known
    hashes: dict[str, str]
    device: str

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> tuple[Texts, Tensor]:
        """Returns what the networks read of the distinct prompts, and each prompt's row, (N,).

        Raises:
            UserError: a prompt is empty, too long or holds control characters.
        """
        distinct = list(dict.fromkeys(prompts))
        tokens, mask = trim_padding(*tokenize(distinct, self.text_length))
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        with autocast(self.device, "fp32"):  # as in the prior's training
            embeds, encodings = self.clip.encode_text(tokens, mask)
        place = {prompt: row for row, prompt in enumerate(distinct)}
        index = torch.tensor([place[prompt] for prompt in prompts], device=self.device)
        return Texts(embeds, encodings, mask), index

    def warnings(self, prompts: Sequence[str]) -> list[str]:
        """Returns a line for each prompt that training never showed, but for none of its own."""
        asked = [each for each in dict.fromkeys(prompts) if each not in self.prompts]
        readable = (each for each in asked if len(each) <= self.text_length)  # else an error
        return list(filter(None, map(self.known.warning, readable)))

    @torch.inference_mode()
    def embed(self, pictures: Pictures) -> Tensor:
        """Returns CLIP's embeddings of pictures (N, C, H, W) uint8: (N, D), unit norm."""
        return self.clip.encode_image(self._normalise(pictures))

    def first_noise(self, seed: int) -> Tensor:
        """Returns the noise that a picture starts from with a seed, (C, H, W) on the CPU."""
        return torch.randn(self.picture_shape, generator=generator(seed, NOISE))

    def invert(self, pictures: Pictures, image_embeds: Tensor, settings: Settings) -> Tensor:
        """Returns the noise (N, C, H, W) from which the decoder paints pictures again, in float32.

        Pictures are (N, C, H, W) uint8, their embeddings (N, D). Reads no captions. Only ddim with
        eta 0 leads back exactly.

        Raises:
            UserError: more steps are asked for than the decoder has timesteps.
        """
        require_steps("sample.steps", settings.decoder, self.decoder_diffusion)
        return inverse_diffusion(
            self.decoder,
            self._conditions(image_embeds, None),
            self._normalise(pictures),
            self.decoder_diffusion,
            settings.decoder,
            x_start_range=self._value_range(),
            evaluations=INVERSION_EVALUATIONS,
        )

    @torch.inference_mode()
    def sample_prior(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: Settings
    ) -> Tensor:
        """Returns image embeddings (N, D), unit norm, one for each prompt with its seed.

        Raises:
            UserError: as `read`, or more steps are asked for than the prior has timesteps.
        """
        prior, diffusion = self.prior, self.prior_diffusion
        assert prior is not None, "this system was loaded without its prior"
        assert diffusion is not None, "this system was loaded without its prior"
        require_steps("sample.prior_steps", settings.prior, diffusion)
        texts, index = self.read(prompts)
        count, parts = settings.prior_candidates, []
        with autocast(self.device, settings.precision):
            # The transformer's memory of the captions is the same at every step.
            memory = prior.read(texts.encodings, texts.embeds, texts.mask)

            def denoise(
                x_t: Tensor, t: Tensor, /, *, drop_mask: Tensor, caption_index: Tensor
            ) -> Tensor:
                return prior.denoise(x_t, t, memory, caption_index, drop_mask)

            for rows in _slices(len(prompts), settings.batch_size):
                candidates = [(seed, i) for seed in seeds[rows] for i in range(count)]
                drawn = final(
                    reverse_diffusion(
                        denoise,
                        {"caption_index": index[rows].repeat_interleave(count)},
                        [generator(seed, "prior noise", i) for seed, i in candidates],
                        self.embed_mean.shape,
                        diffusion,
                        settings.prior,
                        device=self.device,
                    )
                )
                embeds = F.normalize(drawn * self.embed_std + self.embed_mean, dim=-1)
                parts.append(_nearest(embeds.unflatten(0, (-1, count)), texts.embeds[index[rows]]))
        return torch.cat(parts)

    def denoise(
        self,
        image_embeds: Tensor,
        prompts: Sequence[str] | None,
        seeds: Sequence[int],
        settings: Settings,
        x_T: Tensor | None = None,
    ) -> Iterator[Step]:
        """Yields the steps that paint one batch of pictures, from `x_T` or else from the seeds.

        Other arguments as in `decode`. Networks compute in the precision of the caller's autocast.
        """
        require_steps("sample.steps", settings.decoder, self.decoder_diffusion)
        return reverse_diffusion(
            self.decoder,
            self._conditions(image_embeds, prompts),
            [generator(seed, NOISE) for seed in seeds],
            self.picture_shape,
            self.decoder_diffusion,
            settings.decoder,
            device=self.device,
            x_start_range=self._value_range(),
            x_T=None if x_T is None else x_T.to(self.device),
        )

    def decode(
        self,
        image_embeds: Tensor,
        prompts: Sequence[str] | None,
        seeds: Sequence[int],
        settings: Settings,
        *,
        progress: Progress = lambda count: None,
    ) -> Pictures:
        """Returns pictures (N, C, H, W) uint8, picture i painted from embedding i with seed i.

        Args:
            image_embeds: (N, D), unit norm, from the prior or from real pictures.
            prompts: N captions, read only by a decoder with a caption encoder; None: no captions.
            seeds: N seeds of the noise.
            settings: how to paint.
            progress: see `Progress`.

        Raises:
            UserError: as `read`, or more steps are asked for than the decoder has timesteps.
        """
        parts = []
        with autocast(self.device, settings.precision):
            for rows in _slices(len(seeds), settings.batch_size):
                some = None if prompts is None else prompts[rows]
                steps = self.denoise(image_embeds[rows], some, seeds[rows], settings)
                parts.append(self.to_uint8(final(steps)))
                progress(len(parts[-1]))
        return np.concatenate(parts)

    def paint(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Settings,
        progress: Progress = lambda count: None,
    ) -> Pictures:
        """Returns pictures (R, N, C, H, W) uint8, a row for each prompt, a column for each seed."""
        every_prompt = [prompt for prompt in prompts for _ in seeds]
        every_seed = [seed for _ in prompts for seed in seeds]
        embeds = self.sample_prior(every_prompt, every_seed, settings)
        painted = self.decode(embeds, every_prompt, every_seed, settings, progress=progress)
        return painted.reshape(len(prompts), len(seeds), *self.picture_shape)

    def paint_latent(self, latent: Latent, settings: Settings) -> Pictures:
        """Returns the picture (C, H, W) uint8 of a latent, painted alone and without a caption.

        Rounding depends on the batch. Painted alone, a picture depends on its latent, the settings
        and the decoder only, to the last bit.

        Raises:
            UserError: more steps are asked for than the decoder has timesteps.
        """
        with autocast(self.device, settings.precision):
            return self.to_uint8(final(self.denoise_latent(latent, settings)))[0]

    def denoise_latent(self, latent: Latent, settings: Settings) -> Iterator[Step]:
        """Yields the steps by which `paint_latent` paints, of a batch of one."""
        x_T = None if latent.x_T is None else latent.x_T[None]
        return self.denoise(latent.image_embed[None], None, [latent.seed], settings, x_T)

    def to_uint8(self, images: Tensor) -> Pictures:
        """Returns pictures (N, C, H, W) uint8 from the decoder's numbers."""
        return self.normalisation.to_uint8(images.cpu()).numpy()

    def _conditions(self, image_embeds: Tensor, prompts: Sequence[str] | None) -> dict[str, Tensor]:
        """Returns the conditions of the decoder for N pictures, each (N, ...) on the device."""
        conditions = {"image_embeds": image_embeds.to(self.device)}
        if self.decoder.conditioner.caption_encoder is None:
            return conditions
        if prompts is not None:
            tokens, mask = trim_padding(*tokenize(prompts, self.text_length))
        else:
            tokens = torch.tensor([[START, END]]).repeat(len(image_embeds), 1)
            mask = torch.ones_like(tokens, dtype=torch.bool)
            conditions["text_drop_mask"] = mask[:, 0].to(self.device)
        text = {"text_tokens": tokens.to(self.device), "text_mask": mask.to(self.device)}
        return conditions | text

    def _value_range(self) -> tuple[Tensor, Tensor]:
        low, high = self.normalisation.value_range()
        return low.to(self.device), high.to(self.device)

    def _normalise(self, pictures: Pictures) -> Tensor:
        return self.normalisation.normalise(torch.from_numpy(np.array(pictures)).to(self.device))


def _slices(total: int, size: int) -> Iterator[slice]:
    """Yields slices of `size` rows that cover `total` rows."""
    return (slice(start, start + size) for start in range(0, total, size))


def _nearest(candidates: Tensor, text_embeds: Tensor) -> Tensor:
    """Returns each row's candidate (of B, count, D) that is nearest to its caption, (B, D)."""
    best = (candidates * text_embeds[:, None]).sum(dim=-1).argmax(dim=1)
    return candidates[torch.arange(len(best), device=best.device), best]
