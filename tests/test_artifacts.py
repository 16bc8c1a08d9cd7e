import hashlib
import json
import pickletools
import zipfile

import pytest
import torch
from torch import nn

from unclip.artifacts import (
    Artifact,
    build,
    describe,
    load_artifact,
    save_artifact,
    weights_hash,
    write_json,
    write_metrics,
)
from unclip.errors import UserError

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


def test_the_network_comes_back_frozen_and_in_eval_mode(folder):
    model = build(load_artifact(folder, KIND), Net, folder)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_built_network_has_the_saved_weights(folder):
    model = build(load_artifact(folder, KIND), Net, folder)
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


def test_a_missing_folder_says_what_makes_it(tmp_path):
    line = only_line(load_artifact, tmp_path / "clip", "clip")
    assert line.startswith(f"{tmp_path / 'clip'}: not there yet")
    assert "dvc repro --force train_clip" in line


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "[]", "3", '"prior"', "{}", '{"kind": "prior"}', "[" * 100_000),
        '{"kind": "prior", "format_version": 1, "config": 3, "facts": {}, "inputs": {}}',
        '{"kind": "prior", "format_version": 1, "config": "abc", "facts": {}, "inputs": {}}',
    ],
    ids=lambda text: text[:40],
)
def test_a_damaged_description_is_one_line(folder, text):
    (folder / "model.json").write_text(text)
    line = only_line(describe, folder, KIND)
    assert line.startswith(f"{folder / 'model.json'}: missing or damaged; make it with `dvc repro")


def test_a_description_that_is_not_utf_8_is_one_line(folder):
    (folder / "model.json").write_bytes(b"\xff\xfe\x00")
    assert "missing or damaged" in only_line(describe, folder, KIND)


def test_a_missing_description_is_one_line(folder):
    (folder / "model.json").unlink()
    assert "model.json: missing or damaged" in only_line(load_artifact, folder, KIND)


def test_another_kind_is_named(folder):
    assert "holds a prior, expected a decoder" in only_line(load_artifact, folder, "decoder")


def test_another_version_is_named(folder):
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 99'))
    assert "format version 99, expected 1" in only_line(load_artifact, folder, KIND)


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_truncated_weights_are_one_line(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert only_line(load_artifact, folder, KIND).startswith(f"{path}: missing or damaged; make")


@pytest.mark.parametrize("content", [b"\xff" * 64, b"PK\x03\x04 torch.save", b"\x00" * 64])
def test_weights_that_are_something_else_are_one_line(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert "model.safetensors: missing or damaged" in only_line(load_artifact, folder, KIND)


def test_missing_weights_are_one_line(folder):
    (folder / "model.safetensors").unlink()
    assert "model.safetensors: missing or damaged" in only_line(load_artifact, folder, KIND)


@pytest.mark.parametrize(
    "config",
    [
        {"dim": 6, "names": ["é", "b"]},
        {"dim": 4, "names": ["one"]},
        {"dim": 3, "names": ["é", "b"]},
        {"dim": 4},
        {"dim": 4, "names": ["é", "b"], "depth": 2},
        {"dim": "4", "names": []},
        {"dim": 4, "names": None},
        {"dim": -2, "names": ["é", "b"]},
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_the_weights_is_one_line(folder, config):
    damaged = artifact(config=config)
    line = only_line(build, damaged, Net, folder)
    assert line.startswith(f"{folder}: config and weights do not make a prior (")
    assert line.endswith(
        "make it with `dvc repro --force train_prior`, or fetch it with `dvc pull`"
    )


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_are_one_line(folder, change):
    weights = artifact().weights
    if change == "missing":
        del weights["layer.bias"]
    elif change == "extra":
        weights["clip.layer.bias"] = torch.zeros(2)
    else:
        weights["layer.bias"] = torch.zeros(3)
    line = only_line(build, artifact(weights=weights), Net, folder)
    assert "layer.bias" in line


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
