"""Trained networks as folders: the one module that opens weight files.

A folder holds `model.safetensors` and `model.json` (format version, kind, constructor config,
facts that belong to the weights, hashes of the inputs). Same inputs, same bytes: keys are sorted
and no time, host or run stands in them. Nothing is pickled.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unclip.config.errors import reading
from unclip.core.files import replaced

Network = TypeVar("Network", bound=nn.Module)

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


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


def write_json(path: Path, content: Any, indent: int = 2) -> None:
    """Writes JSON with sorted keys, completely or not at all."""
    text = json.dumps(content, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replaced(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def write_metrics(path: Path, figures: dict[str, Any]) -> None:
    """Writes figures, nested or not, with six significant digits: what is behind them is noise."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(item) for key, item in value.items()}
        return float(f"{value:.6g}") if isinstance(value, float) else value

    write_json(path, rounded(figures))


def save_artifact(folder: Path, artifact: Artifact) -> None:
    """Writes the folder of a network, whole or not at all.

    Raises:
        OSError: it can not be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in artifact.weights.items()
    }
    description = {
        "config": artifact.config,
        "facts": artifact.facts,
        "format_version": FORMAT_VERSION,
        "inputs": artifact.inputs,
        "kind": artifact.kind,
    }
    with replaced(folder) as temporary:
        temporary.mkdir()
        try:
            save_file(weights, temporary / WEIGHTS)
        except SafetensorError as error:  # what a full disk is to it
            raise OSError(f"{temporary / WEIGHTS}: {error}") from None
        write_json(temporary / DESCRIPTION, description)


def describe(folder: Path, kind: str) -> Artifact:
    """Returns what is known of the network in a folder, without its weights.

    Raises:
        UserError: the folder is missing, of another kind or version, or damaged.
    """
    with reading(folder / DESCRIPTION, f"train_{kind}"):
        about = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        found, expected = (about["kind"], about["format_version"]), (kind, FORMAT_VERSION)
        if found != expected:
            raise ValueError(f"holds {found}, expected {expected}")
        return Artifact(kind, about["config"], {}, about["facts"], about["inputs"])


def load_artifact(folder: Path, kind: str) -> Artifact:
    """Returns the network in a folder, in float32 also where it is stored in half precision.

    Raises:
        UserError: as `describe`, or the weights are missing or cut short.
    """
    from safetensors.torch import load_file

    described = describe(folder, kind)
    with reading(folder / WEIGHTS, f"train_{kind}"):
        weights = load_file(folder / WEIGHTS)
    whole = {k: v.float() if v.dtype == torch.float16 else v for k, v in weights.items()}
    return replace(described, weights=whole)


def build(artifact: Artifact, constructor: type[Network], where: Path) -> Network:
    """Returns the network of an artifact, frozen and in eval mode.

    Args:
        artifact: config and weights.
        constructor: the class of the network.
        where: the folder that the artifact comes from.

    Raises:
        UserError: the config does not build this network, or the weights do not fit it.
    """
    with reading(where, f"train_{artifact.kind}"):
        network = constructor(**artifact.config)
        network.load_state_dict(artifact.weights)
    return network.eval().requires_grad_(False)
