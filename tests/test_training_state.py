"""A training that is stopped anywhere and started again ends in the same bytes."""

import json
import os
import time

import pytest
import torch
from filelock import FileLock
from test_training import Log, Toy, run, same, toy_loss  # noqa: F401

from unclip.running.state import (
    DAYS_KEPT,
    FILES,
    STATE,
    Snapshot,
    TrainingState,
    key_of,
    open_state,
    remove_old,
)
from unclip.training.fit import Hook


class Stopped(Exception):
    pass


class EveryStep(TrainingState):
    """Saves after every step."""

    def is_due(self):
        return self.folder is not None


def stop_at(step):
    def act(at, _):
        if at == step:
            raise Stopped

    return Hook(1, act)


SEVERAL = {"train_steps": 402, "val_every": 201}  # two steps make a row of the history
MUON = {"optimizer": "muon", "ema_decay": 0.9}
STOPS = [({}, 2), ({}, 5), ({}, 9), ({"ema_decay": 0.9}, 2), ({"ema_decay": 0.9}, 9), (SEVERAL, 6)]
STOPS += [(MUON, 2), (MUON, 9)]


@pytest.mark.parametrize(("options", "stopped_at"), STOPS)
def test_a_stopped_training_ends_as_one_that_was_not(run, tmp_path, options, stopped_at):  # noqa: F811
    whole = run(**options)
    history = run.history.read_bytes()
    with pytest.raises(Stopped):
        run(state=EveryStep(tmp_path / "state"), hooks=(stop_at(stopped_at),), **options)
    seen = []

    def loss(model, step):
        seen.append(step)
        return toy_loss(model, step)

    again = run(state=TrainingState(tmp_path / "state"), loss=loss, **options)
    assert seen[0] == stopped_at - 1  # the last state is that of the step before
    assert same(again.weights, whole.weights)
    assert (again.kept_step, again.metrics) == (whole.kept_step, whole.metrics)
    assert run.history.read_bytes() == history


def test_a_finished_training_is_not_repeated(run, tmp_path):  # noqa: F811
    whole = run(state=TrainingState(tmp_path / "state"))
    again = run(state=TrainingState(tmp_path / "state"), loss=None)
    assert same(again.weights, whole.weights)


def test_the_log_of_a_resumed_training_has_every_row(run, tmp_path):  # noqa: F811
    whole, resumed = Log(), Log()
    run(log=whole)
    with pytest.raises(Stopped):
        run(state=EveryStep(tmp_path / "state"), hooks=(stop_at(6),))
    run(state=EveryStep(tmp_path / "state"), log=resumed)

    def by_step(log):
        merged: dict = {}
        for step, figures in log.rows:
            merged.setdefault(step, {}).update(figures)
        return merged

    assert by_step(resumed) == by_step(whole)


def test_it_says_from_where_it_goes_on(run, tmp_path, capsys):  # noqa: F811
    with pytest.raises(Stopped):
        run(state=EveryStep(tmp_path / "state"), hooks=(stop_at(6),))
    run(state=EveryStep(tmp_path / "state"))
    assert "train_toy: goes on from step 5 of 12" in capsys.readouterr().err


def test_a_state_is_not_saved_with_numbers_that_are_lost(run, tmp_path):  # noqa: F811
    def loss(model, step):
        return toy_loss(model, step) * (float("nan") if step == 5 else 1.0)

    with pytest.raises(Exception, match="at step 6"):
        run(loss=loss, train_steps=800, val_every=800, state=EveryStep(tmp_path / "state"))
    snapshot = TrainingState(tmp_path / "state").load()
    assert snapshot.step == 5
    assert all(t.isfinite().all() for t in snapshot.tensors.values() if t.is_floating_point())


# The folder


def snapshot(step=3):
    return Snapshot(step, {"model/w": torch.arange(4.0)}, {"rows": [{"step": 1, "a": 0.1}]})


def test_a_snapshot_comes_back_as_it_was(tmp_path):
    TrainingState(tmp_path / "s").save(snapshot())
    found = TrainingState(tmp_path / "s").load()
    assert (found.step, found.facts) == (3, snapshot().facts)
    assert torch.equal(found.tensors["model/w"], torch.arange(4.0))


def test_files_made_on_the_way_come_back_with_it(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    (made / "a.png").write_bytes(b"picture")
    TrainingState(tmp_path / "s", made).save(snapshot())
    (made / "a.png").unlink()
    made.rmdir()
    TrainingState(tmp_path / "s", made).load()
    assert (made / "a.png").read_bytes() == b"picture"


@pytest.mark.parametrize("damage", [b"", b"\x08\0\0\0\0\0\0\0{}", b"rubbish" * 50])
def test_a_damaged_state_starts_afresh(tmp_path, damage):
    TrainingState(tmp_path / "s").save(snapshot())
    (tmp_path / "s" / STATE).write_bytes(damage)
    assert TrainingState(tmp_path / "s").load() is None


def test_a_state_cut_short_starts_afresh(tmp_path):
    TrainingState(tmp_path / "s").save(snapshot())
    path = tmp_path / "s" / STATE
    path.write_bytes(path.read_bytes()[:-4])
    assert TrainingState(tmp_path / "s").load() is None


def test_no_folder_keeps_nothing(tmp_path):
    state = TrainingState(None)
    state.save(snapshot())
    assert not state.is_due()
    assert state.load() is None


def test_a_disk_that_takes_no_more_is_told_once_and_tried_again(tmp_path, monkeypatch, capsys):
    state = TrainingState(tmp_path / "s")
    state.save(snapshot(1))

    def full(_, path, **__):
        path.write_bytes(b"as much as there was room for")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("unclip.running.state.save_file", full)
        state.save(snapshot(2))
        state.save(snapshot(3))
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert state.load().step == 1
    assert not list((tmp_path / "s").glob("*.tmp"))
    state.save(snapshot(4))
    assert state.load().step == 4


def test_hooks_are_told_that_a_training_goes_on(run, tmp_path):  # noqa: F811
    told = []
    telling = Hook(1, lambda step, _: None, go_on=lambda: told.append("on"))
    with pytest.raises(Stopped):
        run(state=EveryStep(tmp_path / "state"), hooks=(telling, stop_at(5)))
    assert told == []
    run(state=EveryStep(tmp_path / "state"), hooks=(telling,))
    assert told == ["on"]


def test_a_folder_in_use_is_left_to_who_uses_it(tmp_path):
    one, other = (open_state(tmp_path, "train_toy", "k") for _ in range(2))
    with one as first, other as second:
        assert first.folder is not None
        assert second.folder is None
    with open_state(tmp_path, "train_toy", "k") as third:
        assert third.folder == first.folder


def old(folder, days):
    folder.mkdir(parents=True)
    (folder / STATE).write_bytes(b"")
    then = time.time() - days * 86400
    for path in (folder / STATE, folder):
        os.utime(path, (then, then))


def test_finished_and_aged_states_of_other_values_are_removed(tmp_path):
    old(tmp_path / "train_toy" / "aged", DAYS_KEPT + 1)
    old(tmp_path / "train_toy" / "young", DAYS_KEPT - 1)
    old(tmp_path / "train_other" / "aged", DAYS_KEPT + 1)
    with open_state(tmp_path, "train_toy", "done") as state:
        state.save(snapshot())
        state.finish()
    with open_state(tmp_path, "train_toy", "now"):
        assert sorted(p.name for p in (tmp_path / "train_toy").iterdir()) == ["now", "young"]
    assert (tmp_path / "train_other" / "aged").exists()


def test_a_state_in_use_is_not_removed(tmp_path):
    folder = tmp_path / "train_toy" / "busy"
    old(folder, DAYS_KEPT + 1)
    with FileLock(folder / "lock"):
        remove_old(tmp_path / "train_toy", besides=tmp_path)
    assert folder.exists()


# The key


def test_the_key_follows_facts_files_and_their_names(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1")
    for name in ("a.pyc", ".DS_Store", "a.py~"):
        (tmp_path / "code" / name).write_text("left behind")

    def key(lr):
        return key_of({"lr": lr}, tmp_path, ["code"])

    first = key(1)
    assert key(1) == first
    (tmp_path / "code" / ".DS_Store").write_text("left behind anew")
    (tmp_path / "code" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "code" / ".ipynb_checkpoints" / "a-checkpoint.py").write_text("1")
    (tmp_path / "code" / "._a.py").write_text("macOS")
    (tmp_path / "code" / ".#a.py").symlink_to("user@host.123")  # Emacs; it leads nowhere
    (tmp_path / "code" / "a.py~").unlink()
    assert key(1) == first
    keys = {first, key(2)}
    (tmp_path / "code" / "a.py").write_text("2")
    keys.add(key(1))
    (tmp_path / "code" / "a.py").rename(tmp_path / "code" / "b.py")
    keys.add(key(1))
    assert len(keys) == 4


def test_facts_are_json_so_that_nothing_is_ever_unpickled(tmp_path):
    TrainingState(tmp_path / "s").save(snapshot())
    header = (tmp_path / "s" / STATE).read_bytes()
    length = int.from_bytes(header[:8], "little")
    facts = json.loads(json.loads(header[8 : 8 + length])["__metadata__"]["facts"])
    assert facts["step"] == 3
    assert FILES not in facts
