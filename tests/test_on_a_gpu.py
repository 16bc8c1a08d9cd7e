"""What a GPU would refuse, told without one: torch's fake tensors know their device, and no more.

A forward pass that mixes CPU and GPU fails here as it fails there. What kernels compute is not
seen, nor are backward passes, which want a GPU.
"""

import pytest
import torch
from systems import CONFIGS
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from unclip.data import prepared as data
from unclip.diffusion import process
from unclip.diffusion.guidance import guided
from unclip.models.clip import CLIP, contrastive_loss
from unclip.models.prior import Prior
from unclip.models.unet import UNet
from unclip.training.ledger import Ledger
from unclip.training.loop import OptimizerStep

GPU = torch.device("cuda", 0)
PICTURES, CAPTIONS, LENGTH = 4, 3, 7
DIFFUSION = process.Diffusion(50, "cosine", 0.008, "v")
CAPTIONED = CONFIGS["decoder"] | {"caption_depth": 1}


@pytest.fixture(autouse=True)
def _fake():
    caches = (process._tables, data._on_device)  # which are to hold no fakes afterwards
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    for cache in caches:
        cache.cache_clear()


def on_gpu(network: type[nn.Module], kind: dict) -> nn.Module:
    with GPU:
        return network(**kind)


def texts() -> tuple[Tensor, Tensor]:
    shape = (CAPTIONS, LENGTH)
    tokens = torch.zeros(shape, dtype=torch.int64, device=GPU)
    return tokens, torch.ones(shape, dtype=torch.bool, device=GPU)


def pictures() -> Tensor:
    images = torch.zeros(PICTURES, 3, 8, 8, dtype=torch.uint8, device=GPU)
    return data.Normalisation((0.1, 0.2, 0.3), (0.3, 0.3, 0.3)).normalise(images)


def loss_of(denoise, x_start: Tensor) -> Tensor:
    t = torch.zeros(PICTURES, dtype=torch.int64, device=GPU)
    return DIFFUSION.loss(denoise, x_start, t, torch.zeros_like(x_start))


def test_clip_meets_no_tensor_of_the_cpu():
    clip = on_gpu(CLIP, CONFIGS["clip"])
    is_own = torch.ones(PICTURES, CAPTIONS, dtype=torch.bool, device=GPU)
    image_embeds, text_embeds, scale = clip(pictures(), *texts())
    assert contrastive_loss(image_embeds, text_embeds, is_own, scale).device == GPU


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_the_prior_meets_no_tensor_of_the_cpu(scale):
    prior, (_, mask) = on_gpu(Prior, CONFIGS["prior"]), texts()
    encodings = torch.zeros(CAPTIONS, LENGTH, 8, device=GPU)
    memory = prior.read(encodings, torch.zeros(CAPTIONS, 6, device=GPU), mask)
    index = torch.zeros(PICTURES, dtype=torch.int64, device=GPU)

    def model(x_t, t, /, *, drop_mask, caption_index):
        return prior.denoise(x_t, t, memory, caption_index, drop_mask)

    denoise = guided(model, {"caption_index": index}, scale)
    assert loss_of(denoise, torch.zeros(PICTURES, 6, device=GPU)).device == GPU


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("config", [CONFIGS["decoder"], CAPTIONED])
def test_the_decoder_meets_no_tensor_of_the_cpu(config, scale):
    unet, conditions = on_gpu(UNet, config), {"image_embeds": torch.zeros(PICTURES, 6, device=GPU)}
    if config is CAPTIONED:
        tokens, mask = (each[:1].expand(PICTURES, -1) for each in texts())
        conditions |= {"text_tokens": tokens, "text_mask": mask}
    assert loss_of(guided(unet, conditions, scale), pictures()).device == GPU


def test_losses_of_a_state_are_weighed_with_those_since():
    kept = OptimizerStep(1, torch.tensor(1.0), torch.tensor(2.0), 0.1)
    since = OptimizerStep(2, torch.ones((), device=GPU), torch.ones((), device=GPU), 0.1)
    ledger = Ledger("train_prior", None, keeps_last=True, recent=[kept, since])
    with pytest.raises(DataDependentOutputException):  # as far as fakes go: their values are read
        ledger.require_finite()
