"""The parts that several processes have in a batch, computed in one process; see also
test_several_processes.py."""

import pytest
import torch

from unclip.config.errors import UserError
from unclip.models.clip import contrastive_loss
from unclip.running import processes
from unclip.training.share import Share

COUNTS = pytest.mark.parametrize("count", [1, 2, 3, 4])


def shares(count: int) -> list[Share]:
    return [Share(index, count) for index in range(count)]


@COUNTS
def test_every_row_of_a_batch_is_one_process_s(count):
    whole = torch.arange(24).view(12, 2)
    parts = [share.rows(whole) for share in shares(count)]
    assert torch.equal(torch.cat(parts), whole)
    assert {len(part) for part in parts} == {12 // count}


@COUNTS
@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_items_of_any_number_are_shared_in_order_and_alike(count, length):
    parts = [share.some_of(length) for share in shares(count)]
    assert len({len(part) for part in parts}) == 1
    together = torch.cat(parts)
    assert together[:length].tolist() == list(range(length))
    assert set(together[length:].tolist()) <= set(range(length))


@COUNTS
def test_the_mean_loss_is_that_of_all_items_each_computed_by_one_process(count, monkeypatch):
    losses, seen, totals = torch.arange(7.0), [], []

    def loss_of(batch, index):
        seen.append((batch, index.tolist()))
        return losses[index].mean()

    monkeypatch.setattr("unclip.training.share.gather_object", lambda own: totals.extend(own) or [])
    for share in shares(count):
        mean = share.mean_loss(loss_of, num_items=7, batch_size=2)
    assert sorted(seen) == [(0, [0, 1]), (1, [2, 3]), (2, [4, 5]), (3, [6])]
    assert (mean if count == 1 else sum(totals) / 7) == 3


def test_one_process_has_everything_and_asks_nobody():
    alone, rows = Share(), torch.arange(6)
    assert alone.leads
    assert torch.equal(alone.rows(rows), rows)
    assert alone.gathered(rows) is rows
    assert alone.mean_loss(lambda _, index: index.float().mean(), 6, 4) == 2.5


@COUNTS
def test_the_average_gradient_of_gathered_rows_is_that_of_the_whole(count, monkeypatch):
    torch.manual_seed(0)
    weight, images = torch.randn(4, 3, dtype=torch.float64), torch.randn(12, 4).double()
    texts, is_own = torch.randn(5, 3).double(), torch.rand(12, 5) < 0.5
    is_own[:, 0] = is_own[0] = True

    def gradient(share: Share) -> torch.Tensor:
        own = weight.clone().requires_grad_()
        embeds = share.gathered(share.rows(images) @ own)
        contrastive_loss(embeds, texts, is_own, 1.0).backward()
        return own.grad

    def all_gather(parts: list[torch.Tensor], _: torch.Tensor) -> None:
        for part, share in zip(parts, shares(count), strict=True):
            part.copy_(share.rows(images) @ weight)

    whole = gradient(Share())
    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    average = sum(gradient(share) for share in shares(count)) / count
    assert torch.allclose(average, whole, rtol=1e-6)


def test_a_batch_that_cannot_be_shared_evenly_is_named():
    processes.require_even_shares(16, "prior.batch_size", 4)
    with pytest.raises(UserError, match=r"^prior\.batch_size: 16 is not a multiple of 3, .*set UN"):
        processes.require_even_shares(16, "prior.batch_size", 3)


# In how many processes a stage starts


@pytest.fixture
def asked(monkeypatch):
    """The machine's setting is two processes, and no launcher has started this one."""
    monkeypatch.setenv("UNCLIP_PROCESSES", "2")
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)


def test_only_shared_work_is_started_in_several_processes(asked):
    assert processes.num_to_start("train_prior", is_shared=True) == 2
    assert processes.num_to_start("train_judge", is_shared=False) == 1


def test_a_process_that_a_launcher_started_starts_no_others(asked, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert processes.num_to_start("train_prior", is_shared=True) == 1


def test_work_for_one_that_a_launcher_started_in_several_is_refused(asked, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"^train_judge: was started in 3 .*stages\.train_judge"):
        processes.num_to_start("train_judge", is_shared=False)


@pytest.mark.parametrize("number", ["0", "-1", "two", "1025"])
def test_a_number_of_processes_that_makes_no_sense_is_named(asked, monkeypatch, number):
    monkeypatch.setenv("UNCLIP_PROCESSES", number)
    with pytest.raises(UserError, match=f"^UNCLIP_PROCESSES: '{number}' is not allowed"):
        processes.num_to_start("train_prior", is_shared=True)


@pytest.mark.parametrize(
    ("error", "rank", "speaks", "waits"),
    [
        (UserError("lr is too high"), "0", True, False),
        (UserError("lr is too high"), "1", True, True),
        (RuntimeError("connection closed by peer"), "0", True, True),
        (KeyboardInterrupt(), "0", False, False),
    ],
)
def test_who_may_be_ended_by_the_launcher_waits_for_that_before_it_speaks(
    asked, monkeypatch, error, rank, speaks, waits
):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert processes.is_to_explain(error)  # alone
    assert waited == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    assert processes.is_to_explain(error) is speaks
    assert (waited != []) is waits
