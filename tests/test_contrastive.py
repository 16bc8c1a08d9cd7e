import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unclip.models.clip import contrastive_loss

UNEVEN = [0, 2, 1, 0, 0, 2, 0]
EVEN = [1, 0, 2, 2, 1, 0]


def embeddings(caption_index: list[int], width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    pictures = torch.randn(len(caption_index), width, dtype=torch.float64)
    texts = torch.randn(max(caption_index) + 1, width, dtype=torch.float64)
    return F.normalize(pictures, dim=1), F.normalize(texts, dim=1)


def own(index: list[int]) -> torch.Tensor:
    """(B, K) bool of a list of each picture's one caption."""
    return torch.tensor(index)[:, None] == torch.arange(max(index) + 1)


def naive_loss(pictures: np.ndarray, texts: np.ndarray, index: list[int], scale: float) -> float:
    """The loss as the design words it, one logit at a time."""
    num_pictures, num_captions = len(pictures), len(texts)
    cosines = [[float(np.dot(p, c)) for c in texts] for p in pictures]
    image_to_text = 0.0
    for i in range(num_pictures):
        total = sum(math.exp(scale * cosines[i][k]) for k in range(num_captions))
        own = math.exp(scale * cosines[i][index[i]])
        image_to_text -= math.log(own / total) / num_pictures
    text_to_image = 0.0
    for k in range(num_captions):
        total = sum(math.exp(scale * cosines[i][k]) for i in range(num_pictures))
        mine = [i for i in range(num_pictures) if index[i] == k]
        for i in mine:
            target = 1 / len(mine)
            log_prob = math.log(math.exp(scale * cosines[i][k]) / total)
            text_to_image += target * (math.log(target) - log_prob) / num_captions
    return (image_to_text + text_to_image) / 2


@pytest.mark.parametrize("index", [UNEVEN, EVEN, [0, 1, 2, 3], [0, 0, 0]])
@pytest.mark.parametrize("scale", [1.0, 14.3])
def test_the_loss_equals_a_naive_double_loop(index: list[int], scale: float) -> None:
    pictures, texts = embeddings(index)
    expected = naive_loss(pictures.numpy(), texts.numpy(), index, scale)
    loss = contrastive_loss(pictures, texts, own(index), scale)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_with_equally_frequent_captions_it_equals_the_multi_positive_loss_less_its_floor() -> None:
    pictures, texts = embeddings(EVEN)
    index = torch.tensor(EVEN)
    logits = 7.0 * pictures @ texts[index].T  # one text for each picture, repeated
    targets = (index[:, None] == index).double()
    targets /= targets.sum(dim=1, keepdim=True)
    floor = math.log(2)  # each caption has two pictures
    square = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2 - floor
    loss = contrastive_loss(pictures, texts, own(EVEN), 7.0)
    assert loss.item() == pytest.approx(square.item(), abs=1e-5)


def test_with_one_picture_a_caption_it_is_the_loss_of_clip() -> None:
    pictures, texts = embeddings([0, 1, 2, 3])
    logits = 5.0 * pictures @ texts.T
    labels = torch.arange(4)
    plain = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    loss = contrastive_loss(pictures, texts, own([0, 1, 2, 3]), 5.0)
    assert loss.item() == pytest.approx(plain.item(), abs=1e-5)


def test_perfect_embeddings_give_zero() -> None:
    index = torch.tensor(UNEVEN)
    texts = torch.eye(3)
    assert contrastive_loss(texts[index], texts, own(UNEVEN), 100.0).item() == pytest.approx(
        0, abs=1e-6
    )


def test_the_order_of_captions_changes_nothing() -> None:
    pictures, texts = embeddings(UNEVEN)
    order = torch.tensor([2, 0, 1])
    shuffled = contrastive_loss(pictures, texts[order], own(UNEVEN)[:, order], 3.0)
    assert shuffled.item() == pytest.approx(
        contrastive_loss(pictures, texts, own(UNEVEN), 3.0).item(), abs=1e-6
    )


def test_bf16_autocast_does_not_reach_the_logits() -> None:
    pictures, texts = (x.float() for x in embeddings(UNEVEN))
    expected = contrastive_loss(pictures, texts, own(UNEVEN), 100.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert contrastive_loss(pictures, texts, own(UNEVEN), 100.0).item() == expected.item()


def test_the_gradient_equals_the_slope_of_the_naive_loss() -> None:
    pictures, texts = embeddings(UNEVEN)
    scale = torch.tensor(4.0, dtype=torch.float64)
    inputs = [pictures, texts, scale]
    leaves = [x.clone().requires_grad_() for x in inputs]
    contrastive_loss(leaves[0], leaves[1], own(UNEVEN), leaves[2]).backward()
    for which, leaf in enumerate(leaves):
        direction = torch.randn_like(leaf)
        ends = []
        for step in (1e-3, -1e-3):
            moved = [x + step * direction if k == which else x for k, x in enumerate(inputs)]
            ends.append(naive_loss(moved[0].numpy(), moved[1].numpy(), UNEVEN, moved[2].item()))
        assert leaf.grad is not None
        slope = (leaf.grad * direction).sum().item()
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-3, abs=1e-4)


def test_a_caption_without_a_picture_is_not_passed_over_in_silence() -> None:
    pictures, texts = embeddings(UNEVEN)
    extra, none = torch.cat([texts, texts[:1]]), torch.zeros(len(UNEVEN), 1, dtype=torch.bool)
    assert contrastive_loss(pictures, extra, torch.cat([own(UNEVEN), none], dim=1), 1.0).isnan()


@pytest.mark.parametrize("scale", [1.0, 14.3])
def test_pictures_with_several_captions_equal_a_naive_double_loop(scale: float) -> None:
    pictures, texts = embeddings([0, 1, 2, 3, 0])
    is_own = [[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    cosines = [[float(p @ c) for c in texts] for p in pictures]

    def entropy_from(rows: list[list[float]], wanted: list[list[int]]) -> float:
        """Mean over rows of the divergence from the uniform target to the softmax."""
        found = 0.0
        for row, own_ones in zip(rows, wanted, strict=True):
            total = sum(math.exp(scale * x) for x in row)
            target = 1 / sum(own_ones)
            for x, is_mine in zip(row, own_ones, strict=True):
                if is_mine:
                    found += target * math.log(target / (math.exp(scale * x) / total))
        return found / len(rows)

    across = [list(column) for column in zip(*cosines, strict=True)]
    owned = [list(column) for column in zip(*is_own, strict=True)]
    expected = (entropy_from(cosines, is_own) + entropy_from(across, owned)) / 2
    loss = contrastive_loss(pictures, texts, torch.tensor(is_own, dtype=torch.bool), scale)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
