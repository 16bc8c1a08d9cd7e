import copy
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unclip.config.errors import UserError
from unclip.config.yaml12 import load_yaml
from unclip.datasets.image_folder import MADE
from unclip.models.clip import CLIP
from unclip.models.judge import Judge
from unclip.models.prior import Prior
from unclip.models.unet import UNet
from unclip.params.loading import load_params, validate_params
from unclip.params.sections import Params

REPO = Path(__file__).resolve().parent.parent
SHIPPED = REPO / "params.yaml"
RAW = load_yaml(SHIPPED.read_text(encoding="utf-8"))
# What the cases below count on, so that tuning what ships breaks none of them.
KNOWN = {
    "data": {"image_size": 32},
    "clip": {
        **{"patch_size": 4, "embed_dim": 64, "embed_flipped": False},
        **{"vision_dim": 128, "vision_heads": 4, "text_dim": 128, "text_heads": 4},
    },
    "prior": {"dim": 128, "num_heads": 4, "num_timesteps": 1000},
    "decoder": {
        **{"patch_size": 2, "model_channels": 48, "channel_mult": [1, 2], "head_channels": 32},
        **{"attn_resolutions": [8], "caption_depth": 0, "caption_dim": 96, "flip": False},
        **{"num_timesteps": 1000, "lr": 0.002, "lr_min": 0.00001},
    },
    "judge": {"channels": 32, "train_steps": 800, "warmup_steps": 100},
}
BASE = {section: values | KNOWN.get(section, {}) for section, values in RAW.items()}
MISSING = object()


def changed(**values):
    """Valid params with some changed; `decoder__lr=1` is decoder.lr."""
    raw = copy.deepcopy(BASE)
    for key, value in values.items():
        *sections, last = key.split("__")
        place = raw
        for section in sections:
            place = place[section]
        if value is MISSING:
            del place[last]
        else:
            place[last] = value
    return raw


def complaints(raw) -> list[str]:
    """The lines that validation has for the user, none where all is well."""
    try:
        validate_params(raw, where="params.yaml")
    except UserError as error:
        return str(error).split("\n")
    return []


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def only_line(path: Path) -> str:
    """The one line that reading the file ends in, without the path it must begin with."""
    with pytest.raises(UserError) as caught:
        load_params(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


# What ships


@pytest.mark.parametrize(
    "path", [SHIPPED, *sorted((REPO / "recipes").glob("*.yaml"))], ids=lambda path: path.name
)
def test_every_shipped_recipe_is_valid(path):
    load_params(path)


@pytest.mark.parametrize(
    "path", sorted((REPO / "recipes").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_value_is_written_in_the_order_of_params_yaml(path):
    def keys(section, prefix=""):
        for key, value in section.items():
            yield prefix + key
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{key}.")

    assert list(keys(load_yaml(path.read_text(encoding="utf-8")))) == list(keys(RAW))


def test_no_value_has_a_default_in_code_but_those_that_older_files_lack():
    def fields(model):
        for name, field in model.model_fields.items():
            yield name, field
            if hasattr(field.annotation, "model_fields"):
                yield from fields(field.annotation)

    defaults = {name: field.default for name, field in fields(Params) if not field.is_required()}
    assert defaults == dict.fromkeys(("spacing", "prior_spacing"), "uniform")


def test_the_shipped_recipe_runs_on_the_other_data_set_with_no_other_change():
    raw = copy.deepcopy(RAW)
    raw["data"]["dataset"] = "fashion_mnist"
    assert complaints(raw) == []


# One clear line for each mistake


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"decoder__chanel_mult": 1},
            "decoder.chanel_mult: unknown key (did you mean decoder.chan",
        ),
        ({"data__shapes__num_tran": 1}, "data.shapes.num_tran: unknown key (did you mean data.sha"),
        ({"decodr": {}}, "decodr: unknown key (did you mean decoder?); remove it or correct its n"),
        ({"prior__zzz\nzzz": 1}, "prior.'zzz\\nzzz': unknown key; remove it or correct its name"),
        ({"decoder__lr": MISSING}, "decoder.lr: missing; every value is written in params.yaml"),
        ({"judge": MISSING}, "judge: missing; every value is written in params.yaml, add it"),
        ({"decoder__lr": "abc"}, "decoder.lr: 'abc' is not allowed; expected a number"),
        ({"decoder__lr": "a\nb"}, "decoder.lr: 'a\\nb' is not allowed; expected a number"),
        ({"decoder__lr": None}, "decoder.lr: null is not allowed; expected a number"),
        ({"decoder__lr": True}, "decoder.lr: true is not allowed; expected a number"),
        ({"decoder__lr": [1.0]}, "decoder.lr: [1.0] is not allowed; expected a number"),
        ({"decoder__lr": 10**99}, "decoder.lr: 1000000000"),
        ({"decoder__lr": 0.0}, "decoder.lr: 0.0 is not allowed; expected greater than 0"),
        ({"decoder__lr": float("inf")}, "decoder.lr: inf is not allowed; expected a finite number"),
        ({"decoder__lr": float("nan")}, "decoder.lr: nan is not allowed; expected a finite number"),
        ({"prior__depth": True}, "prior.depth: true is not allowed; expected an integer"),
        ({"prior__depth": 2.0}, "prior.depth: 2.0 is not allowed; expected an integer"),
        ({"prior__depth": "2"}, "prior.depth: '2' is not allowed; expected an integer"),
        ({"prior__depth": 0}, "prior.depth: 0 is not allowed; expected greater than or equal to 1"),
        ({"prior__dropout": 1.0}, "prior.dropout: 1.0 is not allowed; expected less than 1"),
        ({"prior__ema_decay": 1.0}, "prior.ema_decay: 1.0 is not allowed; expected less than 1"),
        ({"prior__seed": -1}, "prior.seed: -1 is not allowed; expected greater than or equal to 0"),
        ({"sample__seed": 2**63}, "sample.seed: 9223372036854775808 is not allowed; expected less"),
        ({"decoder__flip": 1}, "decoder.flip: 1 is not allowed; expected a boolean"),
        ({"decoder__flip": "yes"}, "decoder.flip: 'yes' is not allowed; expected a boolean"),
        (
            {"decoder__schedule": "sigmoid"},
            "decoder.schedule: 'sigmoid' is not allowed; expected 'f",
        ),
        (
            {"prior__timestep_density": "normal"},
            "prior.timestep_density: 'normal' is not allowed; expected 'uniform' or 'logit_normal'",
        ),
        (
            {"sample__prior_spacing": "even"},
            "sample.prior_spacing: 'even' is not allowed; expected 'uniform' or 'karras'",
        ),
        (
            {"sample__sampler": "euler"},
            "sample.sampler: 'euler' is not allowed; expected 'dpmpp_2m'",
        ),
        (
            {"data__dataset": ["shapes"]},
            "data.dataset: ['shapes'] is not allowed; expected 'shapes'",
        ),
        (
            {"data__image_folder__folder": "/own"},
            "data.image_folder.folder: '/own' is not allowed; expected a folder below this repos",
        ),
        (
            {"data__image_folder__folder": "../own"},
            "data.image_folder.folder: '../own' is not allowed; expected a folder below this rep",
        ),
        (
            {"data__image_folder__folder": "a/../../own"},
            "data.image_folder.folder: 'a/../../own' is not allowed; expected a folder below thi",
        ),
        (
            {"data__image_folder__folder": ""},
            "data.image_folder.folder: '' is not allowed; expected a folder below this repository",
        ),
        (
            {"data__image_folder__folder": "${x}"},
            "data.image_folder.folder: '${x}' is not allowed; expected a folder below this repos",
        ),
        (
            {"data__image_folder__folder": "data"},
            "data.image_folder.folder: 'data' holds what the pipeline makes, or lies in it; expe",
        ),
        (
            {"data__image_folder__folder": "samples/mine"},
            "data.image_folder.folder: 'samples/mine' holds what the pipeline makes, or lies in ",
        ),
        (
            {"data__image_folder__caption": "a photo of {class}"},
            "data.image_folder.caption: 'a photo of {class}' is not allowed; expected {} in it",
        ),
        (
            {"data__image_folder__test_fraction": 0.6},
            "data.image_folder.test_fraction: 0.6 is not allowed; expected less than or equal to ",
        ),
        (
            {"decoder__channel_mult": []},
            "decoder.channel_mult: [] is not allowed; expected at least",
        ),
        ({"decoder__channel_mult": 4}, "decoder.channel_mult: 4 is not allowed; expected a list"),
        (
            {"decoder__channel_mult": [1, 0]},
            "decoder.channel_mult.1: 0 is not allowed; expected gre",
        ),
        (
            {"decoder__attn_resolutions": [8.0]},
            "decoder.attn_resolutions.0: 8.0 is not allowed; exp",
        ),
        ({"clip": None}, "clip: null is not allowed; expected a section with keys of its own"),
        (
            {"judge__batch_size": 1},
            "judge.batch_size: 1 is not allowed; expected greater than or eq",
        ),
        # between two keys
        ({"decoder__lr_min": 0.5}, "decoder.lr_min: 0.5 is above decoder.lr 0.002"),
        (
            {"judge__warmup_steps": 801},
            "judge.warmup_steps: 801 is more than judge.train_steps 800",
        ),
        ({"clip__patch_size": 5}, "data.image_size: 32 is not a multiple of clip.patch_size (5)"),
        (
            {"clip__vision_heads": 3},
            "clip.vision_dim: 128 is not a multiple of clip.vision_heads (3)",
        ),
        ({"clip__text_heads": 3}, "clip.text_dim: 128 is not a multiple of clip.text_heads (3)"),
        ({"prior__num_heads": 3}, "prior.dim: 128 is not a multiple of prior.num_heads (3)"),
        ({"decoder__patch_size": 3}, "data.image_size: 32 is not a multiple of decoder.patch_size"),
        (
            {"decoder__attn_resolutions": [12]},
            "decoder.attn_resolutions: 12 is not a level of this",
        ),
        (
            {"decoder__caption_depth": 1, "decoder__caption_dim": 80},
            "decoder.head_channels: 32 doe",
        ),
        ({"sample__steps": 1001}, "sample.steps: 1001 is more than decoder.num_timesteps 1000"),
        (
            {"sample__prior_steps": 1001},
            "sample.prior_steps: 1001 is more than prior.num_timesteps",
        ),
        (
            {"decoder__paint_steps": 1001},
            "decoder.paint_steps: 1001 is more than decoder.num_times",
        ),
        (
            {"prior__schedule": "flow", "prior__prediction_type": "eps"},
            "prior.prediction_type: eps says nothing",
        ),
        ({"decoder__flip": True}, "decoder.flip: true needs the embeddings of mirrored pictures"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_mistake_is_one_line_that_begins_with_file_and_key(change, line):
    (found,) = complaints(changed(**change))
    assert found.startswith(f"params.yaml: {line}")


def test_several_mistakes_are_a_line_each():
    lines = complaints(changed(prior__lr="x", clip__batch_size=0, judge__channels=None))
    assert [line.split(": ")[1] for line in lines] == [
        "clip.batch_size",
        "prior.lr",
        "judge.channels",
    ]


def test_head_channels_must_divide_every_width_with_attention():
    # 48 · (1, 2) = 48, 96 at 16 and 8 pixels; the bottleneck is as wide as the last level.
    assert complaints(changed(decoder__attn_resolutions=[], decoder__head_channels=96)) == []
    assert complaints(changed(decoder__attn_resolutions=[16], decoder__head_channels=96)) == [
        "params.yaml: decoder.head_channels: 96 does not divide the channels at 16 pixels (48)"
    ]
    assert complaints(changed(decoder__attn_resolutions=[], decoder__head_channels=36)) == [
        "params.yaml: decoder.head_channels: 36 does not divide the width of the bottleneck (96)"
    ]


def test_the_width_of_a_caption_encoder_that_is_not_there_does_not_matter():
    assert complaints(changed(decoder__caption_depth=0, decoder__caption_dim=80)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"decoder__attn_resolutions": [12]},
        {"decoder__attn_resolutions": [16], "decoder__head_channels": 96},
        {"decoder__attn_resolutions": [], "decoder__head_channels": 36},
        {"decoder__caption_depth": 1, "decoder__caption_dim": 80},
    ],
)
def test_what_validation_refuses_the_networks_do_not_take_either(change):
    raw = changed(**change)
    with pytest.raises(AssertionError):
        build_networks(raw)
    assert len(complaints(raw)) == 1


@pytest.mark.parametrize(
    "folder",
    [
        *("own", "data/own", "data/my own.v2", "mine/ünï_1", "samples2", "data/Photos (1)"),
        *("data/it's", 'data/"a" b', "data/own/", "./data/own//", "data/50% #1, [a] & b", "猫"),
    ],
)
def test_own_pictures_may_lie_anywhere_else_below_the_repository(folder):
    params = validate_params(changed(data__image_folder__folder=folder))
    assert Path(params.data.image_folder.folder) == Path(folder)
    assert not params.data.image_folder.folder.endswith("/")


@pytest.mark.parametrize("folder", [".", "./", "a/..", "~/own", "data/.own", "s3://own", "a\nb"])
def test_a_folder_that_is_none_below_the_repository_is_refused(folder):
    (line,) = complaints(changed(data__image_folder__folder=folder))
    assert "expected a folder below this repository" in line


@pytest.mark.parametrize("folder", ["data/", "./data/prepared/", "own/../samples/mine", "models/"])
def test_no_way_of_writing_a_folder_leads_to_what_the_pipeline_makes(folder):
    (line,) = complaints(changed(data__image_folder__folder=folder))
    assert "holds what the pipeline makes, or lies in it" in line


def test_no_stage_makes_anything_outside_of_what_own_pictures_must_keep_clear_of():
    stages = load_yaml((REPO / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    made = {
        entry if isinstance(entry, str) else next(iter(entry))
        for stage in stages.values()
        for entry in [*stage.get("outs", []), *stage.get("metrics", [])]
    }
    kept_clear = [Path(folder) for folder in MADE]
    assert {out for out in made if not any(Path(out).is_relative_to(f) for f in kept_clear)} == {
        "report.json"
    }


def build_networks(raw) -> None:
    """Builds all four, in the sizes that the params say."""
    clip = {k: v for k, v in raw["clip"].items() if k.startswith(("vision_", "text_", "embed_dim"))}
    clip |= {"patch_size": raw["clip"]["patch_size"], "dropout": 0.0}
    picture = {"image_size": raw["data"]["image_size"], "in_channels": 3}
    prior = {key: raw["prior"][key] for key in ("dim", "depth", "num_heads", "dropout")}
    text = {"embed_dim": clip["embed_dim"], "text_length": clip["text_length"]}
    decoder = {
        key: raw["decoder"][key]
        for key in (
            *("patch_size", "model_channels", "channel_mult", "num_res_blocks", "dropout"),
            *("attn_resolutions", "head_channels", "downsample", "conditioning"),
            *("num_image_tokens", "caption_depth", "caption_dim"),
        )
    }
    CLIP(**clip, **picture, vocab_size=256)
    Prior(**prior, **text, text_dim=clip["text_dim"])
    UNet(**decoder, **picture, **text, vocab_size=256)
    Judge(**picture, channels=raw["judge"]["channels"], num_values=[2])


SMALL = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16])


@given(
    image_size=st.sampled_from([8, 12, 16, 28]),
    clip=st.tuples(SMALL, SMALL, SMALL, SMALL, SMALL),
    prior=st.tuples(SMALL, SMALL),
    decoder=st.tuples(st.sampled_from([1, 2, 4]), SMALL, SMALL, st.integers(0, 1), SMALL),
    channel_mult=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    attn_resolutions=st.lists(st.sampled_from([2, 3, 4, 7, 8]), max_size=2),
    judge_channels=st.integers(4, 40),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_validation_lets_through_the_networks_can_be_built_from(
    image_size, clip, prior, decoder, channel_mult, attn_resolutions, judge_channels
):
    raw = changed(data__image_size=image_size, judge__channels=judge_channels)
    keys = ("patch_size", "vision_dim", "vision_heads", "text_dim", "text_heads")
    raw["clip"] |= dict(zip(keys, clip, strict=True)) | {"vision_depth": 1, "text_depth": 1}
    raw["prior"] |= dict(zip(("dim", "num_heads"), prior, strict=True)) | {"depth": 1}
    keys = ("patch_size", "model_channels", "head_channels", "caption_depth", "caption_dim")
    raw["decoder"] |= dict(zip(keys, decoder, strict=True))
    raw["decoder"] |= {"channel_mult": channel_mult, "attn_resolutions": attn_resolutions}
    if not complaints(raw):
        build_networks(raw)


# The file itself


def test_an_exponent_without_a_point_is_a_number(tmp_path):
    text = SHIPPED.read_text(encoding="utf-8")
    path = written(tmp_path, re.sub(r"( lr_min:) \S+", r"\1 1e-05", text))
    assert load_params(path).decoder.lr_min == 0.00001


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-05", 0.00001), ("1E3", 1000.0), ("-.5", -0.5), ("1.", 1.0), ("+3", 3)),
        *(("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7)),
        *(("1_000", "1_000"), ("12:30", "12:30"), ("0b1", "0b1"), ("1e", "1e"), (".", ".")),
        *(("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y")),
        *(("true", True), ("False", False), ("tRUE", "tRUE")),
        *(("~", None), ("null", None), ("", None), ("nulL", "nulL")),
        *(("2026-01-31", "2026-01-31"), ("2026-13-45", "2026-13-45"), ("=", "="), ("<<", "<<")),
        (".inf", float("inf")),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(text, value):
    found = load_yaml(f"key: {text}")["key"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "the file: null is not allowed; expected a section with keys of its own"),
        ("# nothing\n", "the file: null is not allowed; expected a section with keys of its own"),
        ("- a\n- b\n", "the file: ['a', 'b'] is not allowed; expected a section with keys of its"),
        ("data: {seed: 1\n", "not valid YAML: "),
        ("data: 1\n---\ndata: 2\n", "not valid YAML: "),
        ("data: 1\ndata: 2\n", "not valid YAML: line 1: the key 'data' stands there twice"),
        (
            "data:\n  seed: 1\n  seed: 1\n",
            "not valid YAML: line 2: the key 'seed' stands there twice",
        ),
        ("? [a]\n: b\n", "not valid YAML: "),
        ("seed: " + "9" * 5000, "not valid YAML: "),
        ("a: !!python/object:os.system x\n", "not valid YAML: "),
        ("a: !!bool maybe\n", "not valid YAML: "),
        ("a: !!map [b]\n", "not valid YAML: "),
        ("a: !!timestamp b\n", "not valid YAML: "),
        ("a: &a {b: *a}\n", "not valid YAML: "),
        ("\x00\x01\x02", "not valid YAML: "),
        ("a: &a [*a]", "not valid YAML: "),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "cannot be read: "),
        ("data: é\n".encode("latin-1"), "cannot be read: "),
        ("data: x\n".encode("utf-16"), "cannot be read: "),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_a_file_that_is_not_params_is_one_line(tmp_path, content, line):
    assert only_line(written(tmp_path, content)).startswith(line)


@pytest.mark.parametrize("key", ["", " ", "\n", "\u202e"])
def test_a_key_that_does_not_show_is_quoted(key):
    raw = changed()
    raw["clip"][key] = 1
    (line,) = complaints(raw)
    assert line.startswith(f"params.yaml: clip.{key!r}: unknown key")


def test_what_does_not_print_is_escaped_where_the_file_is_quoted(tmp_path):
    found = only_line(written(tmp_path, "a: [\u202e é, }\n"))
    assert "\\u202e" in found
    assert "é" in found


def test_aliases_are_what_they_stand_for():
    assert load_yaml("a: &a [1, 2]\nb: {c: *a, d: *a}") == {
        "a": [1, 2],
        "b": {"c": [1, 2], "d": [1, 2]},
    }


def test_a_missing_file_and_a_folder_are_one_line(tmp_path):
    assert only_line(tmp_path / "params.yaml").startswith("not found; run from the folder")
    assert only_line(tmp_path).startswith("cannot be read: ")


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    load_params(written(tmp_path, b"\xef\xbb\xbf" + SHIPPED.read_bytes()))


# Whatever is done to params.yaml

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.integers(1, 64),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(0, 40), max_size=9),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


def places(section, path=()):
    for key, value in section.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


@given(
    edits=st.lists(
        st.tuples(
            st.sampled_from(list(places(RAW))), st.sampled_from(["set", "drop", "add"]), VALUES
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_values_are_valid_or_lines_for_the_user(edits):
    raw = copy.deepcopy(RAW)
    for (*path, last), how, value in edits:
        place = raw
        for key in path:
            place = place.get(key) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            continue
        if how == "drop":
            place.pop(last, None)
        else:
            place[last if how == "set" else f"{last}{value}"] = value
    for line in complaints(raw):
        assert line.startswith("params.yaml: ")
        assert line.isprintable()


@given(
    start=st.integers(0, 3000),
    length=st.integers(0, 12),
    instead=st.text("abc019.-_:#&*!|>'\"%@`{}[],? \n\t~\\é\x00\ufeff", max_size=6),
)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_text_is_valid_or_lines_for_the_user(tmp_path, start, length, instead):
    text = SHIPPED.read_text(encoding="utf-8")
    path = written(tmp_path, text[:start] + instead + text[start + length :])
    try:
        load_params(path)
        lines = []
    except UserError as error:
        lines = str(error).split("\n")
    assert all(line.startswith(f"{path}: ") for line in lines)


@pytest.mark.parametrize("recipe", [SHIPPED, REPO / "recipes" / "fashion_mnist_cpu.yaml"])
def test_pictures_of_64_pixels_need_what_docs_own_data_says(recipe):
    raw = load_yaml(recipe.read_text(encoding="utf-8"))
    raw["data"]["image_size"] = 64
    raw["decoder"]["attn_resolutions"] = [16]
    assert complaints(raw) == []
