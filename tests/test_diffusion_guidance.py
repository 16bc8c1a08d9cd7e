import pytest
import torch
from torch import nn
from torch.testing import assert_close

from unclip.diffusion.guidance import guided, predict_x_start
from unclip.diffusion.process import PREDICTION_TYPES, Diffusion

SCALES = [0.0, 0.5, 1.0, 2.5, 7.0]


class ToyModel(nn.Module):
    """A network of two conditions with learned nulls that writes down how it was called."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(6, 6, generator=generator, dtype=torch.float64)
        self.null = torch.randn(6, generator=generator, dtype=torch.float64)
        self.drop_masks = []

    def forward(self, x_t, t, *, drop_mask, image_embeds, colours):
        self.drop_masks.append(drop_mask.tolist())
        kept = image_embeds + colours[:, None]
        condition = torch.where(drop_mask[:, None], self.null, kept)
        return torch.tanh(x_t @ self.weight + condition + t[:, None] / 10)


def inputs(batch):
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(batch, 6, generator=generator, dtype=torch.float64)
    image_embeds = torch.randn(batch, 6, generator=generator, dtype=torch.float64)
    colours = torch.arange(batch, dtype=torch.float64)
    return x_t, torch.arange(batch), {"image_embeds": image_embeds, "colours": colours}


@pytest.mark.parametrize("scale", SCALES)
def test_guidance_is_the_formula_applied_to_two_separate_calls(scale):
    model = ToyModel()
    x_t, t, conditions = inputs(4)
    cond = model(x_t, t, drop_mask=torch.zeros(4, dtype=torch.bool), **conditions)
    uncond = model(x_t, t, drop_mask=torch.ones(4, dtype=torch.bool), **conditions)
    assert_close(guided(model, conditions, scale)(x_t, t), uncond + scale * (cond - uncond))


@pytest.mark.parametrize(
    ("scale", "dropped"),
    [(2.0, [False, False, True, True]), (1.0, [False, False]), (0.0, [True, True])],
)
def test_guidance_costs_one_forward_of_the_branches_it_needs(scale, dropped):
    model = ToyModel()
    x_t, t, conditions = inputs(2)
    guided(model, conditions, scale)(x_t, t)
    assert model.drop_masks == [dropped]


@pytest.mark.parametrize("scale", SCALES)
def test_row_i_is_the_same_alone_as_in_a_batch_of_eight(scale):
    x_t, t, conditions = inputs(8)
    together = guided(ToyModel(), conditions, scale)(x_t, t)
    for i in range(8):
        own = {name: condition[i : i + 1] for name, condition in conditions.items()}
        alone = guided(ToyModel(), own, scale)(x_t[i : i + 1], t[i : i + 1])
        assert_close(alone[0], together[i])


def test_branches_in_half_precision_are_combined_in_the_precision_of_x_t():
    def model(x_t, t, *, drop_mask):
        return torch.where(drop_mask, 1.0, 1.0078125).to(torch.bfloat16)[:, None].expand_as(x_t)

    model_output = guided(model, {}, 3.0)(torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64))
    assert_close(model_output, torch.full((2, 6), 1 + 3 * 0.0078125), atol=0, rtol=0)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_perfect_network_of_any_prediction_type_predicts_the_data(prediction_type):
    diffusion = Diffusion(10, "cosine", 0.008, prediction_type)
    generator = torch.Generator().manual_seed(2)
    x_start, noise = torch.randn(2, 3, 6, generator=generator, dtype=torch.float64)

    def perfect(x_t, t):
        return diffusion.target(x_start, t, noise)

    for t in range(10):
        x_t = diffusion.q_sample(x_start, torch.full((3,), t), noise)
        pred_x_start = predict_x_start(perfect, diffusion, None)(x_t, t)
        assert_close(pred_x_start, x_start, atol=1e-6, rtol=0)


def test_the_network_is_given_x_t_as_it_is_and_one_timestep_a_row():
    seen = []

    def denoise(x_t, t):
        seen.append((x_t.clone(), t))
        return x_t

    x_t, x_start_range = torch.full((4, 6), 7.0), (torch.tensor(-1.0), torch.tensor(1.0))
    predict_x_start(denoise, Diffusion(10, "cosine", 0.008, "eps"), x_start_range)(x_t, 3)
    ((given, t),) = seen
    assert torch.equal(given, x_t)
    assert torch.all(x_t == 7.0)
    assert torch.equal(t, torch.tensor([3] * 4))


def clipped(output, x_start_range):
    """pred_x_start of a network that answers `output` for x_start."""
    diffusion = Diffusion(10, "cosine", 0.008, "x_start")
    predict = predict_x_start(lambda x_t, t: output, diffusion, x_start_range)
    return predict(torch.zeros_like(output), 5)


def test_each_channel_of_the_prediction_is_clipped_to_its_own_range():
    output = torch.tensor([-9.0, 0.5, 9.0]).expand(4, 2, 1, 3)
    low, high = torch.tensor([-1.0, -2.0]).view(2, 1, 1), torch.tensor([2.1, 0.25]).view(2, 1, 1)
    expected = torch.tensor([[[-1.0, 0.5, 2.1]], [[-2.0, 0.25, 0.25]]]).expand(4, 2, 1, 3)
    assert torch.equal(clipped(output, (low, high)), expected)


def test_without_a_range_nothing_is_clipped():
    output = torch.tensor([[-900.0, 900.0]])
    assert torch.equal(clipped(output, None), output)


def test_a_float64_range_does_not_promote_the_prediction():
    x_start_range = torch.full((2, 1, 1), -1.0).double(), torch.full((2, 1, 1), 1.0).double()
    assert clipped(torch.zeros(4, 2, 3, 3), x_start_range).dtype == torch.float32


@pytest.mark.parametrize("scale", SCALES)
def test_nothing_is_read_back_from_the_device(scale):
    # A meta tensor has no values: whatever would make a GPU wait for the host raises there.
    def model(x_t, t, *, drop_mask, image_embeds):
        return x_t + torch.where(drop_mask[:, None], 0, image_embeds)

    x, bound = torch.empty(2, 6, device="meta"), torch.ones(6, device="meta")
    denoise = guided(model, {"image_embeds": x}, scale)
    predict_x_start(denoise, Diffusion(10, "cosine", 0.008, "v"), (bound, bound))(x, 3)
