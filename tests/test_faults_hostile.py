"""Hostile params, files and prompts: a line for the user or the right thing, never a traceback."""

import copy
import gzip
import hashlib
import json
import math
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from contexts import context
from hypothesis import given, settings
from hypothesis import strategies as st
from test_datasets_fashion_mnist import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    clothes,
    write_idx,
)
from torchvision.datasets import FashionMNIST

import cli
from unclip.commands.common import slugs
from unclip.config.errors import UserError
from unclip.core.artifacts import build, load_artifact
from unclip.data.embeddings import Embeddings
from unclip.data.prepared import Prepared
from unclip.data.tokenizer import tokenize
from unclip.datasets import fashion_mnist
from unclip.diffusion.reverse import Solver
from unclip.models.judge import Judge
from unclip.painting.system import Settings, System
from unclip.params.loading import load_params
from unclip.params.sections import Params

REPO = Path(__file__).resolve().parent.parent
SHIPPED = (REPO / "params.yaml").read_bytes()
RAW = yaml.safe_load(SHIPPED)

# Params

RANGES = {
    **{"image_size": (8, 512), "num_train": (64, 10**8), "num_test": (64, 10**8)},
    **{
        "num_objects": (1, 2),
        "num_judge": (64, 10**8),
        "seed": (0, 2**63 - 1),
        "warmup_steps": (0, 10**9),
    },
    **{"crop_padding": (0, 64), "num_timesteps": (2, 10**5), "embed_dim": (2, 4096)},
    **{"text_length": (8, 4096), "caption_depth": (0, 10**9), "channels": (4, 32)},
    **{"num_per_prompt": (1, 64), "num_judged": (10, 10**7), "prior_candidates": (1, 64)},
    **{"kid_subset_size": (2, 10**6), "val_fraction": (5e-324, 0.5), "lr": (5e-324, 10)},
    **{"test_fraction": (5e-324, 0.5)},
    **{"lr_min": (0, 10), "weight_decay": (0, 10), "grad_clip": (5e-324, 10**6)},
    **{"schedule_offset": (0, 0.5), "ema_decay": (0, math.nextafter(1, 0))},
    **{"word_dropout": (0, math.nextafter(1, 0)), "neighbours": (1, 9)},
    **{"num_pictures": (0, 10**6), "guidances": (0, 100)},
    **{"dropout": (0, math.nextafter(1, 0)), "cond_drop_prob": (0, 1), "image_drop_prob": (0, 1)},
    **{"caption_drop_prob": (0, 1), "eta": (0, 1), "prior_eta": (0, 1), "guidance": (0, 100)},
    **{"prior_guidance": (0, 100), "paint_guidance": (0, 100)},
}
CHOICES = {
    "dataset": {"shapes", "fashion_mnist", "image_folder"},
    "schedule": {"cosine", "linear"},
    "prediction_type": {"eps", "x_start", "v"},
    "precision": {"auto", "fp32", "bf16"},
    "downsample": {"conv", "pool"},
    "conditioning": {"scale_shift", "add"},
    "sampler": {"dpmpp_2m", "ddim", "ddpm"},
    "prior_sampler": {"dpmpp_2m", "ddim", "ddpm"},
}


def assert_in_bounds(params: Params) -> None:
    raw = params.model_dump()
    assert_values_in_bounds(raw, RAW)
    clip, prior, decoder, sample = (raw[name] for name in ("clip", "prior", "decoder", "sample"))
    for section in (clip, prior, decoder, raw["judge"]):
        assert section["lr_min"] <= section["lr"]
        assert section["warmup_steps"] <= section["train_steps"]
    assert raw["judge"]["batch_size"] >= 2
    assert clip["vision_dim"] % clip["vision_heads"] == clip["text_dim"] % clip["text_heads"] == 0
    assert prior["dim"] % prior["num_heads"] == 0
    size, mult = raw["data"]["image_size"], decoder["channel_mult"]
    assert size % clip["patch_size"] == 0
    sides = [size / decoder["patch_size"] / 2**level for level in range(len(mult))]
    assert all(side == int(side) for side in sides)
    assert set(decoder["attn_resolutions"]) <= set(sides)
    headed = [mult[-1], *(mult[sides.index(side)] for side in decoder["attn_resolutions"])]
    widths = [decoder["model_channels"] * multiple for multiple in headed]
    widths += [decoder["caption_dim"]] if decoder["caption_depth"] else []
    assert all(width % decoder["head_channels"] == 0 for width in widths)
    assert max(sample["steps"], decoder["paint_steps"]) <= decoder["num_timesteps"]
    assert sample["prior_steps"] <= prior["num_timesteps"]
    assert clip["embed_flipped"] or not decoder["flip"]


def assert_values_in_bounds(found: dict[str, Any], shipped: dict[str, Any]) -> None:
    assert found.keys() == shipped.keys()
    for key, value in found.items():
        assert type(value) is type(shipped[key]), key
        if isinstance(value, dict):
            assert_values_in_bounds(value, shipped[key])
        elif key == "folder":
            assert not Path(value).is_absolute()
            assert ".." not in Path(value).parts
        elif isinstance(value, str):
            assert value in CHOICES[key]
        elif not isinstance(value, bool):
            low, high = RANGES.get(key, (1, 10**9))
            for number in value if isinstance(value, list) else [value]:
                assert low <= number <= high, f"{key}: {number}"
    assert 1 <= len(found.get("channel_mult", [1])) <= 8


def check_params_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        params = load_params(path)
    except UserError as error:
        for line in str(error).split("\n"):
            assert line.isprintable(), repr(line)
            assert line.startswith(f"{path}: ")
            assert re.match(r"(?!\s*: ).+: \S", line.removeprefix(f"{path}: ")), line
    else:
        assert_in_bounds(params)


def fuzzing(count: int) -> settings:
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


TEXTS = st.text(max_size=8) | st.sampled_from(["\u202e", "\u200b\ufeff", "\x85", "1e-3", "é\n: -"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.floats()
    | TEXTS
    | st.integers(-(10**120), 10**120)
    | st.sampled_from([0, 1, 2, 4, 8, 16, 64, 10**9, 2**63, 0.0, 0.5, 1.0, 5e-324, "cosine", "v"])
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
LAUGHS = ", ".join(f"&a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))
FRAGMENTS = st.sampled_from(
    [
        f"[&a0 [x, x], {LAUGHS}]",
        *("!!bool maybe", "!!int x", "!!int ''", "!!int [1]", "!!float x", "!!float ''"),
        *("!!binary é", "!!binary x", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [1]"),
        *("!!timestamp 2026-99-99", "!!timestamp 2026-01-01", "!!null x", "!!map x", "!!seq x"),
        *("!!python/name:os.system", "!unknown 1", "!!str 1", "&a [*a]", "&a {b: *a}", "*a"),
        *("{<<: *x}", "{<<: {a: 1}}", "? x", "'open", '"\\q"', "|\n x", ">-\n\n", "0x", "0o9"),
        *("1e999", "-.inf", ".nan", "1__0", "9" * 101, "0x" + "f" * 99, "[" * 600, "{a: " * 300),
        *("%", "@", "`", "\t", "\x00", "\x07", "\u202e", "\ufeff", "\x85", "\u2028", "\ue000:"),
        *("{\u202e: 1, \u202e: 2}", '{"\\0": 1, "\\0": 2}', '{"": 1}', '{" ": 1}', '"\\ud800"'),
        *("---", "...", "--- 1", "%YAML 9.9", "# only", ": :", "{a}", "[,]", "-", "- - -"),
    ]
)


def leaves(values: Any, path: tuple = ()) -> Iterator[tuple]:
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict) or (isinstance(value, list) and len(value) < 4):
            yield from leaves(value, (*path, key))


@pytest.fixture(scope="module")
def params_file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "params.yaml"


@pytest.mark.faults
@fuzzing(350)
@given(
    edits=st.lists(
        st.tuples(
            st.sampled_from(list(leaves(RAW))), st.sampled_from(["set", "drop", "add"]), NESTED
        ),
        min_size=1,
        max_size=3,
    )
)
def test_params_with_any_values_are_in_bounds_or_lines_for_the_user(params_file, edits):
    raw = copy.deepcopy(RAW)
    for (*path, last), how, value in edits:
        place = raw
        for key in path:
            place = place[key] if isinstance(place, dict) and key in place else {}
        if how == "drop" and isinstance(place, dict):
            place.pop(last, None)
        elif isinstance(place, dict):
            place[last if how == "set" else f"{last}{value}"[:30]] = value
    check_params_file(params_file, yaml.safe_dump(raw, allow_unicode=True).encode())


@pytest.mark.faults
@fuzzing(600)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(SHIPPED) - 1),
            st.integers(0, 3),
            st.binary(max_size=3) | st.sampled_from([b" ", b"\n", b":", b"0", b"-", b"#", b"9"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_params_with_any_bytes_changed_are_in_bounds_or_lines_for_the_user(params_file, edits):
    content = SHIPPED
    for start, length, instead in edits:
        content = content[:start] + instead + content[start + length :]
    check_params_file(params_file, content)


@pytest.mark.faults
@fuzzing(200)
@given(place=st.sampled_from(re.findall(rb"^ +\w+: *([^#\s]+)", SHIPPED, re.M)), value=FRAGMENTS)
def test_params_with_strange_yaml_are_in_bounds_or_lines_for_the_user(params_file, place, value):
    check_params_file(params_file, SHIPPED.replace(b": " + place, b": " + value.encode(), 1))


@pytest.mark.faults
@fuzzing(200)
@given(
    content=NESTED.map(lambda value: yaml.safe_dump(value, allow_unicode=True).encode())
    | FRAGMENTS.map(str.encode)
    | st.text(max_size=60).map(str.encode)
    | st.binary(max_size=60)
)
def test_a_file_of_anything_is_lines_for_the_user(params_file, content):
    check_params_file(params_file, content)


# Damaged files. A changed byte in the payload of weights, pictures or embeddings is not looked for:
# these formats have no checksum, and it is DVC's hashes that notice it.


@dataclass(frozen=True)
class Door:
    """How a folder is loaded.

    Attributes:
        open: loads it and shows everything in it, name → what can be compared.
        is_legal: whether what is shown may stand in a folder that nothing damaged.
        also: pattern of a line that names another file than the damaged one, and rightly.
    """

    open: Callable[[Path], dict[str, Any]]
    is_legal: Callable[[dict[str, Any]], bool]
    also: str = ""


def bytes_of(array: Any) -> tuple:
    array = np.asarray(array)
    return array.dtype.str, array.shape, hashlib.md5(array.tobytes()).hexdigest()


PAINTING = Settings(Solver("ddim", 1, 0.0, 1.0), Solver("ddim", 1, 0.0, 1.0), 1, 1)


def open_system(models: Path) -> dict[str, Any]:
    system = System.load(models)
    networks = {"clip": system.clip, "prior": system.prior, "decoder": system.decoder}
    found: dict[str, Any] = {
        f"{kind}.{name}": bytes_of(tensor)
        for kind, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    # What was loaded must also work.
    picture = system.paint(["a red circle"], [0], PAINTING)
    return found | {
        "picture": bytes_of(picture),
        "prompts": system.prompts,
        "words": system.words,
        "text_length": system.text_length,
        "shape": system.picture_shape,
        "mean": system.normalisation.mean,
        "std": system.normalisation.std,
        "diffusions": [asdict(system.prior_diffusion), asdict(system.decoder_diffusion)],
        "embed_mean": system.embed_mean.tolist(),
        "embed_std": system.embed_std.tolist(),
    }


def is_legal_system(found: dict[str, Any]) -> bool:
    diffusions = [
        is_int(diffusion["num_timesteps"], 2, 10**5)
        and diffusion["schedule"] in CHOICES["schedule"]
        and diffusion["prediction_type"] in CHOICES["prediction_type"]
        and are_numbers([diffusion["schedule_offset"]], 1, 0, 0.5)
        for diffusion in found["diffusions"]
    ]
    return all(
        [
            *diffusions,
            are_texts(found["prompts"]),
            not found["words"] or are_texts(list(found["words"])),
            found["shape"] == (3, 16, 16),
            are_numbers(found["mean"], 3, 0, 1),
            are_numbers(found["std"], 3, 1e-9, 1),
            are_numbers(found["embed_mean"], 8, -1, 1),
            are_numbers(found["embed_std"], 8, 1e-9, 1),
        ]
    )


def open_judge(models: Path) -> dict[str, Any]:
    judge = build(load_artifact(models / "judge", "judge"), Judge, models / "judge")
    answers = judge(torch.zeros(1, 3, 16, 16))
    found = {name: bytes_of(tensor) for name, tensor in judge.state_dict().items()}
    return found | {"size": judge.image_size, "answers": [bytes_of(answer) for answer in answers]}


def open_prepared(folder: Path) -> dict[str, Any]:
    data = Prepared(folder)
    found = {key: value for key, value in vars(data).items() if key != "folder"}
    found |= {"mean": data.mean, "std": data.std}
    found["caption_attributes"] = data.caption_attributes.tolist()
    for name in ("train", "val", "test", "judge"):
        split = data.split(name)
        data.normalisation.normalise(split.gather([0]))
        found |= {f"{name}.{array}": bytes_of(value) for array, value in vars(split).items()}
    return found


def is_legal_prepared(found: dict[str, Any]) -> bool:
    num_attributes, num_captions = len(found["attribute_names"]), len(found["captions"])
    values = found["attribute_values"]
    return all(
        [
            isinstance(found["name"], str),
            are_texts(found["captions"]),
            are_texts(found["prompts"]),
            are_texts(found["attribute_names"]),
            len(values) == num_attributes,
            all(are_texts(words) for words in values),
            len(found["caption_attributes"]) == num_captions,
            all(
                len(row) == num_attributes
                and all(-1 <= v < len(words) for v, words in zip(row, values, strict=True))
                for row in found["caption_attributes"]
            ),
            all(is_int(held_out, 0, num_captions - 1) for held_out in found["held_out_captions"]),
            isinstance(found["allow_flip"], bool),
            found["judge_split"] in ("train", "judge"),
            are_numbers(found["mean"], found["channels"], 0, 1),
            are_numbers(found["std"], found["channels"], 1e-9, 1),
        ]
    )


def open_embeddings(folder: Path) -> dict[str, Any]:
    embeddings = Embeddings(folder)
    found = {name: bytes_of(embeddings.images(name)) for name in ("train", "val", "test")}
    every = torch.arange(len(embeddings.captions))
    return found | {
        "captions": bytes_of(embeddings.captions),
        "mask": bytes_of(embeddings.caption_mask),
        "encodings": bytes_of(embeddings.encodings(every)),
    }


def open_fashion(raw_dir: Path) -> dict[str, Any]:
    source = fashion_mnist.FashionMNIST().load(context(raw_dir, image_size=28))
    return {
        f"{name}.{array}": bytes_of(value)
        for name, split in (("train", source.train), ("test", source.test))
        for array, value in vars(split).items()
    }


def never(found: dict[str, Any]) -> bool:
    return False


def is_int(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def are_numbers(value: Any, count: int, low: float, high: float) -> bool:
    numbers = list(value)
    kinds = all(type(number) in (int, float) for number in numbers)
    return len(numbers) == count and kinds and all(low <= number <= high for number in numbers)


SYSTEM = Door(open_system, is_legal_system, also=r"another CLIP")
JUDGE = Door(open_judge, lambda found: found["size"] == 16)
PREPARED = Door(open_prepared, is_legal_prepared)
EMBEDDINGS = Door(open_embeddings, never)
FASHION = Door(open_fashion, never)

Damage = tuple[str, Callable[[Path], None]]
GARBAGE = {
    "nothing": b"",
    "zeros": bytes(70_000),
    "text": b"Not found\n",
    "a page": b"<!DOCTYPE html><html>404</html>",
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "a zip": b"PK\x03\x04" + bytes(64),
    "an empty zip": b"PK\x05\x06" + bytes(18),
    "a gzip": gzip.compress(b"abc"),
    "a pickle": b"\x80\x04\x95" + bytes(40),
    "an array of objects": b"\x93NUMPY\x01\x00\x0e\x00{'descr': '|O'",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "a BOM": b"\xef\xbb\xbf{}",
    "deep JSON": b"[" * 100_000,
    "a number": b"1" * 5000,
}
VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 0.5, 10**30, float("nan"), float("inf"), -1e300, "x", "a\nb\u202e"),
    *([], {}, [[1], [2, 3]], [None], [float("nan")], {"a": {"b": []}}, [10**30], ["x", "y"]),
]


def header_length(path: Path) -> int:
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        return 8 + int.from_bytes(content[:8], "little")
    if path.suffix == ".npy":
        return 10 + int.from_bytes(content[8:10], "little")
    if "ubyte" in path.name and path.suffix != ".gz":
        return 16 if "idx3" in path.name else 8
    return len(content)


def damages(path: Path, count: int) -> Iterator[Damage]:
    """Yields about `count` of each sort, each with its name."""
    draw = random.Random(path.name)
    content, header = path.read_bytes(), header_length(path)
    for keep in [0, header - 1, len(content) - 1, *draw.choices(range(len(content)), k=count)]:
        yield f"cut to {keep} bytes", writes(content[:keep])
    for _ in range(2 * count):
        start, instead = draw.randrange(header), draw.randbytes(draw.choice([1, 1, 2, 8]))
        changed = content[:start] + instead[: header - start]
        yield f"{instead!r} at {start}", writes(changed + content[len(changed) :])
    for name, garbage in draw.sample(sorted(GARBAGE.items()), k=min(count, len(GARBAGE))):
        yield name, writes(garbage)
        yield f"{name} in front", writes(garbage[:200] + content) if garbage else writes(b"")
    yield "gone", Path.unlink
    yield "a folder", replace_by_folder
    yield "a link to nothing", replace_by_link
    if path.suffix == ".json":
        yield from damages_of_json(content, draw, 8 * count)
    if path.suffix in (".npy", ".safetensors"):
        yield from damages_of_header(content, header)


def damages_of_json(content: bytes, draw: random.Random, count: int) -> Iterator[Damage]:
    about = json.loads(content)
    places = list(leaves(about))
    chosen = [(place, value) for place in places for value in [*VALUES, KeyError]]
    for place, value in draw.sample(chosen, k=min(count, len(chosen))):
        changed = copy.deepcopy(about)
        where = changed
        for key in place[:-1]:
            where = where[key]
        if value is KeyError:
            del where[place[-1]]
        else:
            where[place[-1]] = value
        yield f"{'.'.join(map(str, place))} = {value!r}", writes(json.dumps(changed).encode())
    versions: list[Any] = [0, 2, -1, 1.5, "1", "1\n2", None, [], {}, float("nan")]
    for version in versions:
        changed = about | {"format_version": version}
        yield f"version {version!r}", writes(json.dumps(changed).encode())


def damages_of_header(content: bytes, header: int) -> Iterator[Damage]:
    pairs = [(b"F32", b"I32"), (b"F32", b"U32"), (b"F32", b"F16"), (b"I64", b"U64")]
    pairs += [(b"<f4", code) for code in (b"<i4", b">f4", b"<u4", b"<f2", b"<c8", b"|O4")]
    pairs += [(b"<i4", b">i4"), (b"<i4", b"<u4"), (b"<i4", b"<f4"), (b"<i2", b">i2")]
    pairs += [(b"|u1", b"|i1"), (b"|u1", b"|b1"), (b"|b1", b"|u1"), (b"False,", b"True, ")]
    pairs += [(b"'shape': (", b"'shape': (9999999999999999999, "), (b"'shape': (", b"'shape': (-")]
    pairs += [(b"}", b"("), (b"}", b" "), (b"{", b"'"), (b"\x93NUMPY\x01", b"\x93NUMPY\x02")]
    for old, new in pairs:
        if old in content[:header]:
            yield f"{new!r} for {old!r}", writes(content.replace(old, new, 1))


def writes(content: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(content))


def void(_: object) -> None: ...


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def restore(path: Path, content: bytes) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    path.write_bytes(content)


def complaint(door: Door, folder: Path, named: str, whole: dict[str, Any], *, is_json: bool) -> str:
    """Returns what the door did instead of what it must, nothing where it did that."""
    try:
        found = door.open(folder)
    except UserError as error:
        line = str(error)
        is_named = named in line or (door.also and re.search(door.also, line))
        return "" if line.isprintable() and is_named else f"said {line!r}"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"[:160]
    if repr(found) == repr(whole):
        return ""
    differ = [key for key in whole if repr(found.get(key)) != repr(whole[key])]
    try:
        is_legal = is_json and door.is_legal(found)
    except Exception:
        is_legal = False
    return "" if is_legal else f"accepted, and {differ[:4]} differ"


def complaints(door: Door, folder: Path, path: Path, count: int) -> tuple[int, list[str]]:
    """Returns how many damages were done to a file, and what went wrong."""
    whole, content, found, tried = door.open(folder), path.read_bytes(), [], 0
    for name, damage in damages(path, count):
        damage(path)
        tried += 1
        said = complaint(door, folder, str(path.parent), whole, is_json=path.suffix == ".json")
        found += [f"{path.name}: {name}: {said}"] if said else []
        restore(path, content)
    assert door.open(folder) == whole
    return tried, found


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory) -> Path:
    """A copy of everything that the stages made, to be damaged and mended."""
    root = tmp_path_factory.mktemp("hostile") / "made"
    shutil.copytree(trained.layout.models, root / "models")
    shutil.copytree(trained.layout.prepared, root / "prepared")
    shutil.copytree(trained.layout.embeddings, root / "embeddings")
    return root


MODEL_FILES = [
    (SYSTEM if kind != "judge" else JUDGE, "models", f"{kind}/{name}")
    for kind in ("clip", "prior", "decoder", "judge")
    for name in ("model.json", "model.safetensors")
]
DATA_FILES = [
    (PREPARED, "prepared", "dataset.json"),
    *((PREPARED, "prepared", f"val/{name}.npy") for name in ("images", "caption_index")),
    (PREPARED, "prepared", "train/attributes.npy"),
    (PREPARED, "prepared", "test/images.npy"),
    (PREPARED, "prepared", "judge/attributes.npy"),
    (EMBEDDINGS, "embeddings", "train.npy"),
    *((EMBEDDINGS, "embeddings", f"caption{name}.npy") for name in ("s", "_encodings", "_mask")),
]
ONE_OF_EACH = [*MODEL_FILES[2:4], MODEL_FILES[6], *DATA_FILES[:2], DATA_FILES[-1]]
QUIET = pytest.mark.filterwarnings("ignore")


def name_of(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("door", "folder", "file"), ONE_OF_EACH, ids=name_of)
@QUIET
def test_a_damaged_file_is_a_line_for_the_user(made, door, folder, file):
    _, found = complaints(door, made / folder, made / folder / file, count=1)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("door", "folder", "file"), MODEL_FILES + DATA_FILES, ids=name_of)
@QUIET
@pytest.mark.faults
def test_a_file_damaged_in_any_way_is_a_line_for_the_user(made, door, folder, file):
    tried, found = complaints(door, made / folder, made / folder / file, count=12)
    assert tried >= 40
    assert not found, "\n".join(found)


@QUIET
@pytest.mark.faults
@pytest.mark.parametrize("other", ["prior", "decoder", "judge"])
@pytest.mark.parametrize("name", ["", "model.json", "model.safetensors"])
def test_networks_in_each_others_place_are_a_line_for_the_user(made, tmp_path, other, name):
    models = shutil.copytree(made / "models", tmp_path / "models")
    first, second, aside = models / "clip" / name, models / other / name, tmp_path / "aside"
    for source, target in ((first, aside), (second, first), (aside, second)):
        source.rename(target)
    assert complaint(SYSTEM, models, str(models), {}, is_json=False) == ""
    if other == "judge":
        assert complaint(JUDGE, models, str(models), {}, is_json=False) == ""


@QUIET
@pytest.mark.faults
def test_arrays_in_each_others_place_are_a_line_for_the_user(made, tmp_path):
    found = []
    for door, folder in ((PREPARED, "prepared"), (EMBEDDINGS, "embeddings")):
        copied = shutil.copytree(made / folder, tmp_path / folder)
        whole, paths = door.open(copied), sorted(copied.rglob("*.npy"))
        for path, other in zip(paths, paths[1:] + paths[:1], strict=True):
            if door is EMBEDDINGS and {path.stem, other.stem} <= {"train", "val", "test"}:
                continue  # the folder alone does not show it: DVC's hashes guard that
            content = path.read_bytes()
            path.write_bytes(other.read_bytes())
            said = complaint(door, copied, str(path.parent), whole, is_json=False)
            found += [f"{other.name} as {path.name}: {said}"] if said else []
            path.write_bytes(content)
    assert not found, "\n".join(found)


# Fashion-MNIST


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    """The folder of a small Fashion-MNIST, and a mirror that refuses every connection."""
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    raw = tmp_path / "FashionMNIST" / "raw"
    for images, labels, count in ((TRAIN_IMAGES, TRAIN_LABELS, 30), (TEST_IMAGES, TEST_LABELS, 20)):
        pictures, classes = clothes(count, seed=count)
        write_idx(raw / images, pictures)
        write_idx(raw / labels, classes)
    return raw


@QUIET
@pytest.mark.faults
@pytest.mark.parametrize("name", [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS])
def test_a_raw_file_damaged_in_any_way_is_a_line_for_the_user(raw, tmp_path, name):
    tried, found = complaints(FASHION, tmp_path, raw / name, count=12)
    assert tried >= 40
    assert not found, "\n".join(found)


@QUIET
@pytest.mark.faults
@pytest.mark.parametrize("name", [TRAIN_IMAGES, TEST_LABELS])
def test_an_archive_damaged_in_any_way_is_a_line_for_the_user(raw, tmp_path, monkeypatch, name):
    archives = {path.name + ".gz": gzip.compress(path.read_bytes()) for path in raw.iterdir()}
    resources = [(name, hashlib.md5(archive).hexdigest()) for name, archive in archives.items()]
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    archive = raw / f"{name}.gz"
    whole, found = open_fashion(tmp_path), []
    archive.write_bytes(archives[archive.name])
    for number, (what, damage) in enumerate(list(damages(archive, 6))):
        fresh = tmp_path / str(number) / "FashionMNIST" / "raw"
        fresh.mkdir(parents=True)
        for file, content in archives.items():
            (fresh / file).write_bytes(content)
        damage(fresh / archive.name)
        said = complaint(FASHION, tmp_path / str(number), str(fresh), whole, is_json=False)
        found += [f"{archive.name}: {what}: {said}"] if said else []
    assert not found, "\n".join(found)


# Prompts

PROMPTS = st.one_of(
    st.text(st.characters(codec=None), max_size=80),
    st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zs", "Mn", "Co"]), max_size=40),
    st.text("abc 🧑‍🚀é\u0301\u202e\u200f\x00\x02\x1b\n\t\ud83d", max_size=40),
    st.tuples(st.sampled_from("a 🙂é\u0301"), st.integers(0, 5000)).map(
        lambda two: two[0] * two[1]
    ),
)


def check_prompt(prompt: str, text_length: int) -> None:
    try:
        tokens, mask = tokenize([prompt], text_length)
    except UserError as error:
        line = str(error)
        assert line.startswith("caption ")
        assert line.isprintable()
        assert len(line) < 600
        return
    assert tokens.shape == mask.shape == (1, text_length)
    count = int(mask.sum())
    assert mask[0, :count].all()
    row = tokens[0].tolist()
    assert (row[0], row[count - 1], set(row[count:]) <= {0}) == (2, 3, True)
    assert bytes(row[1 : count - 1]).decode() == prompt.lower()
    (slug,) = slugs([prompt])
    assert re.fullmatch(r"[\w-]+", slug)
    assert len(slug.encode()) <= 200


@fuzzing(50)
@given(prompt=PROMPTS)
def test_a_prompt_is_tokens_or_a_line_for_the_user(prompt):
    check_prompt(prompt, 64)


@pytest.mark.faults
@fuzzing(500)
@given(prompt=PROMPTS, text_length=st.integers(8, 128))
def test_any_prompt_is_tokens_or_a_line_for_the_user(prompt, text_length):
    check_prompt(prompt, text_length)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("prompt", "status"),
    [
        *(("", 1), (" \u3000\n", 1), ("x" * 5000, 1), ("🙂" * 16, 1), ("a\x00b", 1)),
        *(("\x02", 1), ("\ud83d", 1), ("red \udcff", 1), ("--nothing", 2), ("🧑‍🚀 é\u0301", 0)),
        *(("\u202eelcric \u200fשלום", 0), ("a\nb\tc", 0), ("\x1b[31m\x07red", 0), ("\u200b", 0)),
        *(("../../a/b", 0), ("[red]%s{}\\", 0)),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_any_prompt_on_the_command_line_is_painted_or_refused(
    trained, tmp_path, monkeypatch, capsys, on_cpu, prompt, status
):
    from workspace import forget_accelerator

    forget_accelerator()
    options = ["--num", "1", "--steps", "2", "--from", str(trained.layout.root)]
    options += ["--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["cli.py", "sample", *options, prompt])
    try:
        cli.main()
        found = 0
    except SystemExit as exit_:
        found = exit_.code or 0
    printed, error = capsys.readouterr()
    assert found == status
    assert "Traceback" not in printed + error
    assert len(list((tmp_path / "out").glob("*.png"))) == (0 if status else 2)
    if status == 1:
        assert re.fullmatch(r"error: caption .*\n", error)
