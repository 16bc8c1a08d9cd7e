"""A stage's run in MLflow: never in the way of the training, and quiet when MLflow fails."""

import ast
import contextlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unclip.config.errors import UserError
from unclip.tracking import live
from unclip.tracking.live import StageRun
from unclip.tracking.store import Run


@pytest.fixture(autouse=True)
def _clean_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "UNCLIP_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


class FakeStore:
    """Remembers what was written; `fail_at` names the call that raises, `gate` holds all back."""

    def __init__(self, fail_at: str = "", gate: threading.Event | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fail_at, self.gate = fail_at, gate

    def _note(self, name: str, value: Any) -> None:
        if self.gate:
            self.gate.wait(30)
        if name == self.fail_at:
            raise RuntimeError("disk full\nand more lines")
        self.calls.append((name, value))

    def find_runs(self, *args: Any, **kwargs: Any) -> list[Run]:
        return []

    def create_run(self, experiment: str, name: str, tags: dict, started: int) -> str:
        self._note("create", {"experiment": experiment, "name": name, **tags})
        return "r1"

    def log(self, run_id: str, points: Any = (), params: Any = None, tags: Any = None) -> None:
        if params is not None:
            self._note("params", params)
        if points:
            self._note("points", [(p.key, p.value, p.step) for p in points])
        if tags is not None:
            self._note("tags", tags)

    @property
    def client(self) -> Any:
        return self

    def log_image(self, run_id: str, image: Any, key: str, step: int) -> None:
        self._note("image", (np.asarray(image).copy(), key, step))

    def set_terminated(self, run_id: str, status: str) -> None:
        self._note("finish", status)

    def seen(self, name: str) -> list[Any]:
        return [value for called, value in self.calls if called == name]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    fake = FakeStore()
    monkeypatch.setattr(live, "open_store", lambda: fake)
    return fake


def test_mlflow_is_imported_only_inside_functions():
    for path in Path(live.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            assert not (
                isinstance(node, (ast.Import, ast.ImportFrom)) and "mlflow" in ast.unparse(node)
            )


def test_switched_off_it_starts_no_thread_and_writes_nothing(
    tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("UNCLIP_TRACKING", "off")
    before = threading.active_count()
    with StageRun("train_clip", {}) as run:
        run.log_metrics(1, {"loss": 1.0})
        run.log_image("x", Image.new("L", (2, 2)), 1)
        run.set_tags({"a": "b"})
        assert threading.active_count() == before
    assert store.calls == []
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_switch_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UNCLIP_TRACKING", "maybe")
    with pytest.raises(UserError, match="UNCLIP_TRACKING"):
        StageRun("train_clip", {})


def test_everything_arrives_in_order(store: FakeStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DVC_EXP_NAME", "fox")
    with StageRun("train_clip", {"clip": {"lr": 0.1}}) as run:
        run.log_metrics(10, {"loss": 2.0, "val": float("inf")})
        run.log_metrics(20, {"loss": float("nan")})
        run.log_metrics(30, {"loss": 1.0})
        run.set_tags({"output_hash": "abc"})
    names = [name for name, _ in store.calls]
    assert names == ["create", "params", "points", "tags", "finish"]
    assert store.seen("create")[0].items() >= {"stage": "train_clip", "dvc_exp": "fox"}.items()
    assert store.seen("params") == [{"clip.lr": "0.1"}]
    assert store.seen("points") == [[("loss", 2.0, 10), ("loss", 1.0, 30)]]
    assert store.seen("tags") == [{"output_hash": "abc"}]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_the_status_tells_how_the_stage_ended(store: FakeStore, error: Any, status: str):
    expected = pytest.raises(error) if error else contextlib.nullcontext()
    with expected, StageRun("train_clip", {}):
        if error:
            raise error
    assert store.seen("finish") == [status]


def test_what_was_handed_over_may_be_changed_afterwards(store: FakeStore):
    image, metrics = Image.new("RGB", (2, 2)), {"loss": 1.0}
    with StageRun("train_clip", {}) as run:
        run.log_image("grid", image, 5)
        run.log_metrics(5, metrics)
        image.putpixel((0, 0), (255, 255, 255))
        metrics["loss"] = 9.0
    assert store.seen("image")[0][0].max() == 0
    assert store.seen("points") == [[("loss", 1.0, 5)]]


def test_a_store_that_hangs_never_holds_up_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    gate = threading.Event()
    fake = FakeStore(gate=gate)
    monkeypatch.setattr(live, "open_store", lambda: fake)
    monkeypatch.setattr(live, "EXIT_SECONDS", 0.1)
    with StageRun("train_clip", {}) as run:
        for step in range(5000):
            run.log_metrics(step, {"loss": 1.0})
    assert fake.calls == []  # reached although the store never answered
    assert capsys.readouterr().err.count("warning") == 1
    gate.set()
    run._thread.join(30)


@pytest.mark.parametrize("call", ["create", "params", "points", "image", "tags", "finish"])
def test_a_failing_call_warns_once_in_one_line_and_training_goes_on(
    call: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(live, "open_store", lambda: FakeStore(fail_at=call))
    done = False
    with StageRun("train_clip", {}) as run:
        for step in range(3):
            run.log_metrics(step, {"loss": 1.0})
            run.log_image("grid", Image.new("RGB", (2, 2)), step)
            run.set_tags({"a": "b"})
        done = True
    error = capsys.readouterr().err
    assert done
    assert error.count("\n") == 1
    assert all(part in error for part in ("disk full", "train_clip goes on", "cli.py log"))


def test_a_place_that_can_not_be_written_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    with StageRun("train_clip", {}) as run:
        run.log_metrics(1, {"loss": 1.0})
    assert capsys.readouterr().err.count("\n") == 1
