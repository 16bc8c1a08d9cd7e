"""What `python cli.py doctor` says: the machine, what is used of it, and what stands in the way."""

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, safe_open

from unclip.config.errors import UserError
from unclip.config.git import run_git
from unclip.config.layout import Layout
from unclip.config.settings import num_processes, num_threads, raw_data_dir
from unclip.core.device import open_machine
from unclip.params.loading import load_params
from unclip.running.preflight import NETWORKS, require_inception, require_space
from unclip.running.state import FINISHED, STATE
from unclip.tracking.address import describe_uri, find_database, find_root, is_tracking_on
from unclip.tracking.look import look_at_store
from unclip.tracking.store import TrackingError
from unclip.training.run import states_folder

PACKAGES = ("torch", "torchvision", "dvc", "mlflow", "accelerate", "safetensors")
CHECKS: dict[str, Callable[[], str]] = {}


def check(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Registers a check: it returns what it found, or raises UserError with what to do."""

    def register(function: Callable[[], str]) -> Callable[[], str]:
        CHECKS[name] = function
        return function

    return register


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        name: of the check.
        text: what it found, or what is wrong and how to mend it.
        is_well: whether nothing stands in the way.
    """

    name: str
    text: str
    is_well: bool


def findings() -> Iterator[Finding]:
    """Yields what each check found, in order."""
    for name, look in CHECKS.items():
        try:
            yield Finding(name, look(), True)
        except UserError as error:
            yield Finding(name, str(error), False)


@check("machine")
def machine() -> str:
    """Returns system, processor cores and memory."""
    cores, memory = psutil.cpu_count(logical=False), psutil.virtual_memory().total
    return f"{platform.system()} {platform.machine()}, {cores} cores, {memory / 1e9:.0f} GB memory"


@check("versions")
def versions() -> str:
    """Returns the versions of Python and of what the results depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            raise UserError(f"{package} is not installed; `make setup` installs it") from None
    return ", ".join(found)


@check("device")
def device() -> str:
    """Returns where trainings compute, and what precision `auto` stands for there."""
    opened, processes = open_machine("auto"), num_processes()
    shared = f", {processes} processes share a training" if processes > 1 else ""
    return f"{opened.device}, {num_threads()} threads, precision auto is {opened.precision}{shared}"


@check("params")
def params() -> str:
    """Returns which data set params.yaml names, all of its values being valid and served here."""
    params = load_params(Layout().params)
    if params.evaluate.inception:
        require_inception()
    return f"params.yaml is valid; data set {params.data.dataset}"


@check("data")
def data() -> str:
    """Returns where the raw data lies, or how it will come."""
    return load_params(Layout().params).data.chosen.status(raw_data_dir(), Layout().root)


@check("room")
def room() -> str:
    """Returns how much of the disk is free, and that it is enough for the networks."""
    require_space(Path(), NETWORKS, "a whole pipeline")
    return f"{shutil.disk_usage(Path()).free / 1e9:.0f} GB free"


@check("git and DVC")
def repository() -> str:
    """Returns who commits here; experiments need git, an identity and DVC."""
    if not Path(".dvc").is_dir():
        raise UserError("no .dvc folder here; run from the root of the repository")
    identity = [
        run_git(Path(), "config", "--default", "", "--get", key)
        for key in ("user.name", "user.email")
    ]
    if not all(identity):
        raise UserError(
            "git knows no name and e-mail, which `dvc exp run` needs; "
            'git config user.name NAME, git config user.email "you@example.org"'
        )
    return f"{identity[0]} <{identity[1]}>"


@check("records")
def records() -> str:
    """Returns where MLflow keeps its records, and that they can be written."""
    if not is_tracking_on():
        return "off (UNCLIP_TRACKING)"
    database = find_database()
    folder = database.parent if database else find_root()
    if folder.exists() and not os.access(folder, os.W_OK):
        raise UserError(f"{folder}: cannot be written to, and MLflow's store lies there")
    try:
        return f"{describe_uri()} {look_at_store()}"
    except TrackingError as error:
        raise UserError(f"{error}; mend that, or trainings go unrecorded") from None


def examine(*, clear_states: bool) -> bool:
    """Prints all findings and the states of trainings; returns whether all is well.

    Args:
        clear_states: removes those that no training uses at the moment.
    """
    console = Console(highlight=False)
    table = Table(box=None, show_header=False)
    is_well = True
    for finding in findings():
        is_well &= finding.is_well
        mark = "[green]ok[/]" if finding.is_well else "[red]no[/]"
        table.add_row(mark, finding.name, finding.text.replace("[", r"\["))
    console.print(table)
    print_states(console)
    if clear_states:
        freed = remove_states(states_folder())
        console.print(f"{freed / 1e6:.0f} MB of states removed")
    return is_well


def print_states(console: Console) -> None:
    """Prints what an interrupted or a finished training has left to go on from."""
    table = Table("state of", "step", "MB", "hours old", "", box=None)
    for state in describe_states(states_folder()):
        hours = (time.time() - state.saved) / 3600
        note = (
            "finished; kept until it trains something else"
            if state.is_finished
            else "goes on if run again"
        )
        table.add_row(
            state.stage, str(state.step), f"{state.num_bytes / 1e6:.0f}", f"{hours:.1f}", note
        )
    if table.row_count:
        console.print(table)


@dataclass(frozen=True)
class StoredState:
    """A state on disk.

    Attributes:
        folder: where it lies.
        stage: whose it is.
        step: how many steps lie behind; None where that cannot be read.
        num_bytes: all of its files.
        saved: when, in seconds since 1970.
        is_finished: whether the training has ended.
    """

    folder: Path
    stage: str
    step: int | None
    num_bytes: int
    saved: float
    is_finished: bool


def describe_states(root: Path) -> list[StoredState]:
    """Returns what lies in the folder of all states."""
    found = []
    for file in sorted(root.glob(f"*/*/{STATE}")):
        folder = file.parent
        try:
            with safe_open(file, framework="pt") as stored:
                step = int(json.loads(stored.metadata()["facts"])["step"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            step = None
        num_bytes = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        is_finished = (folder / FINISHED).exists()
        saved = file.stat().st_mtime
        found.append(StoredState(folder, folder.parent.name, step, num_bytes, saved, is_finished))
    return found


def remove_states(root: Path) -> int:
    """Removes every state that no training is using; returns how many bytes that were."""
    removed = 0
    for state in describe_states(root):
        try:
            with FileLock(state.folder / "lock", blocking=False):
                shutil.rmtree(state.folder, ignore_errors=True)
                removed += state.num_bytes
        except (Timeout, OSError):
            continue
    return removed
