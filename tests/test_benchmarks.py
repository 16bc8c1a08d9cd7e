"""The benchmarks: fair turns, equal work, a baseline that is as naive as it says, honest files."""

import importlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from tiny_params import REPO
from torch.testing import assert_close

from benchmarks import naive, peer_network
from benchmarks.child import anonymous_memory, run_child
from benchmarks.flops import count_flops
from benchmarks.report import Bar, Column, Report, Section, Table
from benchmarks.stopwatch import Stopwatch, replace_attribute
from benchmarks.tables import to_markdown
from benchmarks.timed_stage import CATEGORIES, STEPS, WRITER
from benchmarks.timing import Timing, ratio, take_turns
from benchmarks.worker import Work, Workers
from benchmarks.workspace import SHIPPED, changed_params
from stages.train_decoder import MODEL_KEYS
from unclip.data.prepared import Prepared


class Pretended:
    """A contender whose units take a given time, by its own account."""

    def __init__(self, name: str, seconds_a_unit: float, log: list[tuple[str, int]]) -> None:
        self.name, self.seconds_a_unit, self.log = name, seconds_a_unit, log

    def seconds(self, count: int) -> float:
        self.log.append((self.name, count))
        return count * self.seconds_a_unit


def test_contenders_take_turns():
    log: list[tuple[str, int]] = []
    contenders = {name: Pretended(name, 2.0, log) for name in "AB"}
    take_turns(contenders, rounds=3, turn_seconds=0.0)
    assert [name for name, _ in log][2:] == ["A", "B"] * 3


def test_a_turn_is_filled_with_units_and_a_timing_is_of_one_unit():
    log: list[tuple[str, int]] = []
    timings = take_turns({"A": Pretended("A", 0.125, log)}, rounds=2, turn_seconds=1.0)
    assert log[-2:] == [("A", 8), ("A", 8)]
    assert timings["A"].samples == [0.125, 0.125]


def test_a_ratio_is_of_medians_and_heeds_no_outlier():
    slow, fast = Timing([6.0, 2.0, 2.0]), Timing([1.0, 0.5, 100.0])
    assert ratio(slow, fast) == 2.0
    assert fast.minimum == 0.5


@pytest.mark.parametrize(
    ("value", "at_least", "is_met"), [(3.0, True, False), (3.0, False, True), (4.0, True, True)]
)
def test_a_bar_is_met_on_its_own_side(value, at_least, is_met):
    assert Bar("some", value, 4.0, at_least, "×").is_met is is_met


def some_report() -> Report:
    columns = [Column("name", "way"), Column("median", "ms a step", "{:,.1f}")]
    rows = [{"name": "ours", "median": 1234.56, "seconds": [1.2, 1.3]}, {"name": "a|b"}]
    environment = {"processor": "some", "cores": 2, "threads": 1, "memory": 2**30, "torch": "2"}
    environment |= {"date": "today", "command": "python -m benchmarks"}
    bars = [Bar("ratio", 3.5, 4, True, "×"), Bar("share", 0.02, 0.03, False, "%")]
    table = Table("Steps", columns, rows, "a note")
    return Report({"training": Section("training", environment, [table], bars, "figure.png")})


def test_a_report_comes_back_from_its_json(tmp_path):
    some_report().write(tmp_path / "folder" / "benchmarks.json")
    assert Report.at(tmp_path / "folder" / "benchmarks.json") == some_report()
    assert Report.at(tmp_path / "missing.json") == Report()


def test_markdown_shows_each_row_a_dash_for_what_is_missing_and_the_bars():
    lines = to_markdown(some_report()).splitlines()
    assert "| ours | 1,234.6 |" in lines
    assert "| a/b | – |" in lines
    assert "| ratio | 3.5 × | ≥ 4 × | no |" in lines
    assert "| share | 2.0% | ≤ 3.0% | yes |" in lines


def test_fused_attention_of_the_processor_is_counted():
    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    flops = count_flops(lambda: F.scaled_dot_product_attention(q, k, v))
    assert flops == 2 * (2 * 2 * 3 * 5 * 5 * 8)  # two products of 2 × 3 heads, 5 × 5 × 8


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0, 1.3])
def test_widths_are_found_for_any_amount_of_work(share):
    def flops_of(widths: tuple[int, ...]) -> int:
        return sum(1000 * width * width // 4**level for level, width in enumerate(widths))

    target = int(share * flops_of((32, 64, 128)))
    found = peer_network.match_widths((32, 64, 128), flops_of, target)
    assert abs(flops_of(found) / target - 1) <= peer_network.AIM
    assert all(width % peer_network.WIDTH_STEPS[-1] == 0 for width in found)


def shipped_config() -> dict:
    decoder = changed_params(SHIPPED, 64).decoder
    config = {key: getattr(decoder, key) for key in MODEL_KEYS}
    sizes = {"image_size": 32, "in_channels": 3, "embed_dim": 64}
    return config | sizes | {"vocab_size": 256, "text_length": 64}


def test_the_peer_of_the_shipped_decoder_does_as_many_operations():
    config = shipped_config()
    found = peer_network.matched_peer(config)
    x_t, t, embeds = torch.randn(2, 3, 32, 32), torch.zeros(2).long(), torch.randn(2, 64)
    assert found(x_t, t, embeds).shape == x_t.shape
    flops = count_flops(lambda: found(x_t, t, embeds).sum().backward())
    assert abs(flops / (2 * peer_network.flops_of_ours(config)) - 1) <= peer_network.TOLERANCE


class Spy:
    """Counts calls of a method and keeps their arguments."""

    def __init__(self, owner, name: str, monkeypatch) -> None:
        self.calls: list[tuple] = []
        original = getattr(owner, name)

        def spied(*arguments, **options):
            self.calls.append(arguments)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, spied)


@pytest.fixture
def system(trained) -> naive.NaiveSystem:
    return naive.NaiveSystem.load(trained.layout.root, "cpu")


def test_the_naive_step_encodes_everything_anew_and_trains_the_decoder_alone(
    system, trained, monkeypatch
):
    texts = Spy(system.clip, "encode_text", monkeypatch)
    images = Spy(system.clip, "encode_image", monkeypatch)
    priors = Spy(system.prior, "forward", monkeypatch)
    optimizers = Spy(torch.optim.AdamW, "step", monkeypatch)
    decoder = trained.params.decoder
    before = [p.clone() for p in system.decoder.parameters()]
    step = naive.training_step(system, Prepared(trained.layout.prepared), decoder)
    step()
    step()
    batch, length = decoder.batch_size, system.text_length
    assert [call[0].shape for call in texts.calls] == [(batch, length)] * 2
    assert [len(call[0]) for call in images.calls] == [batch] * 2
    assert [len(call[0]) for call in priors.calls] == [naive.CANDIDATES * batch] * 2
    group = optimizers.calls[0][0].param_groups[0]
    assert (group["foreach"], group["fused"]) == (False, False)
    assert {p.dtype for p in system.decoder.parameters()} == {torch.float32}
    pairs = zip(before, system.decoder.parameters(), strict=True)
    assert not all(torch.equal(old, new) for old, new in pairs)
    assert not any(p.requires_grad for p in (*system.clip.parameters(), *system.prior.parameters()))


def test_every_naive_sampling_step_asks_clip_the_prior_and_the_decoder_again(system, monkeypatch):
    texts = Spy(system.clip, "encode_text", monkeypatch)
    priors = Spy(system.prior, "forward", monkeypatch)
    decoders = Spy(system.decoder, "forward", monkeypatch)
    with torch.no_grad():
        system.sample(["a large red circle"] * 3, (3, 16, 16), steps=4)
    assert (len(texts.calls), len(priors.calls), len(decoders.calls)) == (4, 4, 4)
    last = system.decoder_diffusion.num_timesteps - 1
    assert [int(call[1][0]) for call in decoders.calls] == [last, last - 1, last - 2, last - 3]


def test_of_the_naive_candidates_the_one_nearest_its_caption_is_taken(system, monkeypatch):
    drawn = torch.randn(4, system.prior.embed_dim)
    monkeypatch.setattr(system.prior, "forward", lambda *_: drawn)
    captions = ["a large red circle", "a small blue star"]
    taken = system.condition(captions)
    texts, _ = system.clip.encode_text(*naive.tokenize(captions, system.text_length))
    for row, text in enumerate(texts):
        two = F.normalize(drawn[2 * row : 2 * row + 2], dim=-1)
        assert_close(taken[row], max(two, key=lambda candidate: float(candidate @ text)))


def test_a_stopwatch_counts_what_begins_inside_another_once():
    watch = Stopwatch()
    inner = watch.timed("data", lambda: time.sleep(0.05))
    watch.timed("compute", inner)()
    assert watch.spent["data"] >= 0.05
    assert watch.spent["compute"] < 0.04


def test_a_stopwatch_leaves_other_threads_alone():
    watch = Stopwatch()
    thread = threading.Thread(target=watch.timed("tracking", lambda: None))
    thread.start()
    thread.join()
    assert dict(watch.spent) == {}


def test_a_timed_iterator_gives_all_items_and_notes_a_lap_of_each():
    watch = Stopwatch()
    assert list(watch.timed_iterator("compute", lambda: iter([1, 2, 3]))()) == [1, 2, 3]
    assert len(watch.laps) == 3


def test_a_replaced_function_is_replaced_where_it_was_imported_to(monkeypatch):
    home, user = ModuleType("unclip.made_up_home"), ModuleType("stages.made_up_user")
    home.work = user.work = lambda: "original"
    for module in (home, user):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    replace_attribute("unclip.made_up_home:work", lambda original: lambda: "wrapped")
    assert (home.work(), user.work()) == ("wrapped", "wrapped")
    replace_attribute("unclip.never_loaded:work", lambda original: original)
    with pytest.raises(AttributeError):
        replace_attribute("unclip.made_up_home:gone", lambda original: original)


@pytest.mark.parametrize("target", [STEPS, WRITER, *(t for ts in CATEGORIES.values() for t in ts)])
def test_every_function_that_a_stage_is_timed_by_is_there(target):
    module, _, path = target.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found)


def nap(seconds: float) -> Work:
    return Work(lambda count: time.sleep(count * seconds), {"seconds": seconds})


def fail() -> Work:
    raise ValueError("no such contender")


@pytest.mark.slow
def test_a_worker_times_its_work_in_its_own_process_and_tells_what_failed():
    with Workers() as workers:
        work = workers.ours.build(nap, 0.02)
        assert work.facts == {"seconds": 0.02}
        assert 0.06 <= work.seconds(3) < 1.0
        with pytest.raises(RuntimeError, match="no such contender"):
            workers.ours.build(fail)
        workers.forget()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_the_peak_of_a_childs_memory_is_seen(tmp_path):
    script = "import time; kept = bytearray(b'x') * 50_000_000; time.sleep(0.2)"
    finished = run_child([sys.executable, "-c", script], tmp_path)
    assert finished.peak_memory is not None
    assert 50_000_000 <= finished.peak_memory < 100_000_000
    assert finished.seconds >= 0.2
    assert anonymous_memory(2**22 + 1) is None


def test_a_child_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="out of paint"):
        run_child([sys.executable, "-c", "raise SystemExit('out of paint')"], tmp_path)


def test_unknown_sections_are_refused():
    command = [sys.executable, "-m", "benchmarks", "--only", "training,speed"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "speed" in done.stderr


@pytest.mark.slow
def test_the_quick_run_measures_all_and_keeps_what_it_does_not_measure_again(tmp_path):
    kept = some_report().sections["training"]
    Report({"kept": replace(kept, name="kept")}).write(tmp_path / "benchmarks.json")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sections = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))["sections"]
    assert list(sections) == ["kept", "training", "sampling", "stages", "growth"]
    for name in ("training", "sampling", "stages"):
        assert all(bar["value"] > 0 for bar in sections[name]["bars"]), name
    ways = {row["name"]: row for row in sections["training"]["tables"][1]["rows"]}
    ours, theirs = ways["ours"], ways["diffusers, our FLOPs"]
    assert abs(theirs["flops"] / ours["flops"] - 1) <= peer_network.TOLERANCE
    assert theirs["precision"] == ours["precision"]
    stages = sections["stages"]["tables"][0]["rows"]
    for row in stages:
        parts = ("startup", *CATEGORIES, "other", "exit")
        assert sum(row[part] for part in parts) == pytest.approx(row["total"])
        assert row["other"] >= 0
    assert (tmp_path / sections["growth"]["figure"]).stat().st_size > 1000
    assert "## Growth" in (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
