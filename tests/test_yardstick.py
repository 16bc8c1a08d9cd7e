"""The yardstick's own choices; what its figures are is tested where each is made."""

import pytest
import torch

from unclip.evaluation.distances import split_real
from unclip.evaluation.manifold import overlap
from unclip.evaluation.yardstick import Yardstick

K, WIDTH, SEED = 3, 5, 0
NEIGHBOUR_FIGURES = ("precision", "recall", "density", "coverage")


def features(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def captions(count: int) -> torch.Tensor:
    return torch.arange(count) % 4


def yardstick(real: torch.Tensor, num_neighbour_pictures: int, seed: int = SEED) -> Yardstick:
    return Yardstick.of(
        real,
        captions(len(real)),
        num_neighbour_pictures=num_neighbour_pictures,
        neighbours=K,
        subsets=2,
        subset_size=10,
        seed=seed,
    )


@pytest.fixture
def seen(monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the neighbour figures were asked to look at: painted and real features, each time."""
    calls = []

    def remember(painted, real, **options):
        calls.append((painted, real))
        return overlap(painted, real, **options)

    monkeypatch.setattr("unclip.evaluation.yardstick.overlap", remember)
    return calls


@pytest.mark.parametrize("painted", [40, 41, 100])
def test_neighbour_figures_look_at_as_many_painted_as_real_pictures(seen, painted):
    yardstick(features(60, 1), 40).figures(features(painted, 2), captions(painted))
    ((ours, theirs),) = seen
    assert len(ours) == len(theirs) == 40
    assert torch.equal(theirs, features(60, 1)[:40])


def test_more_painted_pictures_are_chosen_from_once_each_and_not_from_the_front(seen):
    many = features(100, 2)
    for seed in (0, 0, 1):
        yardstick(features(60, 1), 40, seed).figures(many, captions(100))
    rows = [[many.tolist().index(row) for row in ours.tolist()] for ours, _ in seen]
    assert rows[0] == rows[1] != rows[2]
    assert len(set(rows[0])) == 40
    assert max(rows[0]) >= 40


def test_every_set_of_a_size_is_chosen_from_in_the_same_rows(seen):
    measured, many = yardstick(features(60, 1), 40), features(100, 2)
    measured.figures(many, captions(100))
    measured.figures(many + 1, captions(100))
    assert torch.equal(seen[0][0] + 1, seen[1][0])


def test_fewer_pictures_than_real_ones_are_refused():
    with pytest.raises(AssertionError, match="39 pictures beside 40 real ones"):
        yardstick(features(60, 1), 40).figures(features(39, 2), captions(39))
    with pytest.raises(AssertionError, match="60 real pictures are fewer than 61"):
        yardstick(features(60, 1), 61)


def test_figures_of_all_pictures_do_not_hang_on_those_chosen_for_neighbours():
    painted = features(100, 2)
    few, many = (
        yardstick(features(60, 1), count).figures(painted, captions(100)) for count in (20, 60)
    )
    for name in few.keys() - {*NEIGHBOUR_FIGURES, *(f"{n}_margin" for n in NEIGHBOUR_FIGURES)}:
        assert few[name] == many[name], name
    assert any(few[name] != many[name] for name in NEIGHBOUR_FIGURES)


def test_honest_pictures_reach_the_ceiling_although_too_few_are_real():
    """Of one distribution, 400 painted and 300 real: were all 400 looked at, coverage would rise.

    The seeds are many, so that chance is not what is measured.
    """
    gaps = []
    for seed in range(12):
        real = features(300, 100 + seed)
        split = split_real(torch.arange(300), 400, seed)
        measured = yardstick(real[split.reference], len(split.floor), seed)
        painted = measured.figures(features(400, 200 + seed), captions(400))
        ceiling = measured.figures(real[split.floor], captions(len(split.floor)))
        gaps.append([painted[name] - ceiling[name] for name in ("coverage", "recall")])
    assert torch.tensor(gaps).mean(dim=0).abs().max() < 0.02
