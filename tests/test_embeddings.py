import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unclip.config.errors import UserError
from unclip.data import embeddings
from unclip.data.embeddings import Embeddings, mean_per_caption

K, L, D, TEXT_DIM = 5, 4, 3, 2
ARRAYS = {
    "train": np.ones((7, D), dtype=np.float32),
    "captions": np.ones((K, D), dtype=np.float32),
    "caption_mask": np.ones((K, L), dtype=np.bool_),
    "caption_encodings": np.ones((K, L, TEXT_DIM), dtype=np.float32),
}


@pytest.fixture
def folder(tmp_path):
    for name, array in ARRAYS.items():
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def test_arrays_that_fit_are_opened(folder):
    embeddings = Embeddings(folder)
    assert embeddings.images("train").shape == (7, D)
    assert embeddings.captions.shape == (K, D)
    assert embeddings.caption_mask.shape == (K, L)
    assert embeddings.encodings(embeddings.caption_mask[:2, 0].long()).shape == (2, L, TEXT_DIM)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("train", np.ones((7, D + 1), dtype=np.float32)),
        ("train", np.ones((7, D), dtype=np.float64)),
        ("train", np.ones(D, dtype=np.float32)),
        ("captions", np.ones((K, D, 1), dtype=np.float32)),
        ("caption_mask", np.ones((K, L), dtype=np.uint8)),
        ("caption_mask", np.ones((K + 1, L), dtype=np.bool_)),
        ("caption_encodings", np.ones((K + 1, L, TEXT_DIM), dtype=np.float32)),
        ("caption_encodings", np.ones((K, L + 1, TEXT_DIM), dtype=np.float32)),
    ],
)
def test_an_array_that_does_not_fit_is_named(folder, name, array):
    np.save(folder / f"{name}.npy", array)
    with pytest.raises(UserError, match=rf"{name}\.npy: is damaged .*train_clip"):
        Embeddings(folder).images("train")


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_named(folder, name):
    (folder / f"{name}.npy").unlink()
    with pytest.raises(UserError, match=rf"{name}\.npy: is missing; .*train_clip"):
        Embeddings(folder).images("train")


def unit(count, seed):
    draws = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 5, generator=draws), dim=-1)


def test_the_mean_of_each_caption_has_unit_norm():
    embeds, captions = unit(6, 1), torch.tensor([2, 0, 2, 0, 0, 2])
    found = mean_per_caption(embeds.numpy(), captions, 4)
    for caption in (0, 2):
        mean = sum(embeds[i] for i in range(6) if captions[i] == caption) / 3
        length = math.sqrt(sum(float(x) ** 2 for x in mean))
        assert found[caption].tolist() == pytest.approx((mean / length).tolist(), abs=1e-6)
    assert found[[1, 3]].tolist() == [[0.0] * 5] * 2


def test_the_mean_of_each_caption_is_the_same_in_chunks_of_any_size(monkeypatch):
    embeds, captions = unit(50, 1).numpy(), torch.arange(50, dtype=torch.int32) % 4
    found = []
    for size in (1, 7, 50, 1000):
        monkeypatch.setattr(embeddings, "CHUNK", size)
        found.append(mean_per_caption(embeds, captions, 4))
    assert all(torch.equal(each, found[0]) for each in found)
