from types import SimpleNamespace

import pytest
import torch
from torch import nn

from unclip.core.seeding import generator
from unclip.diffusion.reverse import (
    Diffusion,
    Solver,
    droppable,
    inverse_diffusion,
    reverse_diffusion,
)
from unclip.diffusion.samplers import SAMPLERS

DIFFUSION = Diffusion(20, "cosine", 0.008, "x_start")


def half_of_it(x_t, t, *, drop_mask, pull):
    """A network that heeds its condition, except where that is dropped."""
    return 0.5 * x_t + torch.where(drop_mask[:, None], 0.0, pull)


def sample(seeds, solver, model=half_of_it, **options):
    pull = torch.tensor([[float(seed)] * 3 for seed in seeds])
    generators = [generator(seed, "test") for seed in seeds]
    return reverse_diffusion(model, {"pull": pull}, generators, (3,), DIFFUSION, solver, **options)


ALL = [Solver(name, 6, eta, 1.5) for name in SAMPLERS for eta in (0.0, 0.7)]


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_a_sample_is_the_same_alone_and_among_others(solver):
    together = sample(range(8), solver)
    for seed in range(8):
        torch.testing.assert_close(sample([seed], solver)[0], together[seed])


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_the_network_is_asked_once_a_step_from_the_noisiest_timestep_down(solver):
    asked = []

    def model(x_t, t, **conditions):
        asked.append(t.unique().tolist())
        return half_of_it(x_t, t, **conditions)

    sample(range(3), solver, model)
    assert len(asked) == solver.steps
    assert asked[0] == [DIFFUSION.num_timesteps - 1]
    assert asked == sorted(asked, reverse=True)


def test_as_many_steps_as_timesteps_end_at_zero():
    asked = []

    def model(x_t, t, **conditions):
        asked.append(int(t[0]))
        return half_of_it(x_t, t, **conditions)

    sample([0], Solver("ddpm", 20, 0.0, 1.0), model)
    assert asked == list(range(19, -1, -1))


def test_it_starts_from_the_generators_own_noise():
    seen = []
    sample(range(4), ALL[0], callback=lambda i, t, x_t, pred: seen.append(x_t))
    for seed in range(4):
        assert torch.equal(seen[0][seed], torch.randn(3, generator=generator(seed, "test")))


def test_guidance_one_is_the_conditional_network_alone():
    def conditional(x_t, t, *, drop_mask, pull):
        assert not drop_mask.any()
        return half_of_it(x_t, t, drop_mask=drop_mask, pull=pull)

    plain = Solver("ddim", 6, 0.0, 1.0)
    assert torch.equal(sample(range(4), plain, conditional), sample(range(4), plain))


def test_guidance_goes_further_from_the_unconditional_sample():
    distance = [
        (sample([4], Solver("ddim", 6, 0.0, scale)) - sample([4], Solver("ddim", 6, 0.0, 0.0)))
        .abs()
        .sum()
        for scale in (0.0, 0.5, 1.0, 2.0)
    ]
    assert distance == sorted(distance)


def test_samples_end_within_the_range_though_the_way_there_leaves_it():
    low, high, way = torch.tensor([-0.1]), torch.tensor([0.1]), []
    result = sample(
        range(8),
        Solver("ddpm", 6, 0.0, 1.0),
        x_start_range=(low, high),
        callback=lambda i, t, x_t, pred: way.append(x_t),
    )
    assert result.abs().max() <= 0.1
    assert all(x_t.abs().max() > 0.1 for x_t in way)


def test_an_unconditional_branch_drops_caption_and_embedding_together():
    class Spy(nn.Module):
        def forward(self, x_t, t, drop_mask, text_drop_mask, image_embeds):
            assert torch.equal(drop_mask, text_drop_mask)
            return x_t * image_embeds

    drop_mask, x_t = torch.tensor([True, False]), torch.ones(2, 3)
    output = droppable(Spy())(x_t, torch.zeros(2), drop_mask=drop_mask, image_embeds=2 * x_t)
    assert torch.equal(output, 2 * x_t)


def test_a_forward_process_is_made_from_a_section_of_params():
    section = SimpleNamespace(
        num_timesteps=7, schedule="linear", schedule_offset=0.1, prediction_type="v", lr=1.0
    )
    diffusion = Diffusion.of(section)
    assert (diffusion.num_timesteps, diffusion.schedule) == (7, "linear")
    assert (diffusion.schedule_offset, diffusion.prediction_type) == (0.1, "v")
    assert len(diffusion.noise_schedule.betas) == 7


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_it_starts_from_the_noise_that_is_given(solver):
    seen = []
    x_T = torch.arange(6.0).view(2, 3)
    sample([0, 1], solver, x_T=x_T, callback=lambda i, t, x_t, pred: seen.append(x_t))
    assert torch.equal(seen[0], x_T)


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_given_the_noise_that_it_would_draw_nothing_changes(solver):
    x_T = torch.stack([torch.randn(3, generator=generator(seed, "test")) for seed in range(2)])
    assert torch.equal(sample(range(2), solver, x_T=x_T), sample(range(2), solver))


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_inverted_samples_come_back(guidance):
    solver = Solver("ddim", 20, 0.0, guidance)
    x_start = torch.randn(4, 3, generator=generator(0, "data"))
    conditions = {"pull": torch.full((4, 3), 0.3)}
    x_T = inverse_diffusion(half_of_it, conditions, x_start, DIFFUSION, solver, evaluations=1000)
    generators = [generator(0, "test")] * 4
    again = reverse_diffusion(half_of_it, conditions, generators, (3,), DIFFUSION, solver, x_T=x_T)
    torch.testing.assert_close(again, x_start, rtol=1e-3, atol=1e-3)
    assert (x_T - x_start).abs().max() > 0.1


def test_a_caption_can_be_dropped_from_both_branches():
    class Spy(nn.Module):
        def forward(self, x_t, t, drop_mask, text_drop_mask, image_embeds):
            assert drop_mask.tolist() == [False, True]
            assert text_drop_mask.all()
            return x_t * image_embeds

    conditions = {"image_embeds": torch.ones(1, 3), "text_drop_mask": torch.tensor([True])}
    solver = Solver("ddim", 1, 0.0, 2.0)
    reverse_diffusion(droppable(Spy()), conditions, [generator(0, "test")], (3,), DIFFUSION, solver)
