import pytest
import torch
from torch import nn
from torch.testing import assert_close

from unclip.diffusion.guidance import guided, predict_x_start
from unclip.diffusion.predictions import PREDICTION_TYPES, q_sample, training_target
from unclip.diffusion.schedules import make_schedule

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


def test_guidance_costs_one_forward_of_both_branches():
    model = ToyModel()
    x_t, t, conditions = inputs(2)
    guided(model, conditions, 2.0)(x_t, t)
    assert model.drop_masks == [[False, False, True, True]]


def test_scale_one_costs_one_forward_that_drops_nothing():
    model = ToyModel()
    x_t, t, conditions = inputs(2)
    guided(model, conditions, 1.0)(x_t, t)
    assert model.drop_masks == [[False, False]]


def test_scale_zero_costs_one_forward_that_drops_everything():
    model = ToyModel()
    x_t, t, conditions = inputs(2)
    guided(model, conditions, 0.0)(x_t, t)
    assert model.drop_masks == [[True, True]]


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
    schedule = make_schedule("cosine", 10, 0.008)
    generator = torch.Generator().manual_seed(2)
    x_start, noise = torch.randn(2, 10, 6, generator=generator, dtype=torch.float64)
    t = torch.arange(10)
    model_output = training_target(schedule, prediction_type, x_start, t, noise)
    predict = predict_x_start(lambda x_t, t: model_output, schedule, prediction_type, None)
    assert_close(predict(q_sample(schedule, x_start, t, noise), t), x_start, atol=1e-6, rtol=0)


def clipped(output, x_start_range):
    """pred_x_start of a network that answers `output` for x_start."""
    schedule = make_schedule("cosine", 10, 0.008)
    predict = predict_x_start(lambda x_t, t: output, schedule, "x_start", x_start_range)
    return predict(torch.zeros_like(output), torch.full((len(output),), 5))


def test_each_channel_of_the_prediction_is_clipped_to_its_own_range():
    output = torch.tensor([-9.0, 0.5, 9.0]).expand(4, 2, 1, 3)
    low, high = torch.tensor([-1.0, -2.0]).view(2, 1, 1), torch.tensor([2.1, 0.25]).view(2, 1, 1)
    expected = torch.tensor([[[-1.0, 0.5, 2.1]], [[-2.0, 0.25, 0.25]]]).expand(4, 2, 1, 3)
    assert torch.equal(clipped(output, (low, high)), expected)


def test_clipping_leaves_x_t_alone():
    x_t = torch.full((4, 6), 7.0)
    seen = []

    def denoise(x_t, t):
        seen.append(x_t.clone())
        return x_t

    schedule = make_schedule("cosine", 10, 0.008)
    x_start_range = torch.tensor(-1.0), torch.tensor(1.0)
    predict_x_start(denoise, schedule, "eps", x_start_range)(x_t, torch.zeros(4, dtype=torch.int64))
    assert torch.equal(seen[0], x_t)
    assert torch.all(x_t == 7.0)


def test_without_a_range_nothing_is_clipped():
    output = torch.tensor([[-900.0, 900.0]])
    assert torch.equal(clipped(output, None), output)


def test_a_float64_range_does_not_promote_the_prediction():
    x_start_range = torch.full((2, 1, 1), -1.0).double(), torch.full((2, 1, 1), 1.0).double()
    assert clipped(torch.zeros(4, 2, 3, 3), x_start_range).dtype == torch.float32


def test_an_unknown_prediction_type_is_an_error():
    schedule = make_schedule("cosine", 10, 0.008)
    predict = predict_x_start(lambda x_t, t: x_t, schedule, "epsilon", None)
    with pytest.raises(ValueError, match="'epsilon'"):
        predict(torch.zeros(1, 6), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("scale", SCALES)
def test_nothing_is_read_back_from_the_device(scale):
    # A meta tensor has no values: whatever would make a GPU wait for the host raises there.
    def model(x_t, t, *, drop_mask, image_embeds):
        return x_t + torch.where(drop_mask[:, None], 0, image_embeds)

    x, t = torch.empty(2, 6, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
    schedule = make_schedule("cosine", 10, 0.008)
    denoise = guided(model, {"image_embeds": x}, scale)
    bound = torch.ones(6, device="meta")
    predict_x_start(denoise, schedule, "v", (bound, bound))(x, t)
