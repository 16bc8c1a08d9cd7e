"""From image embeddings to pictures: CLIP, which reads captions, and the decoder, which paints."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from torch import Tensor, nn

from unclip.artifacts import Artifact, build, facts_of, load_artifact, weights_hash
from unclip.data import Mean, Normalisation, Std
from unclip.errors import UserError
from unclip.models.clip import CLIP
from unclip.models.unet import UNet
from unclip.params import ForwardProcess
from unclip.sampling import Diffusion, Solver, droppable, reverse_diffusion
from unclip.seeding import generator
from unclip.strict import Strict
from unclip.tokenizer import split_words, tokenize, trim_padding


def _complete(values: list[float], info: ValidationInfo) -> list[float]:
    if len(values) != info.context:
        raise ValueError(f"holds {len(values)} numbers, expected {info.context}")
    return values


Network = TypeVar("Network", bound=nn.Module)
AnyFacts = TypeVar("AnyFacts", bound=BaseModel)
Complete = AfterValidator(_complete)  # one number of each channel, or entry: the context


class Facts(Strict):
    """What must be known beside the weights; there may be more."""

    model_config = ConfigDict(extra="ignore")


class ClipFacts(Facts):
    """Of the data set that CLIP was trained on."""

    prompts: Annotated[list[str], Field(min_length=1)]
    words: list[str]


class DecoderFacts(Facts):
    """Of the pictures that the decoder was trained on, a number each channel."""

    diffusion: ForwardProcess
    mean: Annotated[list[Mean], Complete]
    std: Annotated[list[Std], Complete]


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
        embeds, encodings = self.clip.encode_text(tokens, mask)
        place = {prompt: row for row, prompt in enumerate(distinct)}
        index = torch.tensor([place[prompt] for prompt in prompts], device=self.device)
        return Texts(tokens, mask, embeds, encodings), index

    def unknown_words(self, prompt: str) -> list[str]:
        """Returns the words of a prompt that no training caption has."""
        return [word for word in split_words(prompt) if word not in self.words]

    def decode(
        self,
        image_embeds: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        solver: Solver,
        batch_size: int,
        *,
        callback: Callable[[int, int, Tensor, Tensor], None] | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> npt.NDArray[np.uint8]:
        """Returns pictures (N, C, H, W) uint8, picture i painted from embedding i with seed i.

        Args:
            image_embeds: (N, D), unit norm: the prior's, or those of real pictures.
            prompts: N captions, read only by a decoder with a caption encoder.
            seeds: N seeds of the noise.
            solver: how the decoder is sampled.
            batch_size: pictures at once.
            callback: see `samplers.Sampler`; sees one batch after another.
            progress: called with the number of pictures after each batch.

        Raises:
            UserError: as `read`, or more steps are asked for than the decoder has timesteps.
        """
        require_steps("sample.steps", solver, self.decoder_diffusion)
        texts, index = self.read(prompts)
        low, high = (end.to(self.device) for end in self.normalisation.value_range())
        parts = []
        for rows in slices(len(prompts), batch_size):
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
                solver,
                device=self.device,
                x_start_range=(low, high),
                callback=callback,
            )
            parts.append(self.normalisation.to_uint8(painted.cpu()).numpy())
            progress(len(parts[-1]))
        return np.concatenate(parts)


@dataclass(frozen=True)
class Loaded:
    """Networks in a folder that belong together, read and not yet built.

    Attributes:
        models: the folder.
        artifacts: by kind.
        hashes: of the weights, by kind.
    """

    models: Path
    artifacts: dict[str, Artifact]
    hashes: dict[str, str]

    @classmethod
    def of(cls, models: Path, kinds: Sequence[str]) -> "Loaded":
        """Returns what a folder holds of each kind, CLIP first.

        Raises:
            UserError: a network is missing or damaged, or was trained with another CLIP.
        """
        artifacts = {kind: load_artifact(models / kind, kind) for kind in kinds}
        hashes = {kind: weights_hash(models / kind) for kind in kinds}
        for kind in kinds[1:]:
            if artifacts[kind].inputs.get("clip") != hashes["clip"]:
                raise UserError(
                    f"{models / kind}: was trained with another CLIP than the one beside it; "
                    "`dvc repro` trains it again, `dvc checkout` brings back what belongs together"
                )
        return cls(models, artifacts, hashes)

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Returns what each network is built from."""
        return {kind: artifact.config for kind, artifact in self.artifacts.items()}

    def build(self, kind: str, constructor: type[Network]) -> Network:
        """Returns a network, frozen and in eval mode."""
        network = build(self.artifacts[kind], constructor, self.models / kind)
        assert isinstance(network, constructor)
        return network

    def facts(self, kind: str, model: type[AnyFacts], count: int | None = None) -> AnyFacts:
        """Returns the facts of a network; `count` is how many numbers its statistics have."""
        return facts_of(self.artifacts[kind], model, self.models / kind, count)

    def painter_facts(self) -> tuple[ClipFacts, DecoderFacts]:
        """Returns what a painter must know of its networks beside their weights."""
        channels = self.configs["decoder"]["in_channels"]
        return self.facts("clip", ClipFacts), self.facts("decoder", DecoderFacts, channels)


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
