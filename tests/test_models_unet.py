import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.models.blocks import ResBlock, group_norm
from unclip.models.unet import UNet

CONFIG = {
    "image_size": 16,
    "in_channels": 3,
    "patch_size": 2,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [4],
    "head_channels": 8,
    "dropout": 0.0,
    "embed_dim": 6,
    "num_image_tokens": 4,
    "downsample": "conv",
    "conditioning": "scale_shift",
    "caption_depth": 0,
    "caption_dim": 16,
    "vocab_size": 20,
    "text_length": 10,
}
WITH_CAPTION = {"caption_depth": 1}
ON_THE_CAPTION = ["text_tokens", "text_mask"]


def make_unet(**changes: object) -> UNet:
    """A UNet whose zero-initialised layers speak, so that an influence would be seen."""
    torch.manual_seed(0)
    unet = UNet(**(CONFIG | changes)).eval()  # type: ignore[arg-type]
    for parameter in unet.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return unet


def make_inputs(*, caption: bool = False, batch: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(1)
    inputs = {
        "x_t": torch.randn(batch, 3, 16, 16),
        "t": torch.randint(0, 1000, (batch,)),
        "image_embeds": F.normalize(torch.randn(batch, 6), dim=1),
        "drop_mask": torch.zeros(batch, dtype=torch.bool),
    }
    if caption:
        inputs["text_tokens"] = torch.randint(4, 20, (batch, 10))
        inputs["text_mask"] = torch.arange(10) < torch.tensor([7, 4, 5])[:batch, None]
        inputs["text_drop_mask"] = torch.zeros(batch, dtype=torch.bool)
    return inputs


def replaced(inputs: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The inputs with another value of one of them."""
    torch.manual_seed(2)
    others = {
        "x_t": torch.randn(3, 3, 16, 16),
        "t": (inputs["t"] + 400) % 1000,
        "image_embeds": F.normalize(torch.randn(3, 6), dim=1),
        "text_tokens": torch.randint(4, 20, (3, 10)),
        "text_mask": torch.arange(10) < torch.tensor([[3], [6], [1]]),
    }
    return inputs | {name: others[name]}


def stored_tensors(module: nn.Module) -> list[str]:
    """The attributes of a module and its children that hold tensors, but parameters and buffers."""
    return [
        f"{path}.{name}"
        for path, child in module.named_modules()
        for name, value in vars(child).items()
        if isinstance(value, Tensor)
        or (isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value))
    ]


@pytest.mark.parametrize("name", ["x_t", "t", "image_embeds", *ON_THE_CAPTION])
def test_every_input_has_an_influence(name: str) -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    difference = (unet(**inputs) - unet(**replaced(inputs, name))).abs().amax(dim=(1, 2, 3))
    assert difference.min() > 1e-5


def test_a_dropped_image_embedding_has_no_influence() -> None:
    unet, inputs = make_unet(), make_inputs()
    inputs["drop_mask"] = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(
        unet(**inputs), unet(**replaced(inputs, "image_embeds")), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", ON_THE_CAPTION)
def test_a_dropped_caption_has_no_influence(name: str) -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    inputs["text_drop_mask"] = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(unet(**inputs), unet(**replaced(inputs, name)), rtol=0, atol=0)


def test_unless_told_otherwise_a_caption_is_dropped_where_the_image_embedding_is() -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    inputs["drop_mask"] = inputs.pop("text_drop_mask") | torch.tensor([True, False, False])
    both = unet(**inputs)
    assert torch.equal(both, unet(**inputs, text_drop_mask=inputs["drop_mask"]))
    assert not torch.allclose(both[1:], unet(**inputs, text_drop_mask=torch.ones(3).bool())[1:])


@pytest.mark.parametrize("mask", ["drop_mask", "text_drop_mask"])
def test_conditions_are_dropped_row_by_row(mask: str) -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    kept, dropped = unet(**inputs), unet(**inputs | {mask: torch.tensor([False, True, False])})
    torch.testing.assert_close(kept[[0, 2]], dropped[[0, 2]])
    assert not torch.allclose(kept[1], dropped[1], atol=1e-5)


def test_the_content_of_padding_changes_nothing() -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    tokens = inputs["text_tokens"]
    other = torch.where(inputs["text_mask"], tokens, (tokens + 7) % 20)
    torch.testing.assert_close(
        unet(**inputs), unet(**inputs | {"text_tokens": other}), rtol=0, atol=0
    )


def test_trimming_common_padding_changes_nothing() -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    short = {name: inputs[name][:, :7] for name in ON_THE_CAPTION}
    torch.testing.assert_close(unet(**inputs), unet(**inputs | short))


def test_the_order_of_words_in_the_caption_matters() -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    swapped = inputs["text_tokens"][:, [1, 0, *range(2, 10)]]
    difference = (unet(**inputs) - unet(**inputs | {"text_tokens": swapped})).abs()
    assert difference.amax(dim=(1, 2, 3)).min() > 1e-5


def test_token_ids_are_names_and_not_numbers() -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    before = unet(**inputs)
    renamed = torch.randperm(20)
    assert unet.conditioner.caption_encoder is not None
    table = unet.conditioner.caption_encoder.token_embedding.weight
    table.data[renamed] = table.data.clone()
    inputs["text_tokens"] = renamed[inputs["text_tokens"]]
    torch.testing.assert_close(unet(**inputs), before)


def test_the_tokens_of_the_image_embedding_are_not_multiples_of_one_another() -> None:
    unet, inputs = make_unet(), make_inputs()
    embeds, drop_mask = inputs["image_embeds"], inputs["drop_mask"]
    tokens = unet.conditioner(inputs["t"], embeds, drop_mask, None, None, drop_mask).tokens
    assert tokens.shape == (3, 4, 6)
    singular_values = torch.linalg.svdvals(tokens)
    assert (singular_values[:, 3] / singular_values[:, 0]).min() > 0.01


def test_attention_lets_distant_pixels_meet() -> None:
    unet, inputs = make_unet(channel_mult=[1], attn_resolutions=[8]), make_inputs()
    changed = inputs["x_t"].clone()
    changed[:, :, 0, 0] += 1.0
    difference = (unet(**inputs) - unet(**inputs | {"x_t": changed})).abs()
    assert difference[:, :, -1, -1].min() > 0


@pytest.mark.parametrize("scale", [9.0, -0.9])
def test_the_scale_acts_after_the_norm_which_would_cancel_it(scale: float) -> None:
    torch.manual_seed(0)
    block = ResBlock(8, 8, vector_dim=4, dropout=0.0, conditioning="scale_shift")
    nn.init.normal_(block.conv2.weight)
    nn.init.zeros_(block.condition.weight)
    nn.init.zeros_(block.condition.bias)
    x, vector = torch.randn(2, 8, 6, 6), torch.zeros(2, 4)
    plain = block(x, vector)
    block.condition.bias.data[:8] = scale
    assert (block(x, vector) - plain).abs().mean() > 0.5 * (plain - x).abs().mean()


@pytest.mark.parametrize("conditioning", ["scale_shift", "add"])
def test_a_new_residual_block_is_its_skip(conditioning: str) -> None:
    block = ResBlock(8, 8, vector_dim=4, dropout=0.0, conditioning=conditioning)
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x, torch.randn(2, 4)), x)


def test_an_untrained_unet_predicts_zero() -> None:
    unet = UNet(**CONFIG)  # type: ignore[arg-type]
    assert torch.equal(unet(**make_inputs()), torch.zeros(3, 3, 16, 16))


def test_no_skip_is_left_on_a_module() -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    unet(**inputs)
    assert stored_tensors(unet) == []


@pytest.mark.parametrize("conditioning", ["scale_shift", "add"])
def test_every_parameter_is_trained_when_some_conditions_are_dropped(conditioning: str) -> None:
    changes = {"num_res_blocks": 2, "channel_mult": [1, 2, 2], "conditioning": conditioning}
    unet, inputs = make_unet(**changes, **WITH_CAPTION), make_inputs(caption=True)
    inputs["drop_mask"] = inputs["text_drop_mask"] = torch.tensor([True, False, False])
    unet(**inputs).square().sum().backward()
    unused = [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_every_skip_reaches_what_is_above_it() -> None:
    unet, inputs = make_unet(), make_inputs()
    drop_mask = inputs["drop_mask"]
    condition = unet.conditioner(
        inputs["t"], inputs["image_embeds"], drop_mask, None, None, drop_mask
    )
    h = torch.randn(3, 16, 4, 4)
    skips = [torch.randn(3, 8, 4, 4), torch.randn(3, 16, 4, 4)]
    before = unet.up[0](h, condition, list(skips))
    for i in range(2):
        changed = [skip + (k == i) for k, skip in enumerate(skips)]
        assert not torch.allclose(unet.up[0](h, condition, changed), before, atol=1e-4)
        assert changed == []


def test_a_row_does_not_depend_on_its_batch() -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    whole = unet(**inputs)
    for i in range(3):
        alone = unet(**{name: value[i : i + 1] for name, value in inputs.items()})
        torch.testing.assert_close(alone[0], whole[i])


@pytest.mark.parametrize(
    "change",
    [
        {"patch_size": 1, "attn_resolutions": [8]},
        {"patch_size": 4, "attn_resolutions": [2]},
        {"downsample": "pool"},
        {"conditioning": "add"},
        {"attn_resolutions": []},
        {"attn_resolutions": [8, 4]},
        {"num_image_tokens": 1},
        {"num_res_blocks": 2},
        {"channel_mult": [2, 3, 4]},
    ],
    ids=str,
)
def test_every_switch_runs_and_changes_the_output(change: dict[str, object]) -> None:
    inputs = make_inputs()
    output = make_unet(**change)(**inputs)
    assert output.shape == (3, 3, 16, 16)
    assert not torch.allclose(output, make_unet()(**inputs), atol=1e-4)


def test_one_tiny_batch_can_be_overfitted() -> None:
    unet, inputs = make_unet().train(), make_inputs(batch=2)
    target = torch.randn(2, 3, 16, 16)
    optimizer = torch.optim.Adam(unet.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = (unet(**inputs) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.25 * losses[0]


def test_under_bf16_autocast_the_output_is_float32_and_close() -> None:
    unet, inputs = make_unet(**WITH_CAPTION), make_inputs(caption=True)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = unet(**inputs)
    assert rounded.dtype == torch.float32
    exact = unet(**inputs)
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_channels_last_changes_nothing_but_speed() -> None:
    unet, inputs = make_unet(), make_inputs()
    before = unet(**inputs)
    unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(unet(**inputs), before)


def test_the_unet_of_the_tutorial_has_its_size() -> None:
    with torch.device("meta"):
        unet = UNet(  # type: ignore[arg-type]
            **CONFIG
            | {
                "image_size": 32,
                "in_channels": 1,
                "patch_size": 1,
                "model_channels": 32,
                "channel_mult": [1, 2, 4, 8],
                "num_res_blocks": 2,
                "attn_resolutions": [16, 8, 4],
                "head_channels": 32,
                "embed_dim": 256,
            }
        )
    assert 10e6 < sum(parameter.numel() for parameter in unet.parameters()) < 20e6


def test_groups_of_a_norm_are_equal_and_large_enough() -> None:
    for channels in range(1, 300):
        groups = group_norm(channels).num_groups
        assert channels % groups == 0
        assert groups == 1 or channels // groups >= 4
    assert group_norm(256).num_groups == 32


def test_an_attention_resolution_that_is_no_level_is_named() -> None:
    with pytest.raises(AssertionError, match=r"\[12\] of \[8, 4\]"):
        make_unet(attn_resolutions=[12])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_mult": [1] * 5}, "image_size 16, a multiple of 32"),
        ({"downsample": "none"}, "none"),
        ({"conditioning": "none"}, "none"),
        ({"head_channels": 12}, "heads of 12 channels of 16"),
        ({"caption_depth": 1, "caption_dim": 20}, "heads of 8 channels of 20"),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        make_unet(**change)


def test_a_caption_encoder_without_a_caption_is_refused() -> None:
    with pytest.raises(AssertionError, match="needs text_tokens"):
        make_unet(**WITH_CAPTION)(**make_inputs())
