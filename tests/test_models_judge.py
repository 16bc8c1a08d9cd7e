import pytest
import torch
import torch.nn.functional as F

from unclip.models.judge import Judge


def make_judge(channels: int = 4, image_size: int = 16) -> Judge:
    torch.manual_seed(0)
    return Judge(image_size=image_size, in_channels=3, num_values=[2, 5], channels=channels).eval()


def test_there_are_logits_for_every_value_of_every_attribute() -> None:
    logits = make_judge()(torch.randn(3, 3, 16, 16))
    assert [tuple(attribute.shape) for attribute in logits] == [(3, 2), (3, 5)]


def test_the_heads_read_the_features_and_nothing_else() -> None:
    judge = make_judge()
    images = torch.randn(3, 3, 16, 16)
    features = judge.features(images)
    for head, logits in zip(judge.heads, judge(images), strict=True):
        torch.testing.assert_close(head(features), logits)


def test_features_tell_places_apart() -> None:
    judge = make_judge(image_size=64)
    images = torch.zeros(2, 3, 64, 64)
    images[1, :, 60:, 60:] = 5.0
    with torch.no_grad():
        plain, marked = judge.features(images).unflatten(1, (16, 4, 4))
    changed = (plain != marked).any(dim=0)
    assert changed[3, 3]
    assert not changed[0].any()


def test_a_verdict_does_not_depend_on_the_batch() -> None:
    judge = make_judge()
    images = torch.randn(4, 3, 16, 16)
    whole = judge(images)[1]
    for i in range(4):
        torch.testing.assert_close(judge(images[i : i + 1])[1][0], whole[i])


def test_channels_last_changes_nothing_but_speed() -> None:
    judge = make_judge()
    images = torch.randn(2, 3, 16, 16)
    before = judge(images)[1]
    after = judge.to(memory_format=torch.channels_last)(images)[1]  # type: ignore[call-overload]
    torch.testing.assert_close(before, after)


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(AssertionError, match="16"):
        make_judge()(torch.randn(1, 3, 32, 32))


def test_one_tiny_batch_can_be_overfitted() -> None:
    judge = make_judge(channels=8).train()
    images = torch.randn(8, 3, 16, 16)
    labels = [torch.arange(8) % 2, torch.arange(8) % 5]
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    for _ in range(30):
        pairs = zip(judge(images), labels, strict=True)
        loss = torch.stack([F.cross_entropy(logits, label) for logits, label in pairs]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    judge.eval()
    for logits, label in zip(judge(images), labels, strict=True):
        assert torch.equal(logits.argmax(dim=1), label)
