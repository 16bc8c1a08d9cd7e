"""Trained networks as folders: the one module that opens weight files.

A folder holds `model.safetensors` and `model.json` (format version, kind, constructor config,
facts that belong to the weights, hashes of the inputs). Same inputs, same bytes: keys are sorted
and no time, host or run stands in them. Nothing is pickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
from pydantic import Field, create_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unclip.config.errors import UserError
from unclip.config.strict import Model, Strict, checked, one_line
from unclip.params.sections import Dropout, ImageSize, Index

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


class _Description(Strict):
    """model.json; see `Artifact`."""

    config: dict[str, Any]
    facts: dict[str, Any]
    format_version: int
    inputs: dict[str, str]
    kind: str


@dataclass(frozen=True)
class Artifact:
    """A trained network and what is known of it.

    Attributes:
        kind: clip, prior, decoder or judge.
        config: the keyword arguments of the network's constructor.
        weights: its state dict, on the CPU.
        facts: what a user of the weights must know beside them, for example the embeddings' mean.
        inputs: hashes of what it was trained on.
    """

    kind: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_hash(folder: Path) -> str:
    """Returns the hash that names a trained network: SHA-256 of its weight file."""
    return file_hash(folder / WEIGHTS)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON with sorted keys, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def write_metrics(path: Path, figures: dict[str, Any]) -> None:
    """Writes figures, nested or not, with six significant digits: what is behind them is noise."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(item) for key, item in value.items()}
        return float(f"{value:.6g}") if isinstance(value, float) else value

    write_json(path, rounded(figures))


def save_artifact(folder: Path, artifact: Artifact) -> None:
    """Writes the folder of a network under a temporary name and then renames it.

    Raises:
        OSError: it can not be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in artifact.weights.items()
    }
    try:
        save_file(weights, temporary / WEIGHTS)
    except SafetensorError as error:  # what a full disk is to it
        raise OSError(f"{temporary / WEIGHTS}: {error}") from None
    description = {
        "config": artifact.config,
        "facts": artifact.facts,
        "format_version": FORMAT_VERSION,
        "inputs": artifact.inputs,
        "kind": artifact.kind,
    }
    write_json(temporary / DESCRIPTION, description)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def describe(folder: Path, kind: str) -> Artifact:
    """Returns what is known of the network in a folder, without its weights.

    Raises:
        UserError: the folder is missing, of another kind or version, or not ours.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: not there yet; {_remedy(kind)}")
    path = folder / DESCRIPTION
    try:
        found = checked(_Description, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path}: missing or damaged; {_remedy(kind)}") from None
    if found.format_version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {found.format_version}, expected {FORMAT_VERSION}; "
            f"{_remedy(kind)}"
        )
    if found.kind != kind:
        raise UserError(
            f"{folder}: holds a {one_line(found.kind)}, expected a {kind}; {_remedy(kind)}"
        )
    return Artifact(kind, found.config, {}, found.facts, found.inputs)


def load_artifact(folder: Path, kind: str) -> Artifact:
    """Returns the network in a folder, in float32 also where it is stored in half precision.

    Raises:
        UserError: as `describe`, or the weights are missing or cut short.
    """
    from safetensors.torch import load_file

    described = describe(folder, kind)
    try:
        weights = load_file(folder / WEIGHTS)
    except Exception:  # a damaged header can fail in any way
        raise UserError(f"{folder / WEIGHTS}: missing or damaged; {_remedy(kind)}") from None
    whole = {k: v.float() if v.dtype == torch.float16 else v for k, v in weights.items()}
    return replace(described, weights=whole)


def _remedy(kind: str) -> str:
    return f"make it with `dvc repro --force train_{kind}`, or fetch it with `dvc pull`"


def facts_of(artifact: Artifact, model: type[Model], where: Path, context: Any = None) -> Model:
    """Returns the facts of an artifact as a model of them.

    Args:
        artifact: it has them.
        model: what they must be.
        where: the folder that it was loaded from.
        context: what the model's validators are given, if they need any.

    Raises:
        UserError: they are not.
    """
    try:
        return checked(model, artifact.facts, context)
    except ValueError as error:
        raise UserError(
            f"{where / DESCRIPTION}: is damaged (facts.{error}); {_remedy(artifact.kind)}"
        ) from None


def build(
    artifact: Artifact, constructor: Callable[..., nn.Module], where: Path | str
) -> nn.Module:
    """Returns the network of an artifact, frozen and in eval mode.

    Nothing is allocated for what a config claims before the weights are found to fit it. A buffer
    that is not among the weights must be made in `forward`.

    Raises:
        UserError: the config does not build this network, or the weights do not fit it.
    """
    try:
        config = checked(_config_model(constructor, len(artifact.weights)), artifact.config)
        with torch.device("meta"), _Undrawn():
            model = constructor(**config.model_dump())
        _require_same(artifact.weights, model.state_dict())
    except Exception as error:  # a damaged config can fail in any way
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where}: config and weights do not make a {artifact.kind} ({reason}); "
            f"{_remedy(artifact.kind)}"
        ) from None
    # Copies: what was loaded may still be a file, and nothing else is to share the parameters.
    model.load_state_dict({k: v.clone() for k, v in artifact.weights.items()}, assign=True)
    unmade = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    assert not unmade, f"{unmade} are not among the weights"
    return model.eval().requires_grad_(False)


class _Undrawn(TorchFunctionMode):
    """Draws no first weights: for that on the meta device torch imports for seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.init.normal_:
            return kwargs["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def _config_model(constructor: Callable[..., nn.Module], num_tensors: int) -> type[Strict]:
    """Returns what may be given to a constructor, by its type hints.

    No network has more layers than tensors: one that claimed to would take forever to build.
    """
    num_layers = Annotated[int, Field(ge=0, le=num_tensors)]
    by_type = {int: Index, list[int]: Annotated[list[Index], Field(max_length=num_tensors)]}
    by_name = {"dropout": Dropout, "image_size": ImageSize, "num_res_blocks": num_layers}
    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(constructor.__init__).items():
        hint = num_layers if name.endswith("depth") else by_name.get(name, by_type.get(hint, hint))
        fields[name] = (hint, ...)
    del fields["return"]
    return create_model("Config", __base__=Strict, **fields)


def _require_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises ValueError for the first name, in order, whose shape or dtype is not as expected."""
    for name in sorted(found.keys() | expected.keys()):
        here, there = (_outline(tensors.get(name)) for tensors in (found, expected))
        if here != there:
            raise ValueError(f"{one_line(name)}: the weights have {here}, the config {there}")


def _outline(tensor: Tensor | None) -> str:
    return "none" if tensor is None else f"{tuple(tensor.shape)} of {tensor.dtype}"
