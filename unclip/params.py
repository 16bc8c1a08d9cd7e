"""Validation of params.yaml: all of it, strictly, before any work.

There are no defaults here: a value is in params.yaml or the file is refused. Keys are the
constructor keywords of what they configure.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from unclip.config.errors import UserError
from unclip.config.strict import Strict, explain, key_of, short
from unclip.config.yaml12 import load_yaml
from unclip.models.sizes import (
    attention_problems,
    feature_problem,
    level_resolutions,
    size_divisor,
)

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
Sampler = Literal["dpmpp_2m", "ddim", "ddpm"]
OWN_FOLDER = re.compile(r"[\w][\w .-]*(/[\w][\w .-]*)*")  # neither absolute nor upwards
MADE = ("data/prepared", "data/embeddings", "history", "metrics", "models", "plots", "samples")

FEWEST_JUDGED = 10  # pictures


class Section(Strict):
    """A group of params."""


class ShapesParams(Section):
    """The built-in set: shapes of a picture, and the sizes of its splits, in pictures."""

    num_objects: Annotated[int, Field(ge=1, le=2)]
    num_train: Annotated[int, Field(ge=64, le=10**8)]
    num_test: Annotated[int, Field(ge=64, le=10**8)]
    num_judge: Annotated[int, Field(ge=64, le=10**8)]


class ImageFolderParams(Section):
    """The user's own pictures: where they are, and what else they do not say themselves."""

    folder: str
    test_fraction: Annotated[float, Field(gt=0.0, le=0.5)]
    allow_flip: bool

    @field_validator("folder")
    @classmethod
    def _is_below(cls, folder: str) -> str:
        """Returns the folder if DVC can depend on it, here and on another machine."""
        if not OWN_FOLDER.fullmatch(folder):
            raise ValueError(
                f"{short(folder)} is not allowed; expected a folder below this repository, named "
                "from it, such as data/own"
            )
        one, others = f"{folder}/", [f"{made}/" for made in MADE]
        if any(other.startswith(one) or one.startswith(other) for other in others):
            raise ValueError(
                f"{short(folder)} holds what the pipeline makes, or lies in it; expected a folder "
                "of its own, such as data/own"
            )
        return folder


class DataParams(Section):
    """What prepare reads."""

    dataset: Literal["shapes", "fashion_mnist", "image_folder"]
    seed: Seed
    image_size: ImageSize
    val_fraction: Annotated[float, Field(gt=0.0, le=0.5)]
    shapes: ShapesParams
    image_folder: ImageFolderParams


class TrainingParams(Section):
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


class AugmentParams(Section):
    """Augmentation of training pictures."""

    flip: bool
    crop_padding: Annotated[int, Field(ge=0, le=64)]


class ForwardProcess(Section):
    """The forward process and what the network predicts; stored beside its weights."""

    num_timesteps: Annotated[int, Field(ge=2, le=100_000)]
    schedule: Literal["cosine", "linear"]
    schedule_offset: Annotated[float, Field(ge=0.0, le=0.5)]
    prediction_type: Literal["eps", "x_start", "v"]


class DiffusionParams(ForwardProcess):
    """What a network that denoises is trained with."""

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


class SampleParams(Section):
    """What sample reads, and how what it trained paints where nothing else is said."""

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
    prior_candidates: Candidates
    precision: Precision

    @field_validator("num_per_prompt")
    @classmethod
    def _all_have_seeds(cls, count: int, others: ValidationInfo) -> int:
        if others.data.get("seed", 0) + count > 2**63:
            raise ValueError(
                f"{count} pictures, counted up from seed {others.data['seed']}, pass the largest "
                "seed, 2**63 - 1; lower either"
            )
        return count


class EvaluateParams(Section):
    """What evaluate reads."""

    seed: Seed
    neighbours: Annotated[int, Field(ge=1, lt=FEWEST_JUDGED)]
    kid_subsets: Count
    kid_subset_size: Annotated[int, Field(ge=2, le=10**6)]
    inception: bool


class SweepParams(Section):
    """What sweep reads."""

    num_pictures: Annotated[int, Field(ge=0, le=10**6)]
    guidances: Annotated[list[Guidance], Field(min_length=1, max_length=8)]
    steps: Annotated[list[Count], Field(min_length=1, max_length=8)]


class Params(Section):
    """The whole of params.yaml."""

    data: DataParams
    clip: ClipParams
    prior: PriorParams
    decoder: DecoderParams
    judge: JudgeParams
    sample: SampleParams
    evaluate: EvaluateParams
    sweep: SweepParams

    @model_validator(mode="after")
    def _fits_together(self) -> "Params":
        problems = [text for check in _CROSS_CHECKS for text in check(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self


class Timesteps(Section):
    """Of a section that trains what denoises: how many steps painting can take."""

    model_config = ConfigDict(extra="ignore")

    num_timesteps: int | None = None  # None where an older version called it otherwise


class Recipe(Section):
    """What painting reads of a params.yaml; the rest may be that of another version."""

    model_config = ConfigDict(extra="ignore")

    prior: Timesteps = Timesteps()
    decoder: Timesteps = Timesteps()
    sample: SampleParams

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        if problems := _check_steps(self):
            raise ValueError("\n".join(problems))
        return self


AnyParams = TypeVar("AnyParams", Params, Recipe)


def _check_training(params: Params) -> list[str]:
    """Returns what is wrong between the training values of one section."""
    problems = []
    for name in ("clip", "prior", "decoder", "judge"):
        section: TrainingParams = getattr(params, name)
        if section.lr_min > section.lr:
            problems.append(f"{name}.lr_min: {section.lr_min:g} is above {name}.lr {section.lr:g}")
        if section.warmup_steps > section.train_steps:
            problems.append(
                f"{name}.warmup_steps: {section.warmup_steps} is more than {name}.train_steps "
                f"{section.train_steps}; lower it too"
            )
    return problems


def _check_dimensions(params: Params) -> list[str]:
    """Returns the widths and sizes that do not divide as the networks need."""
    clip, prior, decoder, size = params.clip, params.prior, params.decoder, params.data.image_size
    divisions = [
        ("data.image_size", size, "clip.patch_size", clip.patch_size),
        ("clip.vision_dim", clip.vision_dim, "clip.vision_heads", clip.vision_heads),
        ("clip.text_dim", clip.text_dim, "clip.text_heads", clip.text_heads),
        ("prior.dim", prior.dim, "prior.num_heads", prior.num_heads),
        (
            "data.image_size",
            size,
            "decoder.patch_size × 2 for each level after the first",
            size_divisor(decoder.patch_size, len(decoder.channel_mult)),
        ),
    ]
    problems = [
        f"{name}: {value} is not a multiple of {other} ({divisor})"
        for name, value, other, divisor in divisions
        if value % divisor
    ]
    if problem := feature_problem(params.judge.channels):
        problems.append(problem)
    return problems


def _check_attention(params: Params) -> list[str]:
    """Returns where the decoder can not have the attention that is asked for."""
    decoder, size = params.decoder, params.data.image_size
    num_levels = len(decoder.channel_mult)
    if size % size_divisor(decoder.patch_size, num_levels):
        return []  # there are no such levels, as _check_dimensions says
    return attention_problems(
        widths=[decoder.model_channels * multiple for multiple in decoder.channel_mult],
        resolutions=level_resolutions(size, decoder.patch_size, num_levels),
        attn_resolutions=decoder.attn_resolutions,
        head_channels=decoder.head_channels,
        caption_dim=decoder.caption_dim if decoder.caption_depth > 0 else None,
    )


def _check_steps(params: Params | Recipe) -> list[str]:
    """Returns what painting asks for and the networks do not give."""
    sample = params.sample
    limits = [
        ("sample.steps", sample.steps, "decoder", params.decoder.num_timesteps),
        ("sample.prior_steps", sample.prior_steps, "prior", params.prior.num_timesteps),
    ]
    return [_too_many(*limit) for limit in limits if limit[3] is not None and limit[1] > limit[3]]


def _check_requests(params: Params) -> list[str]:
    """Returns what one stage asks for and an earlier one does not give."""
    decoder = params.decoder
    asked = {"decoder.paint_steps": decoder.paint_steps, "sweep.steps": max(params.sweep.steps)}
    problems = _check_steps(params) + [
        _too_many(name, value, "decoder", decoder.num_timesteps)
        for name, value in asked.items()
        if value > decoder.num_timesteps
    ]
    if 0 < params.sweep.num_pictures < FEWEST_JUDGED:
        problems.append(
            f"sweep.num_pictures: {params.sweep.num_pictures} are too few for a Fréchet distance; "
            f"0 leaves the sweep out, else at least {FEWEST_JUDGED}"
        )
    if decoder.flip and not params.clip.embed_flipped:
        problems.append(
            "decoder.flip: true needs the embeddings of mirrored pictures; set "
            "clip.embed_flipped: true too"
        )
    return problems


def _too_many(name: str, value: int, section: str, most: int | None) -> str:
    return f"{name}: {value} is more than {section}.num_timesteps {most}"


_CROSS_CHECKS = (_check_training, _check_dimensions, _check_attention, _check_requests)


def load_params(path: Path) -> Params:
    """Returns the validated params of a YAML file.

    Raises:
        UserError: one line for each problem, each with the file and the key.
    """
    return validate_params(_read(path), where=str(path))


def load_recipe(path: Path) -> Recipe:
    """Returns what a YAML file of params, of this version or another, says of painting.

    Raises:
        UserError: as `load_params`, of what a recipe has.
    """
    return _validated(Recipe, _read(path), where=str(path))


def changed_sample(recipe: Recipe, changes: Mapping[str, Any]) -> SampleParams:
    """Returns the sample section of a recipe with some values changed by options.

    Raises:
        UserError: one line for each option that is unknown or out of bounds.
    """
    raw = recipe.model_dump()
    raw["sample"] |= changes
    return _validated(Recipe, raw, where="options").sample


def _read(path: Path) -> Any:
    """Returns what stands in a YAML file.

    Raises:
        UserError: it can not be read.
    """
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the folder that holds params.yaml") from None
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: can not be read: {error}") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None


def validate_params(raw: Any, where: str = "params.yaml") -> Params:
    """Returns the validated params of a nested dict; `where` names it in errors.

    Raises:
        UserError: one line for each problem.
    """
    return _validated(Params, raw, where)


def _validated(model: type[AnyParams], raw: Any, where: str) -> AnyParams:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = [line for problem in error.errors() for line in _explain(problem)]
        raise UserError("\n".join(f"{where}: {line}" for line in lines)) from None


def _explain(problem: Any) -> list[str]:
    """Returns the lines for one of pydantic's errors."""
    if problem["type"] == "extra_forbidden":
        near = _nearest(problem["loc"])
        return [f"{key_of(problem)}: unknown key{near}; remove it or correct its name"]
    if problem["type"] == "missing":
        return [f"{key_of(problem)}: missing; every value is written in params.yaml, add it"]
    return explain(problem).splitlines()  # several where values do not fit together


def _nearest(location: tuple[Any, ...]) -> str:
    """Returns ' (did you mean …?)' when a known key of that section looks like the unknown one."""
    model: Any = Params
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return ""
        model = field.annotation
    known = getattr(model, "model_fields", {})
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f" (did you mean {'.'.join([*map(str, location[:-1]), near[0]])}?)" if near else ""
