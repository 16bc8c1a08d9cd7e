"""The state of a training that was interrupted, so that it goes on where it stopped.

It lies outside of what DVC manages, in `.state/<stage>/<key>/` of the main repository: DVC deletes
a stage's outs before it runs the stage again. The key stands for everything that the result
depends on (params, inputs, code, machine), so another value of anything starts afresh.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unclip.core.files import replaced

SECONDS_BETWEEN_SAVES = 45.0
DAYS_KEPT = 14  # unfinished states of other values, which may be wanted again
STATE = "state.safetensors"
FILES = "files"
FINISHED = "finished"
ROOM = "room"


@dataclass(frozen=True)
class Snapshot:
    """All that a training is at one step.

    Attributes:
        step: how many steps lie behind.
        tensors: weights, EMA, optimizer, the weights to keep so far: `part/name` → tensor.
        facts: everything else, as JSON has it.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def part_of(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """Returns the tensors of one part of a snapshot, by their own names."""
    prefix = f"{part}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def key_of(facts: dict[str, Any], root: Path, paths: Iterable[str]) -> str:
    """Returns a hash of JSON facts and of the contents of files and folders.

    Args:
        facts: params, and what of the machine can change a bit of the result.
        root: the workspace, which may lie anywhere.
        paths: inputs and code, below root.
    """
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for path in (root / path for path in paths):
        inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")
        for file in inside if path.is_dir() else [path]:
            name = file.relative_to(root).as_posix()
            digest.update(f"\n{name}\n{file.stat().st_size}\n".encode())
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()


class TrainingState:
    """One folder with the latest snapshot of a training, in use by one process.

    Room on the disk for a snapshot and for the results is set aside at once, and given back when
    they are written: others may fill the disk in between.

    Args:
        folder: `.state/<stage>/<key>`; None keeps nothing, and every save is ignored.
        made: a folder that the training writes files into on the way, which belong to the state.
        room: how many bytes to set aside.
    """

    def __init__(self, folder: Path | None, made: Path | None = None, room: int = 0) -> None:
        self.folder, self.made, self.room = folder, made, room
        self._last_save = time.monotonic()
        self._has_warned = False
        if folder is not None:
            self._set_room_aside(folder)

    def load(self) -> Snapshot | None:
        """Returns the latest snapshot, its files put back, or None where there is none to use."""
        if self.folder is None or not (self.folder / STATE).exists():
            return None
        try:
            with safe_open(self.folder / STATE, framework="pt") as stored:
                facts = json.loads(stored.metadata()["facts"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            snapshot = Snapshot(int(facts.pop("step")), tensors, facts)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None  # nobody is helped by a state that cannot be read: start afresh
        if self.made is not None and (self.folder / FILES).is_dir():
            shutil.copytree(self.folder / FILES, self.made, dirs_exist_ok=True)
        return snapshot

    def is_due(self) -> bool:
        """Returns whether it is time to save again."""
        return (
            self.folder is not None and time.monotonic() - self._last_save > SECONDS_BETWEEN_SAVES
        )

    def save(self, snapshot: Snapshot) -> None:
        """Writes a snapshot in place of the one before, whole or not at all."""
        if self.folder is None:
            return
        try:
            self._write(self.folder, snapshot)
        except (OSError, SafetensorError) as error:
            if not self._has_warned:
                print(
                    f"warning: {self.folder}: the state of this training cannot be kept ({error});"
                    " it goes on, but if it is interrupted what it did since is lost",
                    file=sys.stderr,
                )
            self._has_warned = True
        self._set_room_aside(self.folder)
        self._last_save = time.monotonic()

    def _set_room_aside(self, folder: Path) -> None:
        """Makes a file of so many bytes, or of as many as there are, if the system has a way to."""
        with suppress(OSError, AttributeError):
            num_bytes = min(self.room, shutil.disk_usage(folder).free)
            if num_bytes > 0:
                with (folder / ROOM).open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, num_bytes)

    def _write(self, folder: Path, snapshot: Snapshot) -> None:
        (folder / ROOM).unlink(missing_ok=True)
        if self.made is not None and self.made.is_dir():
            shutil.copytree(self.made, folder / FILES, dirs_exist_ok=True)
        tensors = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in snapshot.tensors.items()
        }
        facts = json.dumps(snapshot.facts | {"step": snapshot.step})
        with replaced(folder / STATE) as temporary:
            save_file(tensors, temporary, metadata={"facts": facts})
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # else a power cut may leave an empty file under the name

    def finish(self) -> None:
        """Marks the training as finished.

        Its state stays until the stage next starts on something else: should DVC fail to store the
        result, on a full disk for example, the training is not lost.
        """
        if self.folder is not None and self.folder.is_dir():
            (self.folder / ROOM).unlink(missing_ok=True)
            with suppress(OSError):  # the mark only says that the state may be removed
                (self.folder / FINISHED).touch()


@contextmanager
def open_state(
    root: Path, stage: str, key: str | None, made: Path | None = None, room: int = 0
) -> Iterator[TrainingState]:
    """Returns the state of a training, locked while in use; old ones of the stage are removed.

    Two queued experiments may train the very same thing; the second one then keeps no state.

    Args:
        root: the folder of all states.
        stage: its name in dvc.yaml.
        key: as `key_of` makes it; None keeps nothing.
        made: see `TrainingState`.
        room: see `TrainingState`.
    """
    if key is None:
        yield TrainingState(None)
        return
    folder = root / stage / key
    lock = FileLock(folder / "lock", blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (Timeout, OSError):
        yield TrainingState(None)
        return
    try:
        remove_old(root / stage, besides=folder)
        yield TrainingState(folder, made, room)
    finally:
        (folder / ROOM).unlink(missing_ok=True)
        lock.release()


def remove_old(stage_folder: Path, besides: Path) -> None:
    """Removes the states of a stage that nobody will go on from: finished ones and aged ones."""
    for folder in stage_folder.iterdir():
        if folder == besides or not folder.is_dir():
            continue
        lock = FileLock(folder / "lock", blocking=False)
        try:
            with lock:
                state = folder / STATE
                aged = time.time() - DAYS_KEPT * 86400
                if (folder / FINISHED).exists() or state.stat().st_mtime < aged:
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue  # in use, or not begun
