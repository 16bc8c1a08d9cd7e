import itertools
import math

import numpy as np
import pytest
import torch
from systems import SETTINGS, change, random_system
from torch.testing import assert_close

from unclip.config.errors import UserError
from unclip.diffusion.reverse import Solver
from unclip.painting.latents import (
    edited,
    evenly,
    interpolated,
    latent_of,
    latent_of_prompt,
    paint_each,
    paint_moments,
    shares,
    slerp,
    varied,
)
from unclip.painting.settings import Latent

SYSTEM = random_system()
READER = random_system(caption_depth=1)
DDIM = change(SETTINGS, decoder=Solver("ddim", 20, 0.0, 1.0))
PICTURE = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)


def unit(*numbers):
    vector = torch.tensor(numbers, dtype=torch.float32)
    return vector / vector.norm()


def latent(seed=0, x_T=None):
    embed = torch.randn(6, generator=torch.Generator().manual_seed(100 + seed))
    return Latent(embed / embed.norm(), seed, x_T)


# slerp


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("degrees", [1.0, 60.0, 90.0, 170.0])
def test_slerp_turns_by_its_share_of_the_angle(degrees, share):
    def at(angle):
        return torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle)), 0.0])

    assert_close(slerp(at(20.0), at(20.0 + degrees), share), at(20.0 + share * degrees))


def test_slerp_of_unit_vectors_has_unit_norm_and_a_straight_line_has_not():
    start, end = unit(1, 2, 3, -4), unit(-1, 0, 2, 5)
    assert float(slerp(start, end, 0.4).norm()) == pytest.approx(1, abs=1e-6)
    assert float((0.6 * start + 0.4 * end).norm()) < 0.9


def test_slerp_of_noise_is_as_loud_as_noise():
    draws = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 3, 64, 64, generator=draws)
    for share in (0.25, 0.5, 0.75):
        between = slerp(start, end, share)
        assert between.shape == (3, 64, 64)
        assert float(between.std()) == pytest.approx(1, abs=0.02)


def test_slerp_ends_exactly_at_its_ends():
    start, end = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(slerp(start, end, 0), start)
    assert torch.equal(slerp(start, end, 1), end)


@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_between_parallel_vectors_is_a_straight_line(sign):
    start = unit(1, 2, 3)
    assert_close(slerp(start, sign * start, 0.25), 0.75 * start + 0.25 * sign * start)


# Latents of pictures


def test_a_picture_and_what_is_painted_from_its_own_noise_are_the_same():
    (painted,) = paint_each(SYSTEM, [latent()], DDIM)
    inverted = latent_of(SYSTEM, painted, 5, DDIM)
    # Its embedding is the picture's, not the one that it was painted from: another way there.
    (again,) = paint_each(SYSTEM, [inverted], DDIM)
    assert np.abs(again.astype(int) - painted).mean() < 5
    (other,) = paint_each(SYSTEM, [latent_of(SYSTEM, painted, 5)], DDIM)
    assert np.abs(other.astype(int) - painted).mean() > 20


def test_a_latent_has_the_embedding_of_its_picture():
    found = latent_of(SYSTEM, PICTURE, 7)
    normalised = SYSTEM.normalisation.normalise(torch.from_numpy(PICTURE[None]))
    expected = SYSTEM.clip.encode_image(normalised)[0]
    assert_close(found.image_embed, expected)
    assert (found.seed, found.x_T) == (7, None)


def test_a_prompts_latent_is_what_the_prior_draws():
    found = latent_of_prompt(SYSTEM, "a red circle", 3, SETTINGS)
    assert torch.equal(found.image_embed, SYSTEM.sample_prior(["a red circle"], [3], SETTINGS)[0])


# vary


def test_variations_show_the_same_and_each_has_a_noise_of_its_own():
    latents = varied(latent(4), 3)
    assert [each.seed for each in latents] == [4, 5, 6]
    assert all(torch.equal(each.image_embed, latents[0].image_embed) for each in latents)
    pictures = paint_each(SYSTEM, latents, SETTINGS)
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_variations_of_one_noise_leave_it_only_as_far_as_eta_says():
    (painted,) = paint_each(SYSTEM, [latent()], DDIM)
    latents = varied(latent_of(SYSTEM, painted, 0, DDIM), 4)
    distances = [
        np.abs(paint_each(SYSTEM, latents, change(DDIM, decoder__eta=eta)) - painted.astype(int))
        for eta in (0.0, 0.2, 1.0)
    ]
    assert [d.mean() for d in distances] == sorted(d.mean() for d in distances)
    assert distances[0].mean() < 5 < distances[1].mean()


# interpolate


def test_the_way_begins_and_ends_at_its_ends():
    start, end = latent(0), latent(1)
    latents = interpolated(SYSTEM, start, end, 5, slerp_noise=False)
    assert len(latents) == 5
    assert torch.equal(latents[0].image_embed, start.image_embed)
    assert torch.equal(latents[-1].image_embed, end.image_embed)
    for each, share in zip(latents, (0, 0.25, 0.5, 0.75, 1), strict=True):
        assert torch.equal(each.image_embed, slerp(start.image_embed, end.image_embed, share))


def test_fixed_noise_is_that_of_the_first():
    x_T = torch.randn(3, 8, 8)
    for first in (latent(2), latent(2, x_T)):
        latents = interpolated(SYSTEM, first, latent(1), 3, slerp_noise=False)
        assert all(each.seed == 2 and each.x_T is first.x_T for each in latents)


def test_noise_that_goes_along_goes_from_the_noise_of_one_to_that_of_the_other():
    x_T = torch.randn(3, 8, 8)
    latents = interpolated(SYSTEM, latent(2), latent(1, x_T), 3, slerp_noise=True)
    assert torch.equal(latents[0].x_T, SYSTEM.first_noise(2))
    assert torch.equal(latents[1].x_T, slerp(SYSTEM.first_noise(2), x_T, 0.5))
    assert torch.equal(latents[2].x_T, x_T)
    one, other = paint_each(SYSTEM, [latents[0], latent(2)], SETTINGS)
    assert np.array_equal(one, other)


# edit


def naive_edit(embed, before, after, strength):
    """Adds a difference and returns to unit length, in plain Python."""
    moved = [x + strength * (b - a) for x, a, b in zip(embed, before, after, strict=True)]
    length = math.sqrt(sum(x * x for x in moved))
    return [x / length for x in moved]


def test_an_edit_adds_what_the_prior_sees_between_its_captions():
    first = latent()
    captions = ["a red circle", "a blue star"]
    latents = edited(SYSTEM, first, *captions, 0.6, 4, SETTINGS)
    before, after = (
        np.mean([SYSTEM.sample_prior([c], [i], SETTINGS)[0].numpy() for i in range(32)], axis=0)
        for c in captions
    )
    assert torch.equal(latents[0].image_embed, first.image_embed)
    for each, strength in zip(latents, (0, 0.2, 0.4, 0.6), strict=True):
        expected = naive_edit(first.image_embed.tolist(), before, after, strength)
        assert each.image_embed.tolist() == pytest.approx(expected, abs=1e-5)
        assert (each.seed, each.x_T) == (first.seed, first.x_T)


@pytest.mark.parametrize("caption", ["a red circle", "A Red circle"])
def test_an_edit_to_the_same_caption_is_refused(caption):
    with pytest.raises(UserError, match=r"'a red circle': .*another caption"):
        edited(SYSTEM, latent(), caption, "a red circle", 0.5, 2, SETTINGS)


# Painting


@pytest.mark.parametrize("system", [SYSTEM, READER], ids=["embedding", "embedding and caption"])
def test_a_picture_is_the_same_to_the_last_bit_whatever_is_painted_beside_it(system):
    latents = [latent(seed) for seed in range(4)]
    among = paint_each(system, latents, SETTINGS)
    for each, picture in zip(latents, among, strict=True):
        assert np.array_equal(system.paint_latent(each, SETTINGS), picture)


def test_a_decoder_that_reads_captions_paints_a_latent_as_one_whose_caption_is_dropped():
    first = latent()
    alone = READER.paint_latent(first, SETTINGS)
    seen = []
    hook = READER.decoder.register_forward_pre_hook(
        lambda module, inputs, options: seen.append(options["text_drop_mask"].tolist()),
        with_kwargs=True,
    )
    READER.paint_latent(first, SETTINGS)
    hook.remove()
    assert seen == [[True, True]] * SETTINGS.decoder.steps
    embeds = first.image_embed[None]
    captioned = READER.decode(embeds, ["a red circle"], [0], SETTINGS)[0]
    assert not np.array_equal(alone, captioned)


def test_progress_counts_every_picture():
    done = []
    paint_each(SYSTEM, varied(latent(), 3), SETTINGS, done.append)
    assert done == [1, 1, 1]


def test_moments_lead_from_noise_to_the_picture():
    moments, timesteps = paint_moments(SYSTEM, latent(3), SETTINGS)
    assert timesteps == [19, 14, 9, 4, 0]
    assert np.array_equal(moments[-1], SYSTEM.paint_latent(latent(3), SETTINGS))
    noise = SYSTEM.normalisation.to_uint8(SYSTEM.first_noise(3)[None])[0]
    assert np.array_equal(moments[0], noise.numpy())


def test_more_steps_than_timesteps_are_refused_before_an_inversion():
    with pytest.raises(UserError, match=r"^sample.steps: 21 is more than the 20 timesteps"):
        latent_of(SYSTEM, PICTURE, 0, change(SETTINGS, decoder__steps=21))


def test_shares_are_evenly_spread_with_both_ends():
    assert shares(2) == [0, 1]
    assert shares(5) == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("most", [2, 3, 9, 10])
def test_of_many_at_most_so_many_are_chosen_evenly_with_both_ends(most):
    for count in range(1, 60):
        chosen = evenly(count, most)
        assert len(chosen) == min(count, most)
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        steps = {after - before for before, after in itertools.pairwise(chosen)}
        assert not steps or (min(steps) >= 1 and max(steps) - min(steps) <= 1)
