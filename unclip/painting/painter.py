"""From image embeddings to pictures: CLIP, which reads captions, and the decoder, which paints."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unclip.config.errors import UserError
from unclip.core.seeding import generator
from unclip.data.prepared import Normalisation
from unclip.data.tokenizer import END, START, split_words, tokenize, trim_padding
from unclip.diffusion.reverse import (
    Diffusion,
    Solver,
    droppable,
    inverse_diffusion,
    reverse_diffusion,
)
from unclip.models.clip import CLIP
from unclip.models.unet import UNet
from unclip.painting.checkpoints import ClipFacts, DecoderFacts, Loaded

NOISE = "decoder noise"  # what the decoder's draws are for
INVERSION_EVALUATIONS = 3  # of the decoder a step; with 25 steps an error of 0.002 of white


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


@dataclass(frozen=True)
class Latent:
    """All that one picture is painted from, beside the decoder (unCLIP §3).

    Attributes:
        image_embed: (D,), unit norm: what the picture shows.
        seed: of its noise.
        x_T: (C, H, W), the noise that it starts from; None is the seed's.
    """

    image_embed: Tensor
    seed: int
    x_T: Tensor | None = None


class Painter:
    """CLIP and the decoder, ready to paint from image embeddings.

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
        decoder: UNet,
        *,
        facts: tuple[ClipFacts, DecoderFacts],
        configs: dict[str, dict[str, Any]],
        hashes: dict[str, str],
        device: str,
    ) -> None:
        self.clip: CLIP = clip.to(device)
        self.decoder: UNet = decoder.to(device)
        self.hashes, self.device = hashes, device
        clip_facts, decoder_facts = facts
        self.prompts = clip_facts.prompts
        self.words = frozenset(clip_facts.words)
        self.text_length: int = configs["clip"]["text_length"]
        self.embed_dim: int = configs["clip"]["embed_dim"]
        size = configs["decoder"]["image_size"]
        self.picture_shape = (configs["decoder"]["in_channels"], size, size)
        self.reads_captions: bool = configs["decoder"]["caption_depth"] > 0
        self.normalisation = Normalisation(tuple(decoder_facts.mean), tuple(decoder_facts.std))
        self.decoder_diffusion = Diffusion.of(decoder_facts.diffusion)

    @classmethod
    def load(cls, models: Path, device: str = "cpu") -> Self:
        """Returns the painter in a folder with the folders clip and decoder.

        Raises:
            UserError: a network is missing, damaged, of another kind or does not fit the others.
        """
        loaded = Loaded.of(models, ("clip", "decoder"))
        return cls(
            loaded.build("clip", CLIP),
            loaded.build("decoder", UNet),
            facts=loaded.painter_facts(),
            configs=loaded.configs,
            hashes=loaded.hashes,
            device=device,
        )

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> tuple[Texts, Tensor]:
        """Returns what the networks read of the distinct prompts, and each prompt's row, (N,).

        Raises:
            UserError: a prompt is empty, too long or holds control characters.
        """
        distinct = list(dict.fromkeys(prompts))
        tokens, mask = trim_padding(*tokenize(distinct, self.text_length))
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        with torch.autocast(tokens.device.type, enabled=False):  # as the prior has met captions
            embeds, encodings = self.clip.encode_text(tokens, mask)
        place = {prompt: row for row, prompt in enumerate(distinct)}
        index = torch.tensor([place[prompt] for prompt in prompts], device=self.device)
        return Texts(tokens, mask, embeds, encodings), index

    def unknown_words(self, prompt: str) -> list[str]:
        """Returns the words of a prompt that no training caption has."""
        return [word for word in split_words(prompt) if word not in self.words]

    @torch.inference_mode()
    def embed(self, pictures: npt.NDArray[np.uint8]) -> Tensor:
        """Returns CLIP's embeddings of pictures (N, C, H, W) uint8: (N, D), unit norm."""
        return self.clip.encode_image(self._normalise(pictures))

    def first_noise(self, seed: int) -> Tensor:
        """Returns the noise that `decode` starts from with a seed, (C, H, W) on the CPU."""
        return torch.randn(self.picture_shape, generator=generator(seed, NOISE))

    def invert(
        self, pictures: npt.NDArray[np.uint8], image_embeds: Tensor, solver: Solver
    ) -> Tensor:
        """Returns the noise (N, C, H, W) from which the decoder paints pictures again.

        Captions are not read: a picture has none.

        Args:
            pictures: (N, C, H, W) uint8.
            image_embeds: (N, D), their embeddings.
            solver: how they will be painted: by ddim with eta 0 to come back.

        Raises:
            UserError: more steps are asked for than the decoder has timesteps.
        """
        require_steps("sample.steps", solver, self.decoder_diffusion)
        return inverse_diffusion(
            droppable(self.decoder),
            self._conditions(image_embeds, None),
            self._normalise(pictures),
            self.decoder_diffusion,
            solver,
            x_start_range=self._value_range(),
            evaluations=INVERSION_EVALUATIONS,
        )

    def paint_latent(
        self,
        latent: Latent,
        solver: Solver,
        *,
        callback: Callable[[int, int, Tensor, Tensor], None] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Returns the picture (C, H, W) uint8 of a latent, painted alone and without a caption.

        Alone, because rounding depends on the batch: so a picture hangs on its latent, the solver
        and the decoder, and on nothing else, to the last bit.

        Raises:
            UserError: more steps are asked for than the decoder has timesteps.
        """
        x_T = None if latent.x_T is None else latent.x_T[None]
        embeds, seeds = latent.image_embed[None], [latent.seed]
        return self.decode(embeds, None, seeds, solver, 1, x_T=x_T, callback=callback)[0]

    def decode(
        self,
        image_embeds: Tensor,
        prompts: Sequence[str] | None,
        seeds: Sequence[int],
        solver: Solver,
        batch_size: int,
        *,
        x_T: Tensor | None = None,
        callback: Callable[[int, int, Tensor, Tensor], None] | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> npt.NDArray[np.uint8]:
        """Returns pictures (N, C, H, W) uint8, picture i painted from embedding i with seed i.

        Args:
            image_embeds: (N, D), unit norm: the prior's, or those of real pictures.
            prompts: N captions, read only by a decoder with a caption encoder; None is no caption.
            seeds: N seeds of the noise.
            solver: how the decoder is sampled.
            batch_size: pictures at once.
            x_T: (N, C, H, W), the noise to start from; None is that of the seeds.
            callback: see `samplers.Sampler`; sees one batch after another.
            progress: called with the number of pictures after each batch.

        Raises:
            UserError: as `read`, or more steps are asked for than the decoder has timesteps.
        """
        require_steps("sample.steps", solver, self.decoder_diffusion)
        conditions = self._conditions(image_embeds, prompts)
        parts = []
        for rows in slices(len(seeds), batch_size):
            painted = reverse_diffusion(
                droppable(self.decoder),
                {name: condition[rows] for name, condition in conditions.items()},
                [generator(seed, NOISE) for seed in seeds[rows]],
                self.picture_shape,
                self.decoder_diffusion,
                solver,
                device=self.device,
                x_start_range=self._value_range(),
                x_T=None if x_T is None else x_T[rows].to(self.device),
                callback=callback,
            )
            parts.append(self.normalisation.to_uint8(painted.cpu()).numpy())
            progress(len(parts[-1]))
        return np.concatenate(parts)

    def _conditions(self, image_embeds: Tensor, prompts: Sequence[str] | None) -> dict[str, Tensor]:
        """Returns what the decoder is given for N pictures, on the device, each (N, ...)."""
        conditions = {"image_embeds": image_embeds.to(self.device)}
        if prompts is not None:
            texts, index = self.read(prompts)
            if self.reads_captions:
                conditions |= {"text_tokens": texts.tokens[index], "text_mask": texts.mask[index]}
        elif self.reads_captions:
            tokens = torch.tensor([[START, END]], device=self.device).repeat(len(image_embeds), 1)
            is_real = torch.ones_like(tokens, dtype=torch.bool)
            conditions |= {"text_tokens": tokens, "text_mask": is_real}
            conditions |= {"text_drop_mask": is_real[:, 0]}
        return conditions

    def _normalise(self, pictures: npt.NDArray[np.uint8]) -> Tensor:
        return self.normalisation.normalise(torch.from_numpy(np.array(pictures)).to(self.device))

    def _value_range(self) -> tuple[Tensor, Tensor]:
        low, high = self.normalisation.value_range()
        return low.to(self.device), high.to(self.device)


def require_steps(key: str, solver: Solver, diffusion: Diffusion) -> None:
    """Stops who asks for more steps than the timesteps that stored weights were trained with.

    Raises:
        UserError: so it is; today's params may not be those of the training.
    """
    if solver.steps > diffusion.num_timesteps:
        raise UserError(
            f"{key}: {solver.steps} is more than the {diffusion.num_timesteps} timesteps that this "
            "network was trained with; lower it"
        )


def slices(total: int, size: int) -> Iterator[slice]:
    """Returns the slices of `size` that `total` rows fall into."""
    return (slice(start, start + size) for start in range(0, total, size))
