"""The state of a training, from which an interrupted one goes on where it stopped.

It lies outside of what DVC manages, in `.state/<stage>/<key>/` of the main repository: DVC deletes
a stage's outs before it runs the stage again. The key stands for everything that the result
depends on (params, inputs, code, machine), so any other value starts afresh.
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
DAYS_KEPT = 14  # for unfinished states with other keys, which may be wanted again
STATE = "state.safetensors"
FILES = "files"
FINISHED = "finished"
HASHED = (".py", ".npy", ".json", ".safetensors")  # what stages read; not what editors leave behind


@dataclass(frozen=True)
class Snapshot:
    """All that a training is at one step.

    Attributes:
        step: number of steps done.
        tensors: weights, EMA, optimizer, the weights to keep so far: `part/name` → tensor.
        facts: everything else, as JSON.
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
        facts: params, and what can change a bit of the result on this machine.
        root: the workspace, wherever it lies.
        paths: inputs and code, below root; of folders only HASHED files count, unless hidden.
    """
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for path in (root / path for path in paths):
        found = (p for p in path.rglob("*") if p.suffix in HASHED)
        inside = sorted(p for p in found if "/." not in f"/{p.relative_to(path).as_posix()}")
        for file in inside if path.is_dir() else [path]:
            name = file.relative_to(root).as_posix()
            digest.update(f"\n{name}\n{file.stat().st_size}\n".encode())
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()


class TrainingState:
    """One folder with the latest snapshot of a training, in use by one process.

    Args:
        folder: `.state/<stage>/<key>`; None keeps nothing, and every save is ignored.
        made: a folder of files that the training writes on the way, which belong to the state.
    """

    def __init__(self, folder: Path | None, made: Path | None = None) -> None:
        self.folder, self.made = folder, made
        self._last_save = time.monotonic()
        self._has_warned = False

    def load(self) -> Snapshot | None:
        """Returns the latest snapshot and puts its files back; None if there is none to use."""
        if self.folder is None or not (self.folder / STATE).exists():
            return None
        try:
            with safe_open(self.folder / STATE, framework="pt") as stored:
                facts = json.loads(stored.metadata()["facts"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            snapshot = Snapshot(int(facts.pop("step")), tensors, facts)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None  # an unreadable state helps nobody: start afresh
        if self.made is not None and (self.folder / FILES).is_dir():
            shutil.copytree(self.folder / FILES, self.made, dirs_exist_ok=True)
        return snapshot

    def is_due(self) -> bool:
        """Returns whether it is time to save again."""
        return (
            self.folder is not None and time.monotonic() - self._last_save > SECONDS_BETWEEN_SAVES
        )

    def save(self, snapshot: Snapshot) -> None:
        """Replaces the previous snapshot, whole or not at all."""
        if self.folder is None:
            return
        try:
            self._write(self.folder, snapshot)
        except (OSError, SafetensorError) as error:
            if not self._has_warned:
                print(
                    f"warning: {self.folder}: the state of this training cannot be saved ({error});"
                    " it goes on, but what it has done since is lost if it is interrupted",
                    file=sys.stderr,
                )
            self._has_warned = True
        self._last_save = time.monotonic()

    def _write(self, folder: Path, snapshot: Snapshot) -> None:
        if self.made is not None and self.made.is_dir():
            with replaced(folder / FILES) as temporary:
                shutil.copytree(self.made, temporary)
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

        Its state stays until the stage trains something else: if DVC then fails to store the
        result, on a full disk for example, the training is not lost.
        """
        if self.folder is not None and self.folder.is_dir():
            with suppress(OSError):  # the mark only says that the state may be removed
                (self.folder / FINISHED).touch()


@contextmanager
def open_state(
    root: Path, stage: str, key: str | None, made: Path | None = None
) -> Iterator[TrainingState]:
    """Gives the state of a training, locked while in use, and removes old ones of its stage.

    If two queued experiments train the very same thing, the second keeps no state.

    Args:
        root: the folder of all states.
        stage: its name in dvc.yaml.
        key: from `key_of`; None keeps nothing.
        made: see `TrainingState`.
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
        yield TrainingState(folder, made)
    finally:
        lock.release()


def remove_old(stage_folder: Path, besides: Path) -> None:
    """Removes the states of a stage that are finished, or older than DAYS_KEPT."""
    for folder in stage_folder.iterdir():
        if folder == besides or not folder.is_dir():
            continue
        try:
            with FileLock(folder / "lock", blocking=False):
                oldest = time.time() - DAYS_KEPT * 86400
                if (folder / FINISHED).exists() or (folder / STATE).stat().st_mtime < oldest:
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue  # in use, or not begun
