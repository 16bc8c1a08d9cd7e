import hashlib
import json
import os
import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from systems import CONFIGS, shake
from torch import nn

from unclip.config.errors import UserError
from unclip.config.strict import Strict
from unclip.core.artifacts import (
    Artifact,
    build,
    describe,
    facts_of,
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


def rewrite(folder, **changes) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_another_version_is_named(folder):
    rewrite(folder, format_version=99)
    assert "format version 99, expected 1" in only_line(load_artifact, folder, KIND)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("format_version", "1\n2"), ("format_version", None), ("format_version", True)),
        *(("kind", None), ("kind", 3), ("kind", {}), ("inputs", {"clip": 3}), ("facts", [])),
    ],
)
def test_a_description_of_other_types_is_one_line(folder, key, value):
    rewrite(folder, **{key: value})
    assert "model.json: missing or damaged; make it" in only_line(describe, folder, KIND)


def test_a_kind_is_shown_on_one_line(folder):
    rewrite(folder, kind="a\nb\u202e")
    assert r"holds a 'a\nb\u202e', expected a prior" in only_line(describe, folder, KIND)


class Facts(Strict):
    mean: list[float]


def test_facts_come_as_a_model_of_them(folder):
    assert facts_of(artifact(facts={"mean": [0.5]}), Facts, folder).mean == [0.5]


def test_facts_that_are_not_what_they_must_be_are_one_line(folder):
    line = only_line(facts_of, artifact(facts={"mean": [0.5, None]}), Facts, folder)
    assert line.startswith(f"{folder / 'model.json'}: is damaged (facts.mean.1: null is not")
    assert line.endswith(
        "make it with `dvc repro --force train_prior`, or fetch it with `dvc pull`"
    )


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


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.int32], ids=lambda dtype: str(dtype)
)
def test_weights_of_another_type_are_one_line(folder, dtype):
    weights = artifact().weights
    weights["layer.bias"] = weights["layer.bias"].to(dtype)
    assert f"the weights have (2,) of {dtype}" in only_line(
        build, artifact(weights=weights), Net, folder
    )


def test_nothing_is_allocated_for_what_a_config_claims(folder):
    line = only_line(build, artifact(config={"dim": 4 * 10**8, "names": ["é", "b"]}), Net, folder)
    assert (
        "layer.weight: the weights have (2, 4) of torch.float32, the config (2, 400000000)" in line
    )


# The four networks

NETWORKS = {"clip": CLIP, "prior": Prior, "decoder": UNet, "judge": Judge}
READER = CONFIGS["decoder"] | {"caption_depth": 1}
EVERY = CONFIGS | {
    "decoder": READER,
    "judge": {"image_size": 8, "in_channels": 3, "num_values": [2, 3], "channels": 4},
}


def network(kind: str, **changes) -> Artifact:
    torch.manual_seed(0)
    weights = shake(NETWORKS[kind](**EVERY[kind]), 1).state_dict()
    return Artifact(kind, EVERY[kind] | changes, weights)


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


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_is_what_its_constructor_and_its_weights_make(folder, kind):
    plain = NETWORKS[kind](**EVERY[kind])
    plain.load_state_dict(network(kind).weights)
    built = build(network(kind), NETWORKS[kind], folder)
    plain.eval().requires_grad_(False)
    for mine, expected in zip(answers(kind, built), answers(kind, plain), strict=True):
        assert torch.equal(mine, expected)
    assert {type(parameter) for parameter in built.parameters()} == {nn.Parameter}
    assert {parameter.dtype for parameter in built.parameters()} == {torch.float32}


def test_a_network_shares_nothing_with_what_it_was_built_from(folder):
    one = network("judge")
    built = build(one, Judge, folder)
    for tensor in one.weights.values():
        tensor.zero_()
    untouched = network("judge").weights
    assert all(torch.equal(built.state_dict()[name], untouched[name]) for name in untouched)


HUGE = 10**30


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *(("clip", {"vision_depth": HUGE}), ("clip", {"text_depth": 10**6})),
        *(("clip", {"vision_dim": HUGE}), ("clip", {"embed_dim": 10**9})),
        *(("clip", {"text_heads": 0.5}), ("clip", {"text_heads": 0}), ("clip", {"text_heads": -1})),
        *(("clip", {"text_heads": True}), ("clip", {"dropout": float("nan")})),
        *(("clip", {"dropout": 1}), ("clip", {"dropout": -0.1}), ("clip", {"text_depth": "1"})),
        *(("prior", {"depth": HUGE}), ("prior", {"text_length": HUGE}), ("prior", {"depth": -1})),
        *(("decoder", {"num_res_blocks": HUGE}), ("decoder", {"channel_mult": [1] * 1000})),
        *(("decoder", {"channel_mult": [1, HUGE]}), ("decoder", {"channel_mult": []})),
        *(("decoder", {"caption_depth": HUGE}), ("decoder", {"attn_resolutions": None})),
        *(("decoder", {"image_size": HUGE}), ("decoder", {"head_channels": 0})),
        *(
            ("judge", {"image_size": 0}),
            ("judge", {"image_size": HUGE}),
            ("judge", {"channels": 0}),
        ),
        *(("judge", {"num_values": [HUGE, 3]}), ("judge", {"a\nb\u202e": 1})),
    ],
    ids=str,
)
def test_a_config_of_what_can_not_be_is_one_line(folder, kind, changes):
    line = only_line(build, network(kind, **changes), NETWORKS[kind], folder)
    assert line.startswith(f"{folder}: config and weights do not make a {kind} (")
    assert line.isprintable()


def test_a_buffer_that_is_not_among_the_weights_is_told_to_whoever_wrote_it(folder):
    class Buffered(Net):
        def __init__(self, *, dim: int, names: list[str]) -> None:
            super().__init__(dim=dim, names=names)
            self.register_buffer("table", torch.arange(3), persistent=False)

    with pytest.raises(AssertionError, match=r"\['table'\] are not among the weights"):
        build(artifact(), Buffered, folder)


def test_building_a_network_imports_nothing_that_takes_seconds():
    script = (
        "import sys, test_artifacts as t\n"
        "for kind, constructor in t.NETWORKS.items():\n"
        "    t.build(t.network(kind), constructor, kind)\n"
        "print('sympy' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


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
