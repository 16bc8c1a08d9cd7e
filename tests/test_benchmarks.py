"""The benchmarks: fair turns, equal work, a baseline that is as naive as it says, honest files."""

import json
import os
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from systems import random_system
from tiny_params import REPO, tiny_params

from benchmarks import naive, peer
from benchmarks.ours import count_flops
from benchmarks.report import Table, add_section
from benchmarks.turns import Contender, Work, alternate, take_turns
from stages.train_decoder import MODEL_KEYS
from unclip.params.loading import load_params, validate_params

TOLERANCE = 0.05  # how far the peer's floating-point operations may be from ours


def test_contenders_take_turns_that_are_filled_with_units_and_timed_by_one():
    log: list[tuple[str, int]] = []

    def pretend(name: str, seconds_a_unit: float, count: int) -> float:
        log.append((name, count))
        return count * seconds_a_unit

    timers = {"A": partial(pretend, "A", 0.125), "B": partial(pretend, "B", 2.0)}
    seconds = alternate(timers, rounds=2, turn_seconds=1.0)
    assert log[-4:] == [("A", 8), ("B", 1)] * 2
    assert seconds == {"A": [0.125] * 2, "B": [2.0] * 2}


def nap(seconds: float) -> Work:
    return Work(lambda count: time.sleep(count * seconds), {"process": os.getpid()})


def fail() -> Work:
    raise ValueError("no such contender")


@pytest.mark.extra
def test_contenders_work_in_processes_of_their_own_and_tell_what_failed():
    contenders = {
        **{name: Contender("ours", partial(nap, 0.02)) for name in "AB"},
        "C": Contender("theirs", partial(nap, 0.02)),
    }
    timings = take_turns(contenders, rounds=1, turn_seconds=0.0)
    assert all(0.02 <= timing.median < 1.0 for timing in timings.values())
    first, second, other = (timing.facts["process"] for timing in timings.values())
    assert first == second != other != os.getpid()
    with pytest.raises(ValueError, match="no such contender"):
        take_turns({"D": Contender("ours", fail)}, rounds=1, turn_seconds=0.0)


def test_a_section_takes_the_place_of_its_last_one_and_leaves_the_others(tmp_path):
    columns = {"name": ("way", ""), "median": ("ms a step", ",.1f")}
    rows = [{"name": "ours", "median": 1234.56, "seconds": [1.2, 1.3]}, {"name": "another"}]
    add_section(tmp_path, "training", [Table("Old", columns, [])])
    add_section(tmp_path, "sampling", [Table("Kept", columns, [])])
    add_section(tmp_path, "training", [Table("Steps", columns, rows, "a note")])
    sections = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
    assert sections["training"]["tables"][0]["rows"] == rows
    lines = (tmp_path / "benchmarks.md").read_text(encoding="utf-8").splitlines()
    assert {"### Kept", "### Steps", "a note"} <= set(lines)
    assert "### Old" not in lines
    assert "| ours | 1,234.6 |" in lines
    assert "| another | – |" in lines


def test_fused_attention_of_the_processor_is_counted():
    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    flops = count_flops(lambda: F.scaled_dot_product_attention(q, k, v))
    assert flops == 2 * (2 * 2 * 3 * 5 * 5 * 8)  # two products of 2 × 3 heads, 5 × 5 × 8


def test_the_peer_of_the_shipped_decoder_does_as_many_operations():
    decoder = load_params(REPO / "params.yaml").decoder
    config = {key: getattr(decoder, key) for key in MODEL_KEYS}
    config |= {"image_size": 32, "in_channels": 3, "embed_dim": 64}
    config |= {"vocab_size": 256, "text_length": 64}
    found = peer.Peer(config, peer.matched_widths(config))
    ours = peer.flops_of(peer.UNet(**config), config)
    x_t, t, embeds = torch.randn(2, 3, 32, 32), torch.zeros(2).long(), torch.randn(2, 64)
    flops = count_flops(lambda: found(x_t, t, embeds).sum().backward())
    assert abs(flops / (2 * ours) - 1) <= TOLERANCE


class Spy:
    """Keeps the arguments of each call of a method."""

    def __init__(self, owner, name: str, monkeypatch) -> None:
        self.calls: list[tuple] = []
        original = getattr(owner, name)

        def spied(*arguments, **options):
            self.calls.append(arguments)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, spied)


@pytest.fixture
def system():
    return random_system()


@pytest.fixture
def decoder():
    return validate_params(tiny_params(), where="tiny").decoder


def test_the_naive_step_encodes_everything_anew_and_trains_the_decoder_alone(
    system, decoder, monkeypatch
):
    texts = Spy(system.clip, "encode_text", monkeypatch)
    images = Spy(system.clip, "encode_image", monkeypatch)
    priors = Spy(system.prior, "forward", monkeypatch)
    before = [p.clone() for p in system.decoder.parameters()]
    step = naive.training_step(system, decoder)
    step()
    step()
    batch, length = decoder.batch_size, system.text_length
    assert [call[0].shape for call in texts.calls] == [(batch, length)] * 2
    assert [len(call[0]) for call in images.calls] == [batch] * 2
    assert [len(call[0]) for call in priors.calls] == [naive.CANDIDATES * batch] * 2
    pairs = zip(before, system.decoder.parameters(), strict=True)
    assert not all(torch.equal(old, new) for old, new in pairs)
    assert not any(p.requires_grad for p in (*system.clip.parameters(), *system.prior.parameters()))


def test_every_naive_sampling_step_asks_clip_the_prior_and_the_decoder_again(
    system, decoder, monkeypatch
):
    texts = Spy(system.clip, "encode_text", monkeypatch)
    priors = Spy(system.prior, "forward", monkeypatch)
    decoders = Spy(system.decoder, "forward", monkeypatch)
    naive.sample(system, decoder, ["a red circle"] * 3, steps=4)
    assert (len(texts.calls), len(priors.calls), len(decoders.calls)) == (4, 4, 4)
    last = decoder.num_timesteps - 1
    assert [int(call[1][0]) for call in decoders.calls] == [last, last - 1, last - 2, last - 3]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)


def test_unknown_sections_are_refused():
    done = benchmarks("--only", "training,speed")
    assert done.returncode == 2
    assert "speed" in done.stderr


@pytest.mark.extra
def test_the_quick_run_measures_all(tmp_path):
    done = benchmarks("--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    sections = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
    assert list(sections) == ["training", "sampling", "commands"]
    for name, section in sections.items():
        for table in section["tables"]:
            for row in table["rows"]:
                assert all(row.get(key) != 0 for key in table["columns"]), (name, row)
    ways = {row["name"]: row for row in sections["training"]["tables"][1]["rows"]}
    ours, theirs = ways["ours"], ways["diffusers, our FLOPs"]
    assert abs(theirs["flops"] / ours["flops"] - 1) <= TOLERANCE
    assert theirs["precision"] == ours["precision"]
