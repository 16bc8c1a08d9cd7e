"""Any saved picture is painted again from the note in its file, to the last bit."""

import base64
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from systems import SETTINGS, random_unclip

from unclip.config.errors import UserError
from unclip.painting.notes import (
    join_prompts,
    latent_note,
    picture_notes,
    repaint,
    settings_note,
    split_prompts,
)
from unclip.painting.settings import Latent
from unclip.pictures.png import read_png_text

PLAIN = random_unclip()
READER = random_unclip(caption_depth=1)
SYSTEM = PLAIN.system
PICTURE = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
ODD = [
    "a red\ncircle",
    "back\\slash",
    "\\n",
    "\\",
    "a\\\\\nb",
    "é 漢字",
    "a red circle",
    "a red\ncircle",
]
FAST = {"steps": 3, "prior_steps": 2, "guidance": 1.5, "precision": "fp32"}
STOCHASTIC = {"prior_sampler": "ddpm", "sampler": "ddim", "eta": 0.8}
LATENT = Latent(torch.eye(6)[1], 2**63 - 1, torch.arange(192.0).view(3, 8, 8))
EDITED = ("a red circle", "a blue star")
VERBS = {
    "vary": lambda unclip: unclip.vary(PICTURE, num=2, seed=2**62, **FAST),
    "vary inverted": lambda unclip: unclip.vary(PICTURE, num=2, invert=True, **FAST),
    "interpolate": lambda unclip: unclip.interpolate(PICTURE, "é", 3, noise="slerp", **FAST),
    "edit inverted": lambda unclip: unclip.edit(PICTURE, *EDITED, 3, invert=True, **FAST),
    "trajectory": lambda unclip: unclip.trajectory(ODD, steps=4, prior_steps=2).painted,
}
for_each_decoder = pytest.mark.parametrize(
    "unclip", [PLAIN, READER], ids=["embedding", "embedding and caption"]
)


def comes_again(unclip, painted, folder):
    """Whether each picture is in its file as it is, and is painted again from what that carries."""
    painted.save(folder)
    for (picture, _), path in zip(painted, sorted(folder.iterdir()), strict=True):
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image).transpose(2, 0, 1), picture)
        if not np.array_equal(repaint(unclip.system, read_png_text(path)), picture):
            return False
    return True


def sampled(**options):
    """The first of four pictures, with its note."""
    return next(iter(PLAIN.sample(["a red circle", "x"], num=2, seed=3, **FAST | options)))


# Every verb


@pytest.mark.parametrize("options", [{}, STOCHASTIC], ids=["deterministic", "stochastic"])
@for_each_decoder
@pytest.mark.parametrize("batch_size", [1, 5, 200])
def test_every_picture_of_prompts_comes_again(unclip, options, batch_size, tmp_path):
    painted = unclip.sample(ODD, num=2, seed=7, batch_size=batch_size, **FAST | options)
    assert comes_again(unclip, painted, tmp_path)


@for_each_decoder
@pytest.mark.parametrize("verb", VERBS)
def test_every_picture_of_a_latent_comes_again(unclip, verb, tmp_path):
    assert comes_again(unclip, VERBS[verb](unclip), tmp_path)


def test_a_picture_painted_in_half_precision_comes_again(tmp_path):
    painted = PLAIN.sample("a red circle", num=1, **FAST | {"precision": "bf16"})
    assert comes_again(PLAIN, painted, tmp_path)
    ((picture, note),) = painted
    assert not np.array_equal(repaint(SYSTEM, note | {"precision": "fp32"}), picture)


def test_a_note_decides_and_not_what_surrounds_it():
    picture, note = sampled()
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(repaint(SYSTEM, note), picture)


# What a note says


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("index", "1"), ("seeds", "7 9"), ("decoder.steps", "4"), ("decoder.guidance", "1.0")),
        *(("prior.steps", "3"), ("prior.candidates", "64"), ("prior.guidance", "5.0")),
        *(("decoder.sampler", "ddim"), ("prior.sampler", "ddpm"), ("prompts", "é\nx")),
        *(("decoder.spacing", "karras"), ("prior.spacing", "karras")),
    ],
)
def test_every_word_of_a_note_counts(key, value):
    picture, note = sampled()
    assert not np.array_equal(repaint(SYSTEM, note | {key: value}), picture)


def test_a_note_names_every_setting_and_every_checkpoint():
    decoder = {
        **{"decoder.sampler": "dpmpp_2m", "decoder.steps": "4", "decoder.eta": "0.0"},
        **{"decoder.guidance": "1.5", "decoder.spacing": "uniform", "precision": "fp32"},
        **{f"checkpoint.{kind}": kind * 2 for kind in ("clip", "prior", "decoder")},
    }
    assert settings_note(SYSTEM, SETTINGS) == decoder | {
        **{"prior.sampler": "ddim", "prior.steps": "5", "prior.eta": "0.0"},
        **{"prior.guidance": "2.0", "prior.spacing": "uniform", "prior.candidates": "2"},
    }
    note = latent_note(SYSTEM, LATENT, SETTINGS)
    for key, numbers in (("image_embed", LATENT.image_embed), ("x_T", LATENT.x_T)):
        packed = base64.b64decode(note.pop(key))
        assert struct.unpack(f"<{numbers.numel()}f", packed) == tuple(numbers.flatten().tolist())
    assert note == decoder | {"seed": str(2**63 - 1)}


def test_a_note_from_before_spacing_was_noted_means_uniform():
    picture, note = sampled(spacing="karras")
    assert (note.pop("decoder.spacing"), note.pop("prior.spacing")) == ("karras", "uniform")
    assert not np.array_equal(repaint(SYSTEM, note), picture)
    assert np.array_equal(repaint(SYSTEM, note | {"decoder.spacing": "karras"}), picture)
    assert np.array_equal(repaint(SYSTEM, note), sampled()[0])


def test_pictures_of_a_call_are_numbered_prompt_by_prompt():
    notes = picture_notes({"precision": "fp32"}, ["a", "b"], [7, 8])
    found = [(note["index"], note["prompt"], note["seed"]) for note in notes]
    assert found == [("0", "a", "7"), ("1", "a", "8"), ("2", "b", "7"), ("3", "b", "8")]
    assert {note["precision"] for note in notes} == {"fp32"}


@pytest.mark.parametrize("prompts", [[""], ["\n"], ["a", ""], ODD])
def test_prompts_are_joined_and_split(prompts):
    assert split_prompts(join_prompts(prompts)) == prompts


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab\\n\n 漢"), min_size=1))
def test_any_prompts_are_joined_and_split(prompts):
    assert split_prompts(join_prompts(prompts)) == prompts


def test_ordinary_prompts_are_a_line_each():
    assert join_prompts(["a red circle", "a blue star"]) == "a red circle\na blue star"


# What cannot be painted again


@pytest.mark.parametrize("text", [{}, {"prompts": "a", "seeds": "1"}, {"Software": "another"}])
def test_what_is_no_single_picture_is_told(text):
    with pytest.raises(UserError, match="carries no note that says how to paint it again"):
        repaint(SYSTEM, text)


@pytest.mark.parametrize("kind", ["clip", "prior", "decoder"])
def test_a_picture_of_other_checkpoints_is_refused(kind):
    _, note = sampled()
    for other in (note | {f"checkpoint.{kind}": "f" * 64}, dict(note)):
        if other == note:
            del other[f"checkpoint.{kind}"]
        with pytest.raises(UserError, match=rf"^checkpoint\.{kind}: the picture was painted by"):
            repaint(SYSTEM, other)


def test_a_latent_hangs_on_its_decoder_alone():
    note = latent_note(SYSTEM, LATENT, SETTINGS)
    repaint(SYSTEM, note | {"checkpoint.prior": "another", "checkpoint.clip": "another"})
    with pytest.raises(UserError, match=r"^checkpoint\.decoder: "):
        repaint(SYSTEM, note | {"checkpoint.decoder": "another"})


DAMAGE = {
    "decoder.steps": [None, "2.5"],
    "decoder.guidance": [None, "much"],
    "decoder.sampler": [None, "euler"],
    "decoder.spacing": ["x"],
    "precision": [None, "fp16"],
}
CALL_DAMAGE = {
    "index": ["-1", "4", "x"],
    "seeds": [None, "", "x"],
    "prompts": [None, ""],
    "prior.candidates": [None],
}
LATENT_DAMAGE = {"seed": [None], "image_embed": ["x", "AAAA"], "x_T": ["AAAA", "!" * 256]}


def every_damage():
    call, latent = sampled()[1], latent_note(SYSTEM, LATENT, SETTINGS)
    for note, damage in ((call, DAMAGE | CALL_DAMAGE), (latent, DAMAGE | LATENT_DAMAGE)):
        for key, values in damage.items():
            for value in values:
                others = {k: v for k, v in note.items() if k != key}
                other = others | ({} if value is None else {key: value})
                yield pytest.param(other, id=f"{key}={value!r}"[:40])


@pytest.mark.parametrize("note", list(every_damage()))
def test_a_damaged_note_is_one_line(note):
    with pytest.raises(UserError) as caught:
        repaint(SYSTEM, note)
    assert str(caught.value).isprintable()
