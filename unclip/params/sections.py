"""The sections of params.yaml: every value has bounds, and none has a default.

A file without one of them is refused. Keys are the constructor's keywords of what they configure.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    GetPydanticSchema,
    ValidationInfo,
    create_model,
    field_validator,
)
from pydantic_core.core_schema import literal_schema

from unclip.config.strict import Strict
from unclip.datasets.base import Dataset
from unclip.datasets.registry import DATASETS
from unclip.diffusion.samplers import SAMPLERS, SPACINGS


def one_of(names: Iterable[str]) -> GetPydanticSchema:
    """Returns a constraint to the names in a registry: `Annotated[str, one_of(REGISTRY)]`."""
    return GetPydanticSchema(lambda source, handler: literal_schema(list(names)))


Count = Annotated[int, Field(ge=1, le=10**9)]
Index = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]
ImageSize = Annotated[int, Field(ge=8, le=512)]
Rate = Annotated[float, Field(gt=0.0, le=10.0)]
Guidance = Annotated[float, Field(ge=0.0, le=100.0)]
Candidates = Annotated[int, Field(ge=1, le=64)]
Precision = Literal["auto", "fp32", "bf16"]
Sampler = Annotated[str, one_of(SAMPLERS)]
Spacing = Annotated[str, one_of(SPACINGS)]

FEWEST_JUDGED = 10  # pictures


_sections: dict[str, Any] = {
    name: (kind, ...) for name, kind in DATASETS.items() if kind.model_fields
}
_OwnSections: Any = create_model("_OwnSections", __base__=Strict, **_sections)


class DataParams(_OwnSections):
    """What prepare reads, with a section for each data set that has params."""

    dataset: Annotated[str, one_of(DATASETS)]
    seed: Seed
    image_size: ImageSize
    val_fraction: Annotated[float, Field(gt=0.0, le=0.5)]

    @property
    def chosen(self) -> Dataset:
        """The data set called `dataset`, with its params."""
        kind = DATASETS[self.dataset]
        return getattr(self, self.dataset) if kind.model_fields else kind()


class TrainingParams(Strict):
    """What every training stage reads."""

    seed: Seed
    batch_size: Count
    train_steps: Count
    optimizer: Literal["muon", "adamw"]
    lr: Rate
    lr_min: Annotated[float, Field(ge=0.0, le=10.0)]
    warmup_steps: Index
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)]
    grad_clip: Annotated[float, Field(gt=0.0, le=10**6)]
    precision: Precision
    val_every: Count
    val_pictures: Count


class AugmentParams(Strict):
    """Augmentation of training pictures."""

    flip: bool
    crop_padding: Annotated[int, Field(ge=0, le=64)]


class ForwardProcess(Strict):
    """The forward process and the network's prediction, stored with its weights."""

    num_timesteps: Annotated[int, Field(ge=2, le=100_000)]
    schedule: Literal["flow", "cosine", "linear"]
    schedule_offset: Annotated[float, Field(ge=0.0, le=0.5)]
    prediction_type: Literal["flow", "v", "x_start", "eps"]
    timestep_density: Literal["uniform", "logit_normal"]


class DiffusionParams(ForwardProcess):
    """What the training of a denoising network reads."""

    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)]


class ClipParams(TrainingParams, AugmentParams):
    """What train_clip reads."""

    patch_size: Count
    embed_dim: Annotated[int, Field(ge=2, le=4096)]
    vision_dim: Count
    vision_depth: Count
    vision_heads: Count
    text_dim: Count
    text_depth: Count
    text_heads: Count
    text_length: Annotated[int, Field(ge=8, le=4096)]
    dropout: Dropout
    word_dropout: Dropout
    embed_flipped: bool


class PriorParams(TrainingParams, DiffusionParams):
    """What train_prior reads."""

    dim: Count
    depth: Count
    num_heads: Count
    dropout: Dropout
    cond_drop_prob: Probability


class DecoderParams(TrainingParams, DiffusionParams):
    """What train_decoder reads."""

    patch_size: Count
    model_channels: Count
    channel_mult: Annotated[list[Count], Field(min_length=1, max_length=8)]
    num_res_blocks: Count
    attn_resolutions: list[Count]
    head_channels: Count
    dropout: Dropout
    downsample: Literal["conv", "pool"]
    conditioning: Literal["scale_shift", "add"]
    num_image_tokens: Count
    caption_depth: Index
    caption_dim: Count
    stretch: Annotated[float, Field(ge=0.0, le=128.0)]
    image_drop_prob: Probability
    caption_drop_prob: Probability
    flip: bool
    paint_every: Count
    paint_steps: Count
    paint_guidance: Guidance


class JudgeParams(TrainingParams, AugmentParams):
    """What train_judge reads."""

    batch_size: Annotated[int, Field(ge=2, le=10**9)]  # batch norm needs more than one
    channels: Annotated[int, Field(ge=4, le=1024)]


class SampleParams(Strict):
    """What sample reads; also the defaults for painting with the trained networks."""

    seed: Seed
    num_per_prompt: Annotated[int, Field(ge=1, le=64)]
    num_judged: Annotated[int, Field(ge=FEWEST_JUDGED, le=10**7)]
    batch_size: Count
    sampler: Sampler
    steps: Count
    eta: Probability
    guidance: Guidance
    prior_sampler: Sampler
    prior_steps: Count
    prior_eta: Probability
    prior_guidance: Guidance
    spacing: Spacing = "uniform"  # so that the params.yaml of an older version paints
    prior_spacing: Spacing = "uniform"
    prior_candidates: Candidates
    precision: Precision

    @field_validator("num_per_prompt")
    @classmethod
    def _all_have_seeds(cls, count: int, others: ValidationInfo) -> int:
        if others.data.get("seed", 0) + count > 2**63:
            raise ValueError(
                f"{count} pictures, counted up from seed {others.data['seed']}, exceed the largest "
                "seed, 2**63 - 1; lower either"
            )
        return count


class EvaluateParams(Strict):
    """What evaluate reads."""

    seed: Seed
    neighbours: Annotated[int, Field(ge=1, lt=FEWEST_JUDGED)]
    kid_subsets: Count
    kid_subset_size: Annotated[int, Field(ge=2, le=10**6)]


class Params(Strict):
    """The whole of params.yaml."""

    data: DataParams
    clip: ClipParams
    prior: PriorParams
    decoder: DecoderParams
    judge: JudgeParams
    sample: SampleParams
    evaluate: EvaluateParams


class Timesteps(Strict):
    """The steps that a denoising network was trained with."""

    model_config = ConfigDict(extra="ignore")

    num_timesteps: int | None = None  # None if an older version named it differently


class PaintingParams(Strict):
    """What painting reads in a params.yaml; the rest may come from another version."""

    model_config = ConfigDict(extra="ignore")

    prior: Timesteps = Timesteps()
    decoder: Timesteps = Timesteps()
    sample: SampleParams
