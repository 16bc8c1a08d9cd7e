import hashlib
import json
import pickletools
import zipfile

import pytest
import torch
from systems import CONFIGS, shake
from torch import nn

from unclip.config.errors import UserError
from unclip.core.artifacts import (
    Artifact,
    build,
    describe,
    load_artifact,
    save_artifact,
    weights_hash,
    write_json,
    write_metrics,
)
from unclip.models.clip import CLIP
from unclip.models.judge import Judge
from unclip.models.prior import Prior
from unclip.models.unet import UNet

KIND = "prior"


class Net(nn.Module):
    def __init__(self, *, dim: int, names: list[str]) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim: {dim} is odd")
        self.layer = nn.Linear(dim, len(names))
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("count", torch.tensor(7, dtype=torch.int64))


def artifact(**changes) -> Artifact:
    torch.manual_seed(0)
    config = {"dim": 4, "names": ["é", "b"]}
    facts, inputs = {"mean": [0.1, 2.0], "z": 1, "a": 2}, {"data": "abc", "clip": "def"}
    known = {"kind": KIND, "config": config, "facts": facts, "inputs": inputs}
    return Artifact(**({"weights": Net(**config).state_dict()} | known | changes))


@pytest.fixture
def folder(tmp_path):
    save_artifact(tmp_path / "models" / KIND, artifact())
    return tmp_path / "models" / KIND


def only_line(action, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        action(*arguments)
    (line,) = str(caught.value).splitlines()
    return line


def test_what_was_saved_comes_back(folder):
    saved, loaded = artifact(), load_artifact(folder, KIND)
    assert loaded.weights.keys() == saved.weights.keys()
    for name, tensor in saved.weights.items():
        assert loaded.weights[name].dtype == tensor.dtype
        assert torch.equal(loaded.weights[name], tensor)
    assert (loaded.config, loaded.facts, loaded.inputs) == (
        saved.config,
        saved.facts,
        saved.inputs,
    )


def test_half_precision_is_stored_and_float32_comes_back(folder):
    whole = {"weight": torch.randn(3, 4), "count": torch.tensor(7)}
    halves = {"weight": whole["weight"].half(), "count": whole["count"]}
    save_artifact(folder, artifact(weights=halves))
    found = load_artifact(folder, KIND).weights
    assert (found["weight"].dtype, found["count"].dtype) == (torch.float32, torch.int64)
    assert torch.equal(found["weight"], whole["weight"].half().float())


def test_the_network_comes_back_with_its_weights_frozen_and_in_eval_mode(folder):
    model = build(load_artifact(folder, KIND), Net, folder)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(model.state_dict()[k], v) for k, v in artifact().weights.items())


def test_the_second_save_is_byte_identical(folder, tmp_path):
    # Another path, keys in another order, tensors that are views: nothing of it may show.
    again = artifact(
        weights={k: v.t().clone().t() for k, v in reversed(artifact().weights.items())},
        facts={"a": 2, "z": 1, "mean": [0.1, 2.0]},
    )
    save_artifact(tmp_path / "elsewhere", again)
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "elsewhere" / file.name).read_bytes()


def test_a_folder_holds_the_weights_and_their_description_and_nothing_else(folder):
    save_artifact(folder, artifact())
    assert sorted(f.name for f in folder.iterdir()) == ["model.json", "model.safetensors"]
    assert [f.name for f in folder.parent.iterdir()] == [KIND]


def test_nothing_is_pickled(folder):
    weights = (folder / "model.safetensors").read_bytes()
    assert not zipfile.is_zipfile(folder / "model.safetensors")
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever says that this is no pickle
        list(pickletools.genops(weights))
    length = int.from_bytes(weights[:8], "little")  # the format's own header: plain JSON
    assert set(json.loads(weights[8 : 8 + length])) == set(artifact().weights)


def test_the_description_names_no_time_host_or_run(folder):
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert list(description) == ["config", "facts", "format_version", "inputs", "kind"]


def test_the_hash_is_that_of_the_weight_file(folder):
    content = (folder / "model.safetensors").read_bytes()
    assert weights_hash(folder) == hashlib.sha256(content).hexdigest()


def test_saving_replaces_all_of_what_was_there(folder):
    (folder / "stale.bin").write_bytes(b"old")
    save_artifact(folder, artifact(facts={"mean": [5.0]}))
    assert load_artifact(folder, KIND).facts == {"mean": [5.0]}
    assert not (folder / "stale.bin").exists()


@pytest.mark.parametrize(
    "changes",
    [{"facts": {"mean": float("nan")}}, {"facts": {"mean": object()}}, {"weights": {"w": "text"}}],
    ids=["NaN in the description", "no JSON", "no tensor"],
)
def test_a_failed_save_leaves_the_old_folder(folder, changes):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises((ValueError, TypeError, AttributeError)):
        save_artifact(folder, artifact(**changes))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    save_artifact(folder, artifact())  # and what it left behind is in no one's way


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.json", None, "is missing"),
        ("model.json", b"", "is damaged"),
        ("model.json", b"[]", "is damaged"),
        ("model.json", b'{"kind": "prior"}', "is damaged"),
        ("model.json", b"\xff\xfe\x00", "is damaged"),
        ("model.safetensors", None, "is missing"),
        ("model.safetensors", b"", "is damaged"),
        ("model.safetensors", b"PK\x03\x04 torch.save", "is damaged"),
    ],
)
def test_a_file_that_is_not_what_it_was_is_one_line(folder, name, content, said):
    path = folder / name
    path.unlink() if content is None else path.write_bytes(content)
    line = only_line(load_artifact, folder, KIND)
    assert line.startswith(f"{path}: {said}")
    assert line.index("dvc checkout") < line.index("dvc repro --force train_prior")


@pytest.mark.parametrize("keep", [4, 60, -1])
def test_truncated_weights_are_one_line(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert only_line(load_artifact, folder, KIND).startswith(f"{path}: is damaged")


def test_another_kind_and_another_version_are_named(folder):
    assert "('prior', 1), expected ('decoder', 1)" in only_line(describe, folder, "decoder")
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").write_text(json.dumps(about | {"format_version": 99}))
    assert "99" in only_line(describe, folder, KIND)


@pytest.mark.parametrize(
    "config",
    [
        {"dim": 6, "names": ["é", "b"]},
        {"dim": 3, "names": ["é", "b"]},
        {"dim": 4},
        {"dim": 4, "names": ["é", "b"], "depth": 2},
        {"dim": "4", "names": []},
    ],
    ids=["another shape", "impossible", "missing", "unknown", "another type"],
)
def test_a_config_that_does_not_make_the_network_is_one_line(folder, config):
    line = only_line(build, artifact(config=config), Net, folder)
    assert line.startswith(f"{folder}: is damaged")
    assert "dvc repro --force train_prior" in line


@pytest.mark.parametrize("name", ["layer.bias", "clip.layer.bias"], ids=["missing", "extra"])
def test_weights_that_do_not_fit_are_one_line(folder, name):
    weights = artifact().weights
    if weights.pop(name, None) is None:
        weights[name] = torch.zeros(2)
    assert name in only_line(build, artifact(weights=weights), Net, folder)


# The four networks

EVERY = {
    "clip": (CLIP, CONFIGS["clip"]),
    "prior": (Prior, CONFIGS["prior"]),
    "decoder": (UNet, CONFIGS["decoder"] | {"caption_depth": 1}),
    "judge": (Judge, {"image_size": 8, "in_channels": 3, "num_values": [2, 3], "channels": 4}),
}


def answers(kind: str, model: nn.Module) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(2)
    images, embeds = torch.randn(2, 3, 8, 8, generator=draws), torch.randn(2, 6, generator=draws)
    encodings = torch.randn(2, 5, 8, generator=draws)
    tokens, mask = torch.arange(10).view(2, 5), torch.ones(2, 5, dtype=torch.bool)
    t, drop_mask = torch.tensor([0, 7]), torch.tensor([False, True])
    with torch.inference_mode():
        if kind == "clip":
            return [*model(images, tokens, mask)]
        if kind == "prior":
            return [model(embeds, t, encodings, embeds, mask, drop_mask)]
        if kind == "decoder":
            return [model(images, t, embeds, drop_mask, tokens, mask, drop_mask)]
        return model(images)


@pytest.mark.parametrize("kind", EVERY)
def test_a_network_is_what_its_constructor_and_its_weights_make(folder, kind):
    constructor, config = EVERY[kind]
    plain = shake(constructor(**config), 1)
    built = build(Artifact(kind, config, plain.state_dict()), constructor, folder)
    for mine, expected in zip(answers(kind, built), answers(kind, plain), strict=True):
        assert torch.equal(mine, expected)


def test_metrics_keep_six_digits_and_whole_numbers(tmp_path):
    figures = {"b": 0.123456789, "a": {"deep": 1234567.89, "count": 1234567, "on": True}}
    write_metrics(tmp_path / "metrics" / "m.json", figures)
    text = (tmp_path / "metrics" / "m.json").read_text()
    assert json.loads(text) == {"a": {"count": 1234567, "deep": 1234570, "on": True}, "b": 0.123457}
    assert text.index('"a"') < text.index('"b"')


def test_a_failed_write_of_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "m.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "m.json", {"a": float("inf")})
    assert json.loads((tmp_path / "m.json").read_text()) == {"a": 1}
