import json
import math
import shutil

import numpy as np
import pytest
import torch
from systems import EMBED_MEAN, EMBED_STD, MEAN, SETTINGS, STD, change, random_system
from torch import nn

import unclip.painting.system
from unclip.config.errors import UserError
from unclip.core.artifacts import weights_hash
from unclip.diffusion.reverse import Solver
from unclip.diffusion.samplers import SAMPLERS, Step
from unclip.painting.loading import load_system

PROMPTS = ["a red circle", "a blue star", "a red circle", "é", "a b c d e f g h i j", "x", "y", "z"]
SEEDS = [3, 3, 4, 3, 5, 6, 7, 8]
SYSTEM = random_system()
READER = random_system(caption_depth=1)
FLOW = random_system(schedule="flow", prediction_type="flow")
STOCHASTIC = change(SETTINGS, prior__sampler="ddpm", decoder__sampler="ddim", decoder__eta=0.8)


def paint(system, prompts, seeds, settings=SETTINGS):
    """Pictures (N, C, H, W), each of a prompt and a seed of its own."""
    return system.decode(system.sample_prior(prompts, seeds, settings), prompts, seeds, settings)


def close(one, other) -> bool:
    """Whether uint8 pictures differ by no more than the last bit of float32 can do."""
    return np.abs(one.astype(int) - other.astype(int)).max() <= 1


@pytest.fixture
def calls():
    """The calls of both networks in order, as (who, timestep, rows)."""
    seen = []

    def note(who):
        return lambda module, inputs: seen.append((who, int(inputs[0][0]), len(inputs[0])))

    hooks = [
        SYSTEM.prior.timestep_in.register_forward_pre_hook(note("prior")),
        SYSTEM.decoder.conditioner.timestep_in.register_forward_pre_hook(note("decoder")),
    ]
    yield seen
    for hook in hooks:
        hook.remove()


# A picture depends on its prompt and its seed


@pytest.mark.parametrize("settings", [SETTINGS, STOCHASTIC], ids=["deterministic", "stochastic"])
@pytest.mark.parametrize(
    "system", [SYSTEM, READER, FLOW], ids=["embedding", "embedding and caption", "flow"]
)
def test_a_picture_is_the_same_in_batches_of_one_and_of_eight(system, settings):
    eight = paint(system, PROMPTS, SEEDS, change(settings, batch_size=8))
    one = paint(system, PROMPTS, SEEDS, change(settings, batch_size=1))
    three = paint(system, PROMPTS, SEEDS, change(settings, batch_size=3))
    assert close(one, eight)
    assert close(three, eight)


@pytest.mark.parametrize("settings", [SETTINGS, STOCHASTIC], ids=["deterministic", "stochastic"])
def test_a_picture_does_not_depend_on_its_neighbours(settings):
    among = paint(READER, PROMPTS, SEEDS, settings)
    for i, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True)):
        assert close(paint(READER, [prompt], [seed], settings)[0], among[i])


def test_every_picture_is_another():
    pictures = paint(SYSTEM, PROMPTS, SEEDS, SETTINGS)
    assert len({picture.tobytes() for picture in pictures}) == len(PROMPTS)


def test_prompt_and_seed_each_make_another_embedding():
    embeds = SYSTEM.sample_prior(
        ["a red circle", "a blue star", "a red circle"], [3, 3, 4], SETTINGS
    )
    assert len({tuple(row) for row in embeds.tolist()}) == 3


def test_painting_twice_gives_the_same_bits_whatever_was_drawn_between():
    first = paint(SYSTEM, PROMPTS, SEEDS, STOCHASTIC)
    torch.manual_seed(99)
    assert np.array_equal(paint(SYSTEM, PROMPTS, SEEDS, STOCHASTIC), first)


def test_painting_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    paint(SYSTEM, PROMPTS[:2], SEEDS[:2], STOCHASTIC)
    assert torch.equal(torch.random.get_rng_state(), before)


# The prior


@pytest.mark.parametrize("steps", [1, 5, 20])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", ["uniform", "karras"])
def test_the_prior_is_sampled_by_a_full_reverse_diffusion(calls, spacing, sampler, steps):
    settings = change(SETTINGS, prior=Solver(sampler, steps, 0.0, 2.0, spacing))
    SYSTEM.sample_prior(PROMPTS, SEEDS, settings)
    timesteps = [t for who, t, _ in calls if who == "prior"]
    assert len(timesteps) == steps
    assert timesteps[0] == 19
    assert timesteps == sorted(set(timesteps), reverse=True)
    assert timesteps[-1] < 20 / steps  # and it ends in the last stretch before clean data


def test_the_prior_is_drawn_once_and_never_while_the_decoder_paints(calls):
    paint(SYSTEM, PROMPTS, SEEDS, change(SETTINGS, batch_size=4, decoder__steps=7))
    order = [who for who, _, _ in calls]
    assert order == ["prior"] * (2 * SETTINGS.prior.steps) + ["decoder"] * (2 * 7)


def test_the_decoder_is_given_the_same_embeddings_at_every_step():
    given = []
    hook = SYSTEM.decoder.register_forward_pre_hook(
        lambda module, inputs, options: given.append(options["image_embeds"].clone()),
        with_kwargs=True,
    )
    paint(SYSTEM, PROMPTS[:2], SEEDS[:2], SETTINGS)
    hook.remove()
    assert all(torch.equal(embeds, given[0]) for embeds in given)


def test_embeddings_have_unit_norm_and_their_own_order():
    embeds = SYSTEM.sample_prior(PROMPTS, SEEDS, SETTINGS)
    assert torch.allclose(embeds.norm(dim=1), torch.ones(len(PROMPTS)), atol=1e-5)
    alone = SYSTEM.sample_prior(PROMPTS[3:4], SEEDS[3:4], SETTINGS)
    assert torch.allclose(alone[0], embeds[3], atol=1e-5)


def naive_winner(drawn, text_embed):
    """The candidate with the highest dot product, standardisation undone and norm made 1."""
    best, best_score = None, -math.inf
    for candidate in drawn.tolist():
        raw = [x * s + m for x, s, m in zip(candidate, EMBED_STD, EMBED_MEAN, strict=True)]
        norm = math.sqrt(sum(x * x for x in raw))
        unit = [x / norm for x in raw]
        score = sum(x * y for x, y in zip(unit, text_embed.tolist(), strict=True))
        if score > best_score:
            best, best_score = unit, score
    return best


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_candidate_nearest_its_caption_wins_unstandardised_and_of_unit_norm(monkeypatch, count):
    drawn = torch.randn(len(PROMPTS) * count, 6, generator=torch.Generator().manual_seed(1))
    steps = [Step(0, drawn, drawn)]
    monkeypatch.setattr(unclip.painting.system, "reverse_diffusion", lambda *_, **__: steps)
    settings = change(SETTINGS, prior_candidates=count)
    embeds = SYSTEM.sample_prior(PROMPTS, SEEDS, settings)
    texts, index = SYSTEM.read(PROMPTS)
    for i, candidates in enumerate(drawn.view(len(PROMPTS), count, 6)):
        expected = naive_winner(candidates, texts.embeds[index[i]])
        assert embeds[i].tolist() == pytest.approx(expected, abs=1e-5)


def test_more_candidates_never_move_away_from_the_caption():
    def scores(count):
        embeds = SYSTEM.sample_prior(PROMPTS, SEEDS, change(SETTINGS, prior_candidates=count))
        texts, index = SYSTEM.read(PROMPTS)
        return (embeds * texts.embeds[index]).sum(dim=1)

    one, two, four = scores(1), scores(2), scores(4)
    assert (two >= one - 1e-5).all()
    assert (four >= two - 1e-5).all()
    assert (four > one + 1e-3).any()


# The decoder


def test_the_decoder_paints_by_a_full_reverse_diffusion(calls):
    paint(SYSTEM, PROMPTS, SEEDS, change(SETTINGS, decoder__steps=20))
    assert [t for who, t, _ in calls if who == "decoder"] == list(range(19, -1, -1))


@pytest.mark.parametrize("who", ["prior", "decoder"])
def test_guidance_one_asks_for_the_condition_alone(calls, who):
    paint(SYSTEM, PROMPTS, SEEDS, change(SETTINGS, **{f"{who}__guidance": 1.0}))
    rows = {"prior": 2 * len(PROMPTS), "decoder": len(PROMPTS)}
    assert {n for name, _, n in calls if name == who} == {rows[who]}
    (other,) = set(rows) - {who}
    assert {n for name, _, n in calls if name == other} == {2 * rows[other]}


@pytest.mark.parametrize("who", ["prior", "decoder"])
def test_guidance_changes_the_picture(who):
    pictures = [
        paint(SYSTEM, PROMPTS[:1], SEEDS[:1], change(SETTINGS, **{f"{who}__guidance": scale}))
        for scale in (1.0, 3.0)
    ]
    assert not close(*pictures)


def painted_from(monkeypatch, value):
    """What is painted by a decoder that says x_start is `value` everywhere, and its steps."""
    system = random_system(prediction_type="x_start")
    monkeypatch.setattr(
        system.decoder, "forward", lambda x_t, *_, **__: torch.full_like(x_t, value)
    )
    how = (torch.eye(6)[:2], PROMPTS[:2], SEEDS[:2], SETTINGS)
    return system.decode(*how), list(system.denoise(*how))


def test_a_prediction_above_one_is_painted_as_bright_as_it_is(monkeypatch):
    pictures, _ = painted_from(monkeypatch, 2.05)
    for channel in range(3):
        expected = round(min(255, (2.05 * STD[channel] + MEAN[channel]) * 255))
        assert set(pictures[:, channel].ravel().tolist()) == {expected}


@pytest.mark.parametrize(("value", "level"), [(50.0, 255), (-50.0, 0)])
def test_a_prediction_beyond_all_pixels_is_clipped_to_them(monkeypatch, value, level):
    pictures, steps = painted_from(monkeypatch, value)
    assert set(pictures.ravel().tolist()) == {level}
    for channel in range(3):
        end = (level / 255 - MEAN[channel]) / STD[channel]
        for step in steps:
            assert torch.allclose(step.pred_x_start[:, channel], torch.tensor(end), atol=1e-5)


def test_x_t_itself_is_not_clamped(monkeypatch):
    _, steps = painted_from(monkeypatch, 2.6)
    lowest = min((0 - m) / s for m, s in zip(MEAN, STD, strict=True))
    assert steps[0].x_t.min() < lowest
    assert steps[1].x_t.max() > 2.6  # noise on top of the brightest pixels


def test_a_decoder_with_a_caption_encoder_heeds_the_caption():
    embeds = torch.eye(6)[:1]
    pictures = [READER.decode(embeds, [prompt], [0], SETTINGS) for prompt in ("a red circle", "é")]
    assert not close(*pictures)


def test_a_decoder_without_one_heeds_the_embedding_alone():
    embeds = torch.eye(6)[:2]
    one, other = (SYSTEM.decode(embeds[:1], [p], [0], SETTINGS) for p in ("a red circle", "é"))
    assert np.array_equal(one, other)
    assert not close(one, SYSTEM.decode(embeds[1:], ["é"], [0], SETTINGS))


def test_pictures_stand_in_a_row_for_each_prompt_and_a_column_for_each_seed():
    pictures = SYSTEM.paint(PROMPTS[:2], [3, 4, 5], SETTINGS)
    assert (pictures.dtype, pictures.shape) == (np.uint8, (2, 3, 3, 8, 8))
    for row, prompt in zip(pictures, PROMPTS, strict=False):
        for picture, seed in zip(row, (3, 4, 5), strict=True):
            assert close(paint(SYSTEM, [prompt], [seed])[0], picture)


def test_progress_counts_every_picture_once():
    done = []
    SYSTEM.paint(PROMPTS[:2], range(4), change(SETTINGS, batch_size=3), done.append)
    assert done == [3, 3, 2]


# What is read


def test_equal_prompts_are_encoded_once():
    seen = []
    hook = SYSTEM.clip.text.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    _, index = SYSTEM.read(PROMPTS)
    hook.remove()
    assert [len(tokens) for tokens in seen] == [7]
    assert index.tolist() == [0, 1, 0, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("x" * 31, "is 31 bytes; expected at most 30"),
        ("a \x02 b", "control character 2"),
        ("\ud800", "surrogate"),
    ],
)
def test_a_prompt_that_can_not_be_read_is_named(prompt, message):
    with pytest.raises(UserError, match=message):
        SYSTEM.paint(["a red circle", prompt], [0], SETTINGS)


def test_networks_of_before_that_know_only_words_tell_of_unknown_ones():
    (line,) = SYSTEM.warnings(["A red, BLUE circle!", "a circle red", *SYSTEM.prompts])
    assert "no caption has blue)" in line
    assert "'a red circle'" in line


def test_captions_that_training_never_showed_are_told_with_the_nearest(described):
    models, change_description = described
    hearts = [f"{colour} heart" for colour in ("blue", "green")]
    captions = ["red flag", *hearts, "yellow face", "ship"]
    change_description("clip", "facts", "captions", captions)
    change_description(
        "clip",
        "facts",
        "words",
        ["red", "flag", "blue", "green", "heart", "yellow", "face", "ship"],
    )
    system = load_system(models)
    assert system.warnings([*captions, "Blue  HEART.", *system.prompts, "too long " * 9]) == []
    (line,) = system.warnings(["yellow heart"] * 2)
    assert line.startswith("never trained: 'yellow heart'; ")
    assert "flag" not in line
    assert "ship" not in line
    assert set(system.known.nearest("blue hart")[:2]) >= {"blue heart"}
    assert system.known.labels(["ship", "heart ship"]) == ["ship", "heart ship (never trained)"]


# The system as a whole


def test_networks_are_in_eval_mode_and_no_parent_can_put_them_into_train_mode():
    assert not isinstance(SYSTEM, nn.Module)
    paint(SYSTEM, PROMPTS[:1], SEEDS[:1], SETTINGS)
    networks = (SYSTEM.clip, SYSTEM.prior, SYSTEM.decoder)
    assert not any(module.training for network in networks for module in network.modules())
    assert not any(p.requires_grad for network in networks for p in network.parameters())


@pytest.mark.parametrize(
    ("change_", "key"),
    [({"prior__steps": 21}, "sample.prior_steps"), ({"decoder__steps": 21}, "sample.steps")],
)
def test_more_steps_than_the_weights_have_timesteps_is_a_line_for_the_user(change_, key):
    with pytest.raises(UserError, match=f"^{key}: 21 is more than the 20 timesteps"):
        paint(SYSTEM, PROMPTS[:1], SEEDS[:1], change(SETTINGS, **change_))


def test_a_loaded_system_has_the_hashes_of_its_files(trained):
    system = load_system(trained.layout.models)
    for kind in ("clip", "prior", "decoder"):
        assert system.hashes[kind] == weights_hash(trained.layout.model(kind))


def test_without_its_prior_a_system_paints_embeddings(trained):
    whole, part = (
        load_system(trained.layout.models, kinds=kinds)
        for kinds in (("clip", "prior", "decoder"), ("clip", "decoder"))
    )
    how = (torch.eye(8)[:2], None, [3, 4], SETTINGS)
    assert part.prior is None
    assert np.array_equal(part.decode(*how), whole.decode(*how))


@pytest.fixture
def described(trained, tmp_path):
    """A copy of trained networks, and a function that changes the description of one."""
    models = shutil.copytree(trained.layout.models, tmp_path / "models")

    def change_description(kind, section, key, value=None):
        path = models / kind / "model.json"
        content = json.loads(path.read_text())
        del content[section][key]
        content[section] |= {} if value is None else {key: value}
        path.write_text(json.dumps(content))

    return models, change_description


def test_networks_of_different_clips_are_refused(described):
    models, change_description = described
    change_description("prior", "inputs", "clip", "0" * 64)
    with pytest.raises(UserError, match=r"prior: was trained with another CLIP.*`dvc repro`"):
        load_system(models)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        *(("clip", "words"), ("clip", "prompts"), ("prior", "embed_std"), ("prior", "diffusion")),
        *(("decoder", "mean"), ("decoder", "diffusion")),
    ],
)
def test_a_fact_that_is_missing_is_a_line_that_names_its_network(described, kind, key):
    models, change_description = described
    change_description(kind, "facts", key)
    with pytest.raises(UserError) as caught:
        load_system(models)
    assert str(caught.value).startswith(f"{models / kind}: is damaged")
    assert f"'{key}'" in str(caught.value)
    assert f"train_{kind}`" in str(caught.value)
