"""What `python cli.py doctor` says: the machine, what is used of it, and what stands in the way."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unclip.config.errors import UserError
from unclip.config.git import REMEDIES, run_git
from unclip.config.layout import Layout
from unclip.config.settings import choose_threads, num_processes, raw_data_dir
from unclip.core.device import open_machine
from unclip.params.loading import load_params
from unclip.provenance.dvc_history import require_dvc
from unclip.running.preflight import NETWORKS, require_space
from unclip.running.state import FINISHED, STATE, TrainingState
from unclip.tracking.address import describe_uri, find_database, find_root, is_tracking_on
from unclip.tracking.look import look_at_store
from unclip.tracking.store import TrackingError
from unclip.training.run import states_folder

PACKAGES = ("torch", "torchvision", "dvc", "mlflow", "accelerate", "safetensors")


def machine() -> str:
    """Returns system, processor cores and memory."""
    cores, memory = psutil.cpu_count(logical=False), psutil.virtual_memory().total
    return f"{platform.system()} {platform.machine()}, {cores} cores, {memory / 1e9:.0f} GB memory"


def versions() -> str:
    """Returns the versions of Python and of what the results depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            raise UserError(f"{package} is not installed; `make setup` installs it") from None
    return ", ".join(found)


def device() -> str:
    """Returns where trainings compute, threads and why so many, and what precision `auto` is."""
    opened, processes = open_machine("auto"), num_processes()
    threads, reason = choose_threads()
    shared = f", {processes} processes share a training" if processes > 1 else ""
    counted = f"{threads} threads ({reason})"
    return f"{opened.device}, {counted}, precision auto is {opened.precision}{shared}"


def params() -> str:
    """Returns which data set params.yaml names, all of its values being valid and served here."""
    params = load_params(Layout().params)
    return f"params.yaml is valid; data set {params.data.dataset}"


def data() -> str:
    """Returns where the raw data lies, or how it will come."""
    return load_params(Layout().params).data.chosen.status(raw_data_dir(), Layout().root)


def room() -> str:
    """Returns how much of the disk is free, and that it is enough for the networks."""
    require_space(Path(), NETWORKS, "a whole pipeline")
    return f"{shutil.disk_usage(Path()).free / 1e9:.0f} GB free"


def repository() -> str:
    """Returns who commits here, git and DVC being able to read all that they need."""
    if not Path(".dvc").is_dir():
        raise UserError("no .dvc folder here; run from the root of the repository")
    if sys.flags.safe_path:
        raise UserError("PYTHONSAFEPATH keeps `python -m stages.NAME` from finding it; unset it")
    run_git(Path(), "status", "--porcelain", "--untracked-files=no")
    objects = run_git(Path(), "rev-list", "--objects", "--all", "--missing=print")
    if not objects:
        raise UserError("git has no commit yet, which `dvc exp run` needs; git add -A; git commit")
    if "\n?" in objects:
        raise UserError(f"git lacks files, for which DVC waits for ever; {REMEDIES['promisor']}")
    require_dvc(Path())
    name, email = (
        run_git(Path(), "config", "--default", "", "--get", key)
        for key in ("user.name", "user.email")
    )
    if not (name and email):
        raise UserError(
            "git knows no name and e-mail, which `dvc exp run` needs; "
            'git config user.name NAME, git config user.email "you@example.org"'
        )
    return f"{name} <{email}>"


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


# Each returns what it found, or raises UserError with what to do.
CHECKS = {
    "machine": machine,
    "versions": versions,
    "device": device,
    "params": params,
    "data": data,
    "room": room,
    "git and DVC": repository,
    "records": records,
}


def findings() -> Iterator[tuple[str, str, bool]]:
    """Yields name, finding and whether all is well, of each check in order."""
    for name, look in CHECKS.items():
        try:
            yield name, look(), True
        except UserError as error:
            yield name, str(error), False


def examine(*, clear_states: bool) -> bool:
    """Prints all findings and the states of trainings; returns whether all is well.

    Args:
        clear_states: removes those that no training uses at the moment.
    """
    console = Console(highlight=False)
    table = Table(box=None, show_header=False)
    found = list(findings())
    for name, text, is_well in found:
        table.add_row("[green]ok[/]" if is_well else "[red]no[/]", name, escape(text))
    console.print(table)
    print_states(states_folder(), console)
    if clear_states:
        console.print(f"{remove_states(states_folder())} states removed")
    return all(is_well for *_, is_well in found)


def print_states(root: Path, console: Console) -> None:
    """Prints what an interrupted or a finished training has left to go on from."""
    table = Table("state of", "step", "MB", "hours old", "", box=None)
    for file in sorted(root.glob(f"*/*/{STATE}")):
        snapshot, found = TrainingState(file.parent).load(), file.stat()
        step = "unreadable" if snapshot is None else str(snapshot.step)
        size, hours = found.st_size / 1e6, (time.time() - found.st_mtime) / 3600
        is_finished = (file.parent / FINISHED).exists()
        note = (
            "finished; kept until it trains something else"
            if is_finished
            else "goes on if run again"
        )
        table.add_row(file.parent.parent.name, step, f"{size:.0f}", f"{hours:.1f}", note)
    if table.row_count:
        console.print(table)


def remove_states(root: Path) -> int:
    """Removes every state that no training is using; returns how many those were."""
    removed = 0
    for file in root.glob(f"*/*/{STATE}"):
        try:
            with FileLock(file.parent / "lock", blocking=False):
                shutil.rmtree(file.parent)
            removed += 1
        except (Timeout, OSError):
            continue
    return removed
