import inspect

import pytest
import torch
from torch import Tensor, nn

from unclip.models.prior import Prior
from unclip.models.timestep import sinusoids
from unclip.models.transformer import attention_mask

CONFIG = {
    "embed_dim": 6,
    "text_dim": 10,
    "text_length": 8,
    "dim": 16,
    "depth": 2,
    "num_heads": 2,
    "dropout": 0.0,
}
ARGUMENTS = ["x_t", "t", "text_encodings", "text_embeds", "text_mask", "drop_mask", "caption_index"]
CAPTION = ["text_encodings", "text_embeds", "text_mask"]


def make_prior() -> Prior:
    """A prior whose zero-initialised output speaks, so that an influence would be seen."""
    torch.manual_seed(0)
    prior = Prior(**CONFIG).eval()  # type: ignore[arg-type]
    nn.init.normal_(prior.out.weight)
    return prior


def make_inputs() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "x_t": torch.randn(3, 6),
        "t": torch.tensor([0, 500, 999]),
        "text_encodings": torch.randn(3, 8, 10),
        "text_embeds": nn.functional.normalize(torch.randn(3, 6), dim=1),
        "text_mask": torch.arange(8) < torch.tensor([[5], [2], [4]]),
        "drop_mask": torch.zeros(3, dtype=torch.bool),
    }


def replaced(inputs: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The inputs with another value of one of them."""
    torch.manual_seed(2)
    others = {
        "x_t": torch.randn(3, 6),
        "t": torch.tensor([300, 100, 700]),
        "text_encodings": torch.randn(3, 8, 10),
        "text_embeds": nn.functional.normalize(torch.randn(3, 6), dim=1),
        "text_mask": torch.arange(8) < torch.tensor([[3], [6], [1]]),
    }
    return inputs | {name: others[name]}


def hidden_tokens(prior: Prior, inputs: dict[str, Tensor]) -> Tensor:
    """The last block's outputs, (B, L + 4, dim): of the captions, then of the rest."""
    seen: list[Tensor] = []
    hook = prior.transformer.blocks[-1].register_forward_hook(lambda *call: seen.append(call[2][0]))
    prior(**inputs)
    hook.remove()
    captions, rest = seen
    return torch.cat([captions[: len(rest)], rest], dim=1)


@pytest.mark.parametrize("name", ["x_t", "t", *CAPTION])
def test_every_input_has_an_influence(name: str) -> None:
    prior, inputs = make_prior(), make_inputs()
    difference = (prior(**inputs) - prior(**replaced(inputs, name))).abs().amax(dim=1)
    assert difference.min() > 1e-4


@pytest.mark.parametrize("name", CAPTION)
def test_a_dropped_caption_has_no_influence(name: str) -> None:
    prior, inputs = make_prior(), make_inputs()
    inputs["drop_mask"] = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(prior(**inputs), prior(**replaced(inputs, name)), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["x_t", "t"])
def test_dropping_the_caption_keeps_the_noised_embedding_and_the_timestep(name: str) -> None:
    prior, inputs = make_prior(), make_inputs()
    inputs["drop_mask"] = torch.ones(3, dtype=torch.bool)
    difference = (prior(**inputs) - prior(**replaced(inputs, name))).abs().amax(dim=1)
    assert difference.min() > 1e-4


def test_captions_are_dropped_row_by_row() -> None:
    prior, inputs = make_prior(), make_inputs()
    kept = prior(**inputs)
    dropped = prior(**inputs | {"drop_mask": torch.tensor([False, True, False])})
    torch.testing.assert_close(kept[[0, 2]], dropped[[0, 2]])
    assert not torch.allclose(kept[1], dropped[1], atol=1e-4)


def test_the_content_of_padding_changes_nothing() -> None:
    prior, inputs = make_prior(), make_inputs()
    noise = 50 * torch.randn(3, 8, 10)
    other = torch.where(inputs["text_mask"][:, :, None], inputs["text_encodings"], noise)
    torch.testing.assert_close(prior(**inputs), prior(**inputs | {"text_encodings": other}))


@pytest.mark.parametrize("dropped", [False, True])
def test_trimming_common_padding_changes_nothing(dropped: bool) -> None:
    prior, inputs = make_prior(), make_inputs()
    inputs["drop_mask"] = torch.full((3,), dropped)
    short = {name: inputs[name][:, :5] for name in ("text_encodings", "text_mask")}
    torch.testing.assert_close(prior(**inputs), prior(**inputs | short))


def test_the_same_encoding_reads_differently_at_every_position() -> None:
    # Without positions even a causal transformer sees a repeated token the same every time.
    prior, inputs = make_prior(), make_inputs()
    inputs["text_encodings"] = torch.ones(3, 8, 10)
    inputs["text_mask"] = torch.ones(3, 8) > 0
    assert torch.pdist(hidden_tokens(prior, inputs)[0, :8]).min() > 1e-3


@pytest.mark.parametrize(("name", "position"), [("text_embeds", 8), ("t", 9), ("x_t", 10)])
def test_no_token_sees_what_comes_after_it(name: str, position: int) -> None:
    prior, inputs = make_prior(), make_inputs()
    before, after = hidden_tokens(prior, inputs), hidden_tokens(prior, replaced(inputs, name))
    torch.testing.assert_close(before[:, :position], after[:, :position], rtol=0, atol=0)
    assert (before - after)[:, position:].abs().amax(dim=2).min() > 1e-5


def test_the_sequence_is_text_then_four_tokens_and_no_token_ids() -> None:
    prior, inputs = make_prior(), make_inputs()
    assert hidden_tokens(prior, inputs).shape == (3, 8 + 4, 16)
    assert list(inspect.signature(prior.forward).parameters) == ARGUMENTS


def test_a_row_does_not_depend_on_its_batch() -> None:
    prior, inputs = make_prior(), make_inputs()
    whole = prior(**inputs)
    for i in range(3):
        alone = prior(**{name: value[i : i + 1] for name, value in inputs.items()})
        torch.testing.assert_close(alone[0], whole[i])


def test_an_untrained_prior_predicts_the_mean() -> None:
    prediction = Prior(**CONFIG)(**make_inputs())  # type: ignore[arg-type]
    assert torch.equal(prediction, torch.zeros(3, 6))


def test_every_parameter_is_trained_when_some_captions_are_dropped() -> None:
    prior, inputs = make_prior(), make_inputs()
    inputs["drop_mask"] = torch.tensor([True, False, False])
    prior(**inputs).square().sum().backward()
    unused = [name for name, p in prior.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_one_tiny_batch_can_be_overfitted() -> None:
    prior, inputs = make_prior().train(), make_inputs()
    target = torch.randn(3, 6)
    optimizer = torch.optim.Adam(prior.parameters(), lr=3e-3)
    for _ in range(60):
        loss = (prior(**inputs) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02


def test_under_bf16_autocast_the_output_is_float32_and_close() -> None:
    prior, inputs = make_prior(), make_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = prior(**inputs)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, prior(**inputs), atol=0.1, rtol=0.05)


def test_sinusoids_are_points_on_circles_that_tell_neighbouring_timesteps_apart() -> None:
    features = sinusoids(torch.arange(1000))
    radii = features[:, :64].square() + features[:, 64:].square()
    torch.testing.assert_close(radii, torch.ones(1000, 64))
    assert (features[1:] - features[:-1]).norm(dim=1).min() > 0.5
    assert torch.pdist(features[::10]).min() > 0.5


def test_captions_shared_by_many_rows_give_what_captions_of_their_own_give() -> None:
    prior, inputs = make_prior(), make_inputs()
    index = torch.tensor([2, 0, 2])
    each = {name: inputs[name][index] for name in CAPTION}
    drop_mask = torch.tensor([False, False, True])
    expected = prior(**inputs | each | {"drop_mask": drop_mask})
    shared = prior(**inputs | {"drop_mask": drop_mask}, caption_index=index)
    torch.testing.assert_close(shared, expected)


def test_going_on_from_read_tokens_equals_one_causal_pass_over_all() -> None:
    torch.manual_seed(3)
    transformer = make_prior().transformer
    tokens, mask = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
    mask[1, 3] = False
    whole = transformer(tokens, attention_mask(mask, causal=True))
    past = transformer.read(tokens[:, :4], attention_mask(mask[:, :4], causal=True))
    rest = transformer(tokens[:, 4:], attention_mask(mask, causal=True)[:, :, 4:], past)
    torch.testing.assert_close(rest, whole[:, 4:])
