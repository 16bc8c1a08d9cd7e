"""Where the networks that painted a picture are, found by the hash of their weights."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from unclip.config.errors import UserError
from unclip.config.layout import models_in
from unclip.core.artifacts import DESCRIPTION, WEIGHTS, weights_hash
from unclip.provenance.dvc_history import (
    ObjectStore,
    Remembered,
    open_cache,
    open_remote,
    remembered,
)
from unclip.running.progress import progress


@dataclass(frozen=True)
class Network:
    """A network that is looked for, and where it is.

    Attributes:
        kind: clip, prior or decoder.
        hash: SHA-256 of its weights.
        folder: that holds it; None where no folder does.
        md5: DVC's name of it, where DVC's cache holds it; else "".
        revisions: those whose dvc.lock has that name, the first one first.
    """

    kind: str
    hash: str
    folder: Path | None = None
    md5: str = ""
    revisions: tuple[str, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        return self.folder is not None or self.md5 != ""


def find_networks(hashes: Mapping[str, str], root: Path, source: Path | None) -> list[Network]:
    """Returns where the networks are on this machine, as far as they are.

    Args:
        hashes: kind → SHA-256 of the weights.
        root: of the repository; its models/, its pretrained/ and DVC's cache are searched.
        source: one more folder, searched first.

    Raises:
        UserError: DVC's cache can not be read.
    """
    places = [folder for folder in (source, root) if folder is not None]
    folders = [models_in(folder) for folder in places]
    folders += sorted((root / "pretrained").glob("*"))
    networks = []
    for kind, wanted in hashes.items():
        holder = next((f for f in folders if _holds(f / kind, wanted)), None)
        networks.append(Network(kind, wanted, holder and holder / kind))
    known = remembered(root)
    if not known:
        return networks
    with open_cache(root) as cache:
        return [_in_store(network, known, cache) for network in networks]


def _holds(folder: Path, wanted: str) -> bool:
    is_whole = (folder / WEIGHTS).is_file() and (folder / DESCRIPTION).is_file()
    return is_whole and weights_hash(folder) == wanted


def _in_store(
    network: Network,
    known: Remembered,
    store: ObjectStore,
    advance: Callable[[], None] = lambda: None,
) -> Network:
    """Returns the network with DVC's name and its revisions, where a store of DVC holds it."""
    for md5, revisions in known.get(network.kind, {}).items():
        advance()
        if store.weights_hash(md5) == network.hash:
            return replace(network, md5=md5, revisions=tuple(revisions))
    return network


def gather(networks: Sequence[Network], root: Path, folder: Path) -> None:
    """Copies networks into a folder each, from where they are; also from DVC's default remote.

    Args:
        networks: as `find_networks` found them.
        root: of the repository.
        folder: where to; <folder>/<kind> is made for each.

    Raises:
        UserError: one of them is nowhere, or a place can not be read.
    """
    for network in networks:
        if network.folder is not None:
            shutil.copytree(network.folder, folder / network.kind)
    cached = [network for network in networks if network.folder is None and network.md5]
    if cached:
        with open_cache(root) as cache:
            for network in cached:
                cache.copy_network(network.md5, folder / network.kind)
    missing = [network for network in networks if not network.is_here]
    if missing:
        _fetch(missing, root, folder)


def _fetch(missing: Sequence[Network], root: Path, folder: Path) -> None:
    """Copies networks from DVC's default remote into a folder each."""
    known = remembered(root)
    count = sum(len(known.get(network.kind, {})) for network in missing)
    with open_remote(root) if count else nullcontext() as remote:
        if remote is None:
            raise _nowhere(missing[0], known)
        with progress("looking through DVC's remote", count) as bar:
            for network in missing:
                found = _in_store(network, known, remote, bar.advance)
                if not found.is_here:
                    raise _nowhere(network, known)
                remote.copy_network(found.md5, folder / network.kind)


def _nowhere(network: Network, known: Remembered) -> UserError:
    count = len(known.get(network.kind, {}))
    return UserError(
        f"{network.kind} {network.hash[:12]}: is not in models/ or pretrained/, and of the {count} "
        "that dvc.lock ever named here none is it, as far as DVC's cache and remote have them; "
        "`dvc exp pull` and `git fetch` bring more of them, --from names another folder"
    )
