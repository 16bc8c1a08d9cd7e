"""Damaged files and hostile prompts: a line for the user or the right thing, never a traceback.

A changed number in weights, pictures or embeddings is not looked for: their formats have no
checksum, and it is DVC's hashes that notice it.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclip.commands.common import slugs
from unclip.config.errors import UserError
from unclip.core.artifacts import build, load_artifact
from unclip.data.embeddings import Embeddings
from unclip.data.prepared import Prepared
from unclip.data.text import fold
from unclip.data.tokenizer import tokenize
from unclip.models.judge import Judge
from unclip.painting.loading import load_system

KINDS = ("clip", "prior", "decoder", "judge")
pytestmark = pytest.mark.filterwarnings("ignore")


# What stages have made, as the next one opens it


def open_models(models: Path) -> None:
    load_system(models)
    build(load_artifact(models / "judge", "judge"), Judge, models / "judge")


def open_prepared(folder: Path) -> None:
    for name in ("train", "val", "test", "judge"):
        Prepared(folder).split(name)


def open_embeddings(folder: Path) -> None:
    for name in ("train", "val", "test"):
        Embeddings(folder).images(name)


OPEN: dict[str, Callable[[Path], None]] = {
    "models": open_models,
    "prepared": open_prepared,
    "embeddings": open_embeddings,
}
FILES = {
    "models": [f"{kind}/model.{end}" for kind in KINDS for end in ("json", "safetensors")],
    "prepared": [
        "dataset.json",
        *(f"val/{name}.npy" for name in ("images", "caption_index", "attributes")),
    ],
    "embeddings": [
        f"{name}.npy" for name in ("train", "captions", "caption_encodings", "caption_mask")
    ],
}
GARBAGE = {
    "nothing": b"",
    "zeros": bytes(70_000),
    "a page": b"<!DOCTYPE html><html>404</html>",
    "a zip": b"PK\x03\x04" + bytes(64),
    "a pickle": b"\x80\x04\x95" + bytes(40),
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "other JSON": b'{"kind": ["prior"]}',
}


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory) -> Path:
    """A copy of everything that the stages made. To be mended after it was damaged."""
    root, layout = tmp_path_factory.mktemp("hostile"), trained.layout
    for folder in (layout.models, layout.prepared, layout.embeddings):
        shutil.copytree(folder, root / folder.name)
    return root


def damages(path: Path) -> Iterator[str]:
    """Damages a file in one way after another, and mends it again; gives what was done."""
    content = path.read_bytes()
    cuts = {f"cut to {keep}": content[:keep] for keep in (9, len(content) // 2, -2)}
    for name, damaged in (GARBAGE | cuts).items():
        path.write_bytes(damaged)
        yield name
    path.unlink()
    yield "gone"
    path.mkdir()
    yield "a folder"
    path.rmdir()
    path.write_bytes(content)


def refusal(open_it: Callable[[Path], None], folder: Path) -> str:
    """The line that names something in the folder and how to make it again, else what came."""
    try:
        open_it(folder)
    except UserError as error:
        line = str(error)
        is_clear = line.startswith(f"{folder}/") and "dvc repro" in line and "\n" not in line
        return "" if is_clear else line
    except Exception as error:
        return repr(error)
    return "accepted"


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name, files in FILES.items() for file in files]
)
def test_a_damaged_file_is_a_line_for_the_user(whole, name, file):
    folder = whole / name
    said = {what: refusal(OPEN[name], folder) for what in damages(folder / file)}
    assert len(said) == 12
    assert {what: line for what, line in said.items() if line} == {}
    OPEN[name](folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_that_lacks_something_is_a_line_for_the_user(whole, kind):
    path = whole / "models" / kind / "model.json"
    content = path.read_bytes()
    about, said = json.loads(content), {}
    for key in about:
        path.write_text(json.dumps({name: about[name] for name in about if name != key}))
        said[key] = refusal(open_models, whole / "models")
    path.write_bytes(content)
    assert {key: line for key, line in said.items() if line} == {}


@pytest.mark.parametrize("other", ["prior", "decoder", "judge"])
@pytest.mark.parametrize("name", ["", "model.json", "model.safetensors"])
def test_networks_in_each_others_place_are_a_line_for_the_user(whole, tmp_path, other, name):
    models = shutil.copytree(whole / "models", tmp_path / "models")
    first, second, aside = models / "clip" / name, models / other / name, tmp_path / "aside"
    for source, target in ((first, aside), (second, first), (aside, second)):
        source.rename(target)
    assert refusal(open_models, models) == ""


def test_a_network_that_was_trained_with_another_clip_is_a_line_for_the_user(whole, tmp_path):
    models = shutil.copytree(whole / "models", tmp_path / "models")
    about = json.loads((models / "prior" / "model.json").read_text())
    about["inputs"]["clip"] = "0" * 64
    (models / "prior" / "model.json").write_text(json.dumps(about))
    assert refusal(open_models, models) == ""


def test_arrays_in_each_others_place_are_a_line_for_the_user(whole, tmp_path):
    splits = {"train", "val", "test"}  # of the embeddings: that they differ DVC's hashes know
    for name in ("prepared", "embeddings"):
        folder = shutil.copytree(whole / name, tmp_path / name)
        paths = sorted(folder.rglob("*.npy"))
        for path, other in zip(paths, paths[1:] + paths[:1], strict=True):
            if {path.stem, other.stem} <= splits:
                continue
            content = path.read_bytes()
            path.write_bytes(other.read_bytes())
            assert refusal(OPEN[name], folder) == "", f"{other.name} as {path.name}"
            path.write_bytes(content)


# Prompts

PROMPTS = st.one_of(
    st.text(st.characters(codec=None), max_size=80),
    st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zs", "Mn", "Co"]), max_size=40),
    st.tuples(st.sampled_from("a 🙂é\u0301"), st.integers(0, 5000)).map(
        lambda two: two[0] * two[1]
    ),
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(prompt=PROMPTS)
def test_a_prompt_is_tokens_or_a_line_for_the_user(prompt):
    line = ""
    try:
        tokens, mask = tokenize([prompt], 64)
    except UserError as error:
        line = str(error)
    if line:
        assert re.fullmatch(r"caption .{,400}", line)
        assert line.isprintable()
        return
    count, row = int(mask.sum()), tokens[0].tolist()
    assert (row[0], row[count - 1], set(row[count:]) <= {0}) == (2, 3, True)
    assert bytes(row[1 : count - 1]).decode() == fold(prompt)
    (slug,) = slugs([prompt])
    assert re.fullmatch(r"[\w-]{1,60}", slug)


@pytest.mark.parametrize(
    ("prompt", "status"),
    [
        *((" \u3000\n", 1), ("x" * 5000, 1), ("a\x00b", 1), ("red \udcff", 1), ("--nothing", 2)),
        *(("🧑‍🚀 é\u0301", 0), ("\u202eelcric \u200fשלום", 0), ("\x1b[31m\x07red", 0)),
        *(("../../a/b", 0), ("[red]%s{}\\\n", 0)),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_any_prompt_on_the_command_line_is_painted_or_refused(
    run, trained, tmp_path, prompt, status
):
    options = ["--num", "1", "--steps", "2", "--from", trained.layout.root, "--out", tmp_path]
    found, _, error = run("sample", *options, prompt)
    assert found == status
    assert len(list(tmp_path.glob("*.png"))) == (0 if status else 2)
    if status == 1:
        assert re.fullmatch(r"error: caption .*\n", error)
