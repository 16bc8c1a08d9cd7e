import pytest
import torch

from unclip.core.seeding import generator
from unclip.diffusion.process import Diffusion
from unclip.diffusion.reverse import Solver, final, inverse_diffusion, reverse_diffusion
from unclip.diffusion.samplers import SAMPLERS

DIFFUSION = Diffusion(20, "cosine", 0.008, "x_start")
for_each_solver = pytest.mark.parametrize(
    "solver",
    [
        *(Solver(name, 6, eta, 1.5) for name in SAMPLERS for eta in (0.0, 0.7)),
        *(Solver(name, 6, 0.7, 1.5, "karras") for name in SAMPLERS),
    ],
    ids=str,
)


def half_of_it(x_t, t, *, drop_mask, pull):
    """A network that heeds its condition, except where that is dropped."""
    return 0.5 * x_t + torch.where(drop_mask[:, None], 0.0, pull)


def steps_of(seeds, solver, model=half_of_it, **options):
    pull = torch.tensor([[float(seed)] * 3 for seed in seeds])
    generators = [generator(seed, "test") for seed in seeds]
    return list(
        reverse_diffusion(model, {"pull": pull}, generators, (3,), DIFFUSION, solver, **options)
    )


def sample(seeds, solver, **options):
    return final(steps_of(seeds, solver, **options))


@for_each_solver
def test_a_sample_is_the_same_alone_and_among_others(solver):
    together = sample(range(8), solver)
    for seed in range(8):
        torch.testing.assert_close(sample([seed], solver)[0], together[seed])


@for_each_solver
def test_the_network_is_asked_once_a_step_from_the_noisiest_timestep_down(solver):
    asked = []

    def model(x_t, t, **conditions):
        asked.extend(t.unique().tolist())
        return half_of_it(x_t, t, **conditions)

    steps = steps_of(range(3), solver, model)
    assert len(asked) == solver.steps
    assert asked[0] == DIFFUSION.num_timesteps - 1
    assert asked == sorted(asked, reverse=True) == [step.t for step in steps]


@pytest.mark.parametrize("spacing", ["uniform", "karras"])
def test_the_levels_visited_are_those_of_the_spacing(spacing):
    steps = steps_of([0], Solver("ddim", 6, 0.0, 1.0, spacing))
    assert [step.t for step in steps] == [level.t for level in DIFFUSION.levels(6, spacing)[:-1]]


def test_as_many_steps_as_timesteps_end_at_zero():
    steps = steps_of([0], Solver("ddpm", 20, 0.0, 1.0))
    assert [step.t for step in steps] == list(range(19, -1, -1))


@for_each_solver
def test_it_starts_from_the_generators_own_noise_or_from_what_is_given(solver):
    own = torch.stack([torch.randn(3, generator=generator(seed, "test")) for seed in range(2)])
    other = torch.arange(6.0).view(2, 3)
    assert torch.equal(steps_of(range(2), solver)[0].x_t, own)
    assert torch.equal(steps_of(range(2), solver, x_T=other)[0].x_t, other)
    # And given the noise that it would draw, nothing changes, noise on the way included.
    assert torch.equal(sample(range(2), solver, x_T=own), sample(range(2), solver))


def test_the_last_prediction_is_the_sample_and_no_gradients_are_recorded():
    weight = torch.ones((), requires_grad=True)

    def model(x_t, t, **conditions):
        return weight * half_of_it(x_t, t, **conditions)

    steps = steps_of(range(3), Solver("ddpm", 6, 0.0, 1.5), model)
    assert final(iter(steps)) is steps[-1].pred_x_start
    assert not any(step.x_t.requires_grad or step.pred_x_start.requires_grad for step in steps)
    assert torch.is_grad_enabled()


def test_guidance_one_is_the_conditional_network_alone():
    def conditional(x_t, t, *, drop_mask, pull):
        assert not drop_mask.any()
        return half_of_it(x_t, t, drop_mask=drop_mask, pull=pull)

    plain = Solver("ddim", 6, 0.0, 1.0)
    assert torch.equal(sample(range(4), plain, model=conditional), sample(range(4), plain))


def test_guidance_goes_further_from_the_unconditional_sample():
    unguided, *others = (
        sample([4], Solver("ddim", 6, 0.0, scale)) for scale in (0.0, 0.5, 1.0, 2.0)
    )
    distances = [(other - unguided).abs().sum() for other in others]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_samples_end_within_the_range_though_the_way_there_leaves_it():
    x_start_range = torch.tensor([-0.1]), torch.tensor([0.1])
    steps = steps_of(range(8), Solver("ddpm", 6, 0.0, 1.0), x_start_range=x_start_range)
    assert all(step.pred_x_start.abs().max() <= 0.1 for step in steps)
    assert all(step.x_t.abs().max() > 0.1 for step in steps)


@pytest.mark.parametrize("spacing", ["uniform", "karras"])
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_inverted_samples_come_back(guidance, spacing):
    solver = Solver("ddim", 10, 0.0, guidance, spacing)
    x_start = torch.randn(4, 3, generator=generator(0, "data"))
    conditions = {"pull": torch.full((4, 3), 0.3)}
    x_T = inverse_diffusion(half_of_it, conditions, x_start, DIFFUSION, solver, evaluations=100)
    generators = [generator(0, "test")] * 4
    again = final(
        reverse_diffusion(half_of_it, conditions, generators, (3,), DIFFUSION, solver, x_T=x_T)
    )
    torch.testing.assert_close(again, x_start, rtol=1e-3, atol=1e-3)
    assert (x_T - x_start).abs().max() > 0.1
