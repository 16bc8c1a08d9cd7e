"""Any saved picture is painted again from the note in its file, to the last bit."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from systems import SETTINGS, change, random_system
from unclip.painting.painter import Latent

from unclip.config.errors import UserError
from unclip.diffusion.reverse import Solver
from unclip.painting.latents import interpolated, latent_of, varied
from unclip.painting.notes import (
    call_note,
    evenly,
    join_prompts,
    latent_note,
    paint_rows,
    provenance,
    repaint,
    split_prompts,
)
from unclip.pictures.png import read_png_text, save_png

SYSTEM = random_system()
READER = random_system(caption_depth=1)
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
STOCHASTIC = change(SETTINGS, prior__sampler="ddpm", decoder__sampler="ddim", decoder__eta=0.8)


def through_a_file(note, tmp_path):
    save_png(Image.new("L", (2, 2)), tmp_path / "a.png", note)
    return read_png_text(tmp_path / "a.png")


def call(system, prompts, seeds, settings, precision="fp32"):
    """The pictures of a call of `paint_rows` and the note of each."""
    device = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with device:
        rows = paint_rows(system, prompts, seeds, settings)
    shared = provenance(system, settings, precision)
    shared |= call_note(prompts, seeds, settings.batch_size)
    pictures = rows.reshape(-1, *rows.shape[2:])
    return [(picture, shared | {"index": str(i)}) for i, picture in enumerate(pictures)]


def some_latents():
    embed = torch.randn(6, generator=torch.Generator().manual_seed(1))
    start = Latent(embed / embed.norm(), 3)
    picture = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    end = latent_of(SYSTEM, picture, 2**63 - 1, Solver("ddim", 5, 0.0, 1.0))
    between = interpolated(SYSTEM, start, end, 3, slerp_noise=True)
    return {"embedding": start, "inverted": varied(end, 1)[0], "slerp": between[1]}


# Pictures of prompts


@pytest.mark.parametrize("settings", [SETTINGS, STOCHASTIC], ids=["deterministic", "stochastic"])
@pytest.mark.parametrize("system", [SYSTEM, READER], ids=["embedding", "embedding and caption"])
@pytest.mark.parametrize("batch_size", [1, 5, 200])
def test_every_picture_of_a_call_comes_again(system, settings, batch_size, tmp_path):
    settings = change(settings, batch_size=batch_size)
    for picture, note in call(system, ODD[-3:], [7, 8], settings):
        assert np.array_equal(repaint(system, through_a_file(note, tmp_path)), picture)


def test_a_picture_painted_in_half_precision_comes_again(tmp_path):
    ((picture, note), *_) = call(SYSTEM, ["a red circle"], [3], SETTINGS, "bf16")
    assert np.array_equal(repaint(SYSTEM, through_a_file(note, tmp_path)), picture)
    assert not np.array_equal(repaint(SYSTEM, note | {"precision": "fp32"}), picture)


def test_a_note_decides_and_not_what_surrounds_it():
    ((picture, note), *_) = call(SYSTEM, ["a red circle"], [3], SETTINGS)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(repaint(SYSTEM, note), picture)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("index", "1"), ("seeds", "7 9"), ("decoder.steps", "3"), ("decoder.guidance", "1.0")),
        *(("prior.steps", "3"), ("prior.candidates", "64"), ("prior.guidance", "5.0")),
        *(("decoder.sampler", "ddim"), ("prior.sampler", "dpmpp_2m"), ("prompts", "é\nx")),
    ],
)
def test_every_word_of_a_note_counts(key, value):
    picture, note = call(SYSTEM, ["a red circle", "x"], [8, 7], SETTINGS)[0]
    assert not np.array_equal(repaint(SYSTEM, note | {key: value}), picture)


@pytest.mark.parametrize("prompts", [[""], ["\n"], ["a", ""], ODD])
def test_prompts_are_joined_and_split(prompts):
    assert split_prompts(join_prompts(prompts)) == prompts


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab\\n\n 漢"), min_size=1))
def test_any_prompts_are_joined_and_split(prompts):
    assert split_prompts(join_prompts(prompts)) == prompts


def test_ordinary_prompts_are_a_line_each():
    assert join_prompts(["a red circle", "a blue star"]) == "a red circle\na blue star"


# Pictures of latents


@pytest.mark.parametrize("kind", ["embedding", "inverted", "slerp"])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_a_latent_comes_again(kind, eta, tmp_path):
    latent, solver = some_latents()[kind], Solver("ddim", 5, eta, 1.5)
    note = latent_note(SYSTEM, latent, solver, "fp32")
    picture = SYSTEM.paint_latent(latent, solver)
    assert np.array_equal(repaint(SYSTEM, through_a_file(note, tmp_path)), picture)


def test_a_latent_of_a_decoder_that_reads_captions_comes_again(tmp_path):
    latent = some_latents()["slerp"]
    note = latent_note(READER, latent, SETTINGS.decoder, "fp32")
    picture = READER.paint_latent(latent, SETTINGS.decoder)
    assert np.array_equal(repaint(READER, through_a_file(note, tmp_path)), picture)


def test_the_note_of_a_latent_has_its_numbers_and_no_more_than_paints_it():
    import base64
    import struct

    latent = some_latents()["inverted"]
    note = latent_note(SYSTEM, latent, SETTINGS.decoder, "fp32")
    for key, numbers in (("image_embed", latent.image_embed), ("x_T", latent.x_T)):
        packed = base64.b64decode(note.pop(key))
        assert struct.unpack(f"<{numbers.numel()}f", packed) == tuple(numbers.flatten().tolist())
    assert note == {
        **{"decoder.sampler": "dpmpp_2m", "decoder.steps": "4", "decoder.eta": "0.0"},
        **{"decoder.guidance": "1.5", "precision": "fp32", "seed": str(2**63 - 1)},
        **{f"checkpoint.{kind}": kind * 2 for kind in ("clip", "prior", "decoder")},
    }


# What can not be painted again


@pytest.mark.parametrize("text", [{}, {"prompts": "a", "seeds": "1"}, {"Software": "another"}])
def test_what_is_no_single_picture_is_told(text):
    with pytest.raises(UserError, match="carries no note that says how to paint it again"):
        repaint(SYSTEM, text)


@pytest.mark.parametrize("kind", ["clip", "prior", "decoder"])
def test_a_picture_of_other_checkpoints_is_refused(kind):
    ((_, note), *_) = call(SYSTEM, ["a red circle"], [3], SETTINGS)
    for named in ("f" * 64, None):
        other = {key: value for key, value in note.items() if key != f"checkpoint.{kind}"}
        other |= {f"checkpoint.{kind}": named} if named else {}
        with pytest.raises(UserError, match=rf"^checkpoint\.{kind}: the picture was painted by"):
            repaint(SYSTEM, other)


def test_a_latent_hangs_on_its_decoder_alone():
    latent = some_latents()["embedding"]
    note = latent_note(SYSTEM, latent, SETTINGS.decoder, "fp32")
    repaint(SYSTEM, note | {"checkpoint.prior": "another", "checkpoint.clip": "another"})
    with pytest.raises(UserError, match=r"^checkpoint\.decoder: "):
        repaint(SYSTEM, note | {"checkpoint.decoder": "another"})


DAMAGE = {
    "decoder.steps": [None, "", "0", "-1", "2.5", "nan", "1e400", "9" * 5000, "x\ny"],
    "decoder.guidance": [None, "inf", "-1", "1000", "[]"],
    "decoder.eta": [None, "2", "x"],
    "decoder.sampler": [None, "euler", ""],
    "decoder.what": ["1"],
    "precision": [None, "fp16", "auto"],
}
CALL_DAMAGE = {
    "index": ["-1", "2", "1.0", "x", "9" * 30],
    "seeds": [None, "", "x", "-1", "1.5", "9" * 30, "9" * 5000],
    "prompts": [None, "", "\x02"],
    "batch_size": [None, "0", "-3", "many"],
    "prior.candidates": [None, "0", "1000000000000"],
    "prior.steps": ["21", "0"],
}
LATENT_DAMAGE = {
    "seed": [None, "-1", str(2**63), "x"],
    "image_embed": ["", "x", "AAAA", "é", "AACAfwAAgH8AAIB/AACAfwAAgH8AAIB/"],
    "x_T": ["", "AAAA", "!" * 256],
}


def damaged(note, damage):
    for key, values in damage.items():
        for value in values:
            other = {k: v for k, v in note.items() if k != key}
            yield pytest.param(
                other | ({} if value is None else {key: value}), id=f"{key}={value!r}"[:40]
            )


def every_damage():
    ((_, note), *_) = call(SYSTEM, ["a red circle"], [3, 4], SETTINGS)
    yield from damaged(note, DAMAGE | CALL_DAMAGE)
    note = latent_note(SYSTEM, some_latents()["inverted"], SETTINGS.decoder, "fp32")
    yield from damaged(note, DAMAGE | LATENT_DAMAGE)


@pytest.mark.parametrize("note", list(every_damage()))
def test_a_damaged_note_is_one_line(note):
    with pytest.raises(UserError) as caught:
        repaint(SYSTEM, note)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


# What is shown of many


@pytest.mark.parametrize("most", [2, 3, 9, 10])
def test_of_many_at_most_so_many_are_chosen_evenly_with_both_ends(most):
    for count in range(1, 60):
        chosen = evenly(count, most)
        assert len(chosen) == min(count, most)
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        steps = {after - before for before, after in itertools.pairwise(chosen)}
        assert not steps or (min(steps) >= 1 and max(steps) - min(steps) <= 1)
