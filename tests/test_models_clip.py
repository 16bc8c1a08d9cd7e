import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.models.clip import CLIP, contrastive_loss
from unclip.models.transformer import attend, attention_mask

CONFIG = {
    "image_size": 8,
    "in_channels": 3,
    "patch_size": 4,
    "embed_dim": 6,
    "vision_dim": 16,
    "vision_depth": 2,
    "vision_heads": 2,
    "text_dim": 12,
    "text_depth": 2,
    "text_heads": 3,
    "vocab_size": 20,
    "text_length": 10,
    "dropout": 0.0,
}
LENGTHS = torch.tensor([7, 4, 5])


def make_clip(**changes: object) -> CLIP:
    torch.manual_seed(0)
    return CLIP(**(CONFIG | changes)).eval()  # type: ignore[arg-type]


def make_text() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    tokens = torch.randint(4, 20, (3, 10))
    mask = torch.arange(10) < LENGTHS[:, None]
    return tokens, mask


def test_attention_equals_a_naive_double_loop() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 2, 6), torch.randn(2, 5, 6), torch.randn(2, 5, 6)
    mask = torch.tensor([[True, True, False, True, True], [True, False, False, False, True]])
    result = attend(q, k, v, num_heads=2, mask=attention_mask(mask, causal=False))
    for b in range(2):
        for i in range(2):
            for head in (slice(0, 3), slice(3, 6)):
                seen = [j for j in range(5) if mask[b, j]]
                weights = [math.exp(float(q[b, i, head] @ k[b, j, head]) / 3**0.5) for j in seen]
                total = sum(weights)
                expected = sum(
                    w / total * v[b, j, head] for w, j in zip(weights, seen, strict=True)
                )
                torch.testing.assert_close(result[b, i, head], expected)


def test_embeddings_have_unit_norm() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    images = torch.randn(3, 3, 8, 8)
    for embeds in (clip.encode_image(images), clip.encode_text(tokens, mask)[0]):
        assert embeds.shape == (3, 6)
        torch.testing.assert_close(embeds.norm(dim=1), torch.ones(3))


def test_the_content_of_padding_changes_nothing() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    other = torch.where(mask, tokens, (tokens + 7) % 20)
    for before, after in zip(
        clip.encode_text(tokens, mask), clip.encode_text(other, mask), strict=True
    ):
        torch.testing.assert_close(before, after, rtol=0, atol=0)


def test_trimming_common_padding_changes_nothing() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    embeds, encodings = clip.encode_text(tokens, mask)
    short_embeds, short_encodings = clip.encode_text(tokens[:, :7], mask[:, :7])
    torch.testing.assert_close(short_embeds, embeds)
    torch.testing.assert_close(short_encodings, encodings[:, :7])


def test_encodings_of_padding_are_zero_and_the_others_are_not() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    encodings = clip.encode_text(tokens, mask)[1]
    assert torch.equal(encodings.abs().sum(dim=2) > 0, mask)


def test_the_text_embedding_is_read_off_the_end_token() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    embeds, encodings = clip.encode_text(tokens, mask)
    for b, length in enumerate(LENGTHS):
        expected = clip.text_projection(encodings[b, length - 1])
        torch.testing.assert_close(embeds[b], F.normalize(expected, dim=0))


def test_the_end_token_sees_every_token_before_it() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    before = clip.encode_text(tokens, mask)[0]
    for position in range(int(LENGTHS[0])):
        changed = tokens.clone()
        changed[0, position] = (changed[0, position] + 1) % 20
        assert not torch.allclose(clip.encode_text(changed, mask)[0][0], before[0], atol=1e-5)


def test_a_token_does_not_see_what_comes_after_it() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    changed = tokens.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 20
    before, after = clip.encode_text(tokens, mask)[1], clip.encode_text(changed, mask)[1]
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[0, 4], after[0, 4], atol=1e-5)


def test_the_same_word_reads_differently_at_every_position() -> None:
    # Without positions even a causal transformer encodes a repeated token the same every time.
    encodings = make_clip().encode_text(torch.full((1, 10), 5), torch.ones(1, 10) > 0)[1][0]
    assert torch.pdist(encodings).min() > 1e-3


def test_the_order_of_patches_matters() -> None:
    clip = make_clip()
    images = torch.randn(2, 3, 8, 8)
    rolled = images.roll(4, dims=3)
    assert not torch.allclose(clip.encode_image(images), clip.encode_image(rolled), atol=1e-5)


def test_token_ids_are_names_and_not_numbers() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    before = clip.encode_text(tokens, mask)[0]
    renamed = torch.randperm(20)
    table = clip.text.token_embedding.weight
    table.data[renamed] = table.data.clone()
    torch.testing.assert_close(clip.encode_text(renamed[tokens], mask)[0], before)


def test_the_scale_starts_at_one_over_the_temperature_and_stops_at_a_hundred() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    images = torch.randn(3, 3, 8, 8)
    assert clip(images, tokens, mask)[2].item() == pytest.approx(1 / 0.07, rel=1e-5)
    clip.logit_scale.data.fill_(9.0)
    scale = clip(images, tokens, mask)[2]
    assert scale.item() == pytest.approx(100, rel=1e-5)
    scale.backward()
    assert clip.logit_scale.grad.item() == pytest.approx(100, rel=1e-5)  # and can come back


def test_distinct_captions_may_be_fewer_than_pictures() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    image_embeds, text_embeds, _ = clip(torch.randn(5, 3, 8, 8), tokens, mask)
    assert image_embeds.shape == (5, 6)
    assert text_embeds.shape == (3, 6)


def test_one_tiny_batch_can_be_overfitted() -> None:
    clip, (tokens, mask) = make_clip().train(), make_text()
    is_own = torch.tensor([0, 1, 2, 0, 1, 2])[:, None] == torch.arange(3)
    images = torch.randn(6, 3, 8, 8)
    optimizer = torch.optim.Adam(clip.parameters(), lr=3e-3)
    for _ in range(40):
        image_embeds, text_embeds, scale = clip(images, tokens, mask)
        loss = contrastive_loss(image_embeds, text_embeds, is_own, scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_under_bf16_autocast_embeddings_are_float32_and_close() -> None:
    clip, (tokens, mask) = make_clip(), make_text()
    images = torch.randn(3, 3, 8, 8)
    exact = clip(images, tokens, mask)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = clip(images, tokens, mask)
    for a, b in zip(exact, rounded, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=0.03, rtol=0.03)


def test_a_patch_size_that_does_not_divide_is_named() -> None:
    with pytest.raises(AssertionError, match="8 pixels, patches of 3"):
        make_clip(patch_size=3)


def test_a_text_beyond_text_length_is_refused() -> None:
    tokens = torch.ones(1, 11, dtype=torch.int64)
    with pytest.raises(AssertionError, match="11 tokens, at most 10"):
        make_clip().encode_text(tokens, tokens > 0)
