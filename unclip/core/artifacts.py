"""Trained networks as folders: the one module that opens weight files.

A folder contains `model.safetensors` and `model.json` (format version, kind, constructor config,
facts about the weights, hashes of the inputs). Equal inputs give equal bytes: keys are sorted, and
no time, host or run is stored. Nothing is pickled.
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
    """A trained network and its description.

    Attributes:
        kind: clip, prior, decoder or judge.
        config: the keyword arguments of the network's constructor.
        weights: its state dict, on the CPU.
        facts: what users of the weights need to know, for example the embeddings' mean.
        inputs: hashes of the training inputs.
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
    """Returns the SHA-256 of a network's weight file, which identifies the network."""
    return file_hash(folder / WEIGHTS)


def write_json(path: Path, content: Any, indent: int = 2) -> None:
    """Writes JSON with sorted keys, completely or not at all."""
    text = json.dumps(content, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replaced(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def write_metrics(path: Path, figures: dict[str, Any]) -> None:
    """Writes metrics, nested or not, with six significant digits; the others are noise."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(item) for key, item in value.items()}
        return float(f"{value:.6g}") if isinstance(value, float) else value

    write_json(path, rounded(figures))


def save_artifact(folder: Path, artifact: Artifact) -> None:
    """Writes the folder of a network, completely or not at all.

    Raises:
        OSError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    weights = {key: value.detach().cpu().contiguous() for key, value in artifact.weights.items()}
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
        except SafetensorError as error:  # for example a full disk
            raise OSError(f"{temporary / WEIGHTS}: {error}") from None
        write_json(temporary / DESCRIPTION, description)


def describe(folder: Path, kind: str) -> Artifact:
    """Returns the description of the network in a folder, without its weights.

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
    """Returns the network in a folder, in float32 even if stored in half precision.

    Raises:
        UserError: as for `describe`, or the weights are missing or damaged.
    """
    from safetensors.torch import load_file

    described = describe(folder, kind)
    with reading(folder / WEIGHTS, f"train_{kind}"):
        weights = load_file(folder / WEIGHTS)
    whole = {k: v.float() if v.dtype == torch.float16 else v for k, v in weights.items()}
    return replace(described, weights=whole)


def build(artifact: Artifact, constructor: type[Network], where: Path) -> Network:
    """Returns the network of an artifact from folder `where`, frozen and in eval mode.

    Raises:
        UserError: the config or the weights do not fit the constructor.
    """
    with reading(where, f"train_{artifact.kind}"):
        network = constructor(**artifact.config)
        network.load_state_dict(artifact.weights)
    return network.eval().requires_grad_(False)
