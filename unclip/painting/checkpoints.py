"""The checkpoints of a trained system: what stands beside their weights, and which fit together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from torch import nn

from unclip.config.errors import UserError
from unclip.config.strict import Strict
from unclip.core.artifacts import Artifact, build, facts_of, load_artifact, weights_hash
from unclip.data.prepared import Mean, Std
from unclip.params.sections import ForwardProcess

Network = TypeVar("Network", bound=nn.Module)
AnyFacts = TypeVar("AnyFacts", bound=BaseModel)


def _complete(values: list[float], info: ValidationInfo) -> list[float]:
    if len(values) != info.context:
        raise ValueError(f"holds {len(values)} numbers, expected {info.context}")
    return values


Complete = AfterValidator(_complete)  # one number of each channel, or entry: the context


class Facts(Strict):
    """What must be known beside the weights; there may be more."""

    model_config = ConfigDict(extra="ignore")


class ClipFacts(Facts):
    """Of the data set that CLIP was trained on."""

    prompts: Annotated[list[str], Field(min_length=1)]
    words: list[str]


class PriorFacts(Facts):
    """Of the embeddings that the prior was trained on, D numbers each."""

    diffusion: ForwardProcess
    embed_mean: Annotated[list[Annotated[float, Field(ge=-1.0, le=1.0)]], Complete]
    embed_std: Annotated[list[Annotated[float, Field(gt=0.0, le=1.0)]], Complete]


class DecoderFacts(Facts):
    """Of the pictures that the decoder was trained on, a number each channel."""

    diffusion: ForwardProcess
    mean: Annotated[list[Mean], Complete]
    std: Annotated[list[Std], Complete]


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
