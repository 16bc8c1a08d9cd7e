"""Every step of every sampler against the schedulers of diffusers."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from test_diffusion_samplers import T, draw, seeded
from torch.testing import assert_close

from unclip.diffusion.guidance import predict_x_start
from unclip.diffusion.process import Diffusion
from unclip.diffusion.samplers import sample_ddim, sample_ddpm, sample_dpmpp_2m
from unclip.diffusion.schedules import make_betas, sampling_timesteps

DIFFUSERS_TYPES = {"eps": "epsilon", "x_start": "sample", "v": "v_prediction"}
MIXING = draw(6, 6, seed=9)


def noise_from(generator):
    return lambda x_t: torch.randn(x_t.shape, generator=generator, dtype=x_t.dtype)


def network(x_t, t):
    """Some smooth function that mixes values, rows apart, and depends on time."""
    return torch.tanh(x_t @ MIXING + t[:, None] / T)


def their_scheduler(kind, betas, prediction_type, steps, **options):
    """A scheduler of diffusers with our betas, its tables brought from float32 to float64."""
    scheduler = kind(
        num_train_timesteps=T,
        trained_betas=betas.numpy(),
        prediction_type=DIFFUSERS_TYPES[prediction_type],
        timestep_spacing="trailing",
        **options,
    )
    scheduler.alphas_cumprod = torch.cumprod(1 - betas, 0)
    scheduler.set_timesteps(steps)
    if kind is DPMSolverMultistepScheduler:
        a = scheduler.alphas_cumprod[scheduler.timesteps]
        scheduler.sigmas = torch.cat([((1 - a) / a).sqrt(), torch.zeros(1, dtype=torch.float64)])
    else:
        scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def their_chain(scheduler, x_t, **options):
    """All x_t that the scheduler passes through, x_start last."""
    chain = [x_t]
    for t in scheduler.timesteps:
        model_output = network(chain[-1], t.expand(len(x_t)))
        chain.append(scheduler.step(model_output, t, chain[-1], **options).prev_sample)
    return torch.stack(chain)


def our_chain(sampler, name, prediction_type, steps, x_t, eta=0.0):
    diffusion = Diffusion(T, name, 0.008, prediction_type)
    taken = list(
        sampler(
            predict_x_start(network, diffusion, None),
            x_t,
            diffusion.levels(steps),
            eta=eta,
            draw_noise=noise_from(seeded(5)),
        )
    )
    return torch.stack([*(step.x_t for step in taken), taken[-1].pred_x_start])


for_full_and_strided_chains = pytest.mark.parametrize("steps", [T, 16, 1])
for_each_type = pytest.mark.parametrize("prediction_type", DIFFUSERS_TYPES)
for_each_schedule = pytest.mark.parametrize("name", ["cosine", "linear"])


@for_full_and_strided_chains
@for_each_type
@for_each_schedule
def test_every_ddpm_step_is_that_of_diffusers(name, prediction_type, steps):
    betas, x_t = make_betas(name, T, 0.008), draw(4, 6)
    scheduler = their_scheduler(DDPMScheduler, betas, prediction_type, steps, clip_sample=False)
    theirs = their_chain(scheduler, x_t, generator=seeded(5))
    ours = our_chain(sample_ddpm, name, prediction_type, steps, x_t)
    assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


# Their DDIM knows only equal gaps: 12 divides 60, 16 does not.
@pytest.mark.parametrize("steps", [T, 12, 1])
@for_each_type
@for_each_schedule
@pytest.mark.parametrize("eta", [0.0, 0.4])
def test_every_ddim_step_is_that_of_diffusers(name, prediction_type, steps, eta):
    betas, x_t = make_betas(name, T, 0.008), draw(4, 6)
    scheduler = their_scheduler(DDIMScheduler, betas, prediction_type, steps, clip_sample=False)
    theirs = their_chain(scheduler, x_t, eta=eta, generator=seeded(5))
    ours = our_chain(sample_ddim, name, prediction_type, steps, x_t, eta)
    assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@for_full_and_strided_chains
@for_each_type
@for_each_schedule
def test_every_dpmpp_2m_step_is_that_of_diffusers(name, prediction_type, steps):
    betas, x_t = make_betas(name, T, 0.008), draw(4, 6)
    scheduler = their_scheduler(DPMSolverMultistepScheduler, betas, prediction_type, steps)
    theirs = their_chain(scheduler, x_t)
    ours = our_chain(sample_dpmpp_2m, name, prediction_type, steps, x_t)
    # Their step casts x_t to float32, whatever it was.
    assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


# On the straight way of flow, whose first level is pure noise


def their_flow_chain(scheduler, x_t, steps):
    """All x_t that a scheduler passes through on our levels, which it has in float32 otherwise."""
    timesteps = sampling_timesteps(T, steps)
    scheduler.set_begin_index(0)
    scheduler.sigmas = torch.cat([(timesteps + 1).double() / T, torch.zeros(1).double()])
    chain = [x_t]
    for t, theirs in zip(timesteps, scheduler.timesteps, strict=True):
        model_output = network(chain[-1], t.expand(len(x_t)))
        chain.append(scheduler.step(model_output, theirs, chain[-1]).prev_sample)
    return torch.stack(chain)


@for_full_and_strided_chains
def test_every_ddim_step_of_flow_is_an_euler_step_of_diffusers(steps):
    scheduler, x_t = FlowMatchEulerDiscreteScheduler(T), draw(4, 6)
    scheduler.set_timesteps(steps)
    theirs = their_flow_chain(scheduler, x_t, steps)
    # Their step casts x_t to float32, whatever it was.
    assert_close(our_chain(sample_ddim, "flow", "flow", steps, x_t), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("flow", "flow_prediction"), ("x_start", "sample")],
    ids=["flow", "x_start"],
)
@for_full_and_strided_chains
def test_every_dpmpp_2m_step_of_flow_is_that_of_diffusers(steps, ours, theirs):
    scheduler = DPMSolverMultistepScheduler(T, prediction_type=theirs, use_flow_sigmas=True)
    x_t = draw(4, 6)
    scheduler.set_timesteps(steps)
    chain = their_flow_chain(scheduler, x_t, steps)
    assert_close(our_chain(sample_dpmpp_2m, "flow", ours, steps, x_t), chain, rtol=1e-4, atol=1e-4)
