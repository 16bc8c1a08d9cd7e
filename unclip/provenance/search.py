"""Where the networks that painted a picture are, found by the hash of their weights."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unclip.config.errors import UserError
from unclip.config.layout import models_in
from unclip.core.artifacts import DESCRIPTION, WEIGHTS, weights_hash
from unclip.provenance.dvc_history import ObjectStore, open_objects, remembered
from unclip.running.progress import track


@dataclass(frozen=True)
class Network:
    """A network that is looked for, and where it is."""

    kind: str  # clip, prior or decoder
    hash: str  # SHA-256 of its weights
    folder: Path | None = None  # that holds it
    md5: str = ""  # DVC's name for it, if DVC's cache or remote holds it
    revisions: tuple[str, ...] = ()  # those whose dvc.lock has that name, the oldest first


def find_networks(
    hashes: Mapping[str, str], root: Path, source: Path | None, report: Callable[[str], None]
) -> list[Network]:
    """Returns the networks (kind → SHA-256 of the weights) with their places on this machine.

    Searches the folder `source`, if given, then models/, pretrained/ and DVC's cache of the
    repository at `root`. `report` is told, in one line, why git or DVC's cache cannot be read.
    """
    places = [models_in(folder) for folder in (source, root) if folder is not None]
    places += sorted((root / "pretrained").glob("*"))
    known = remembered(root, report)
    networks = [
        Network(kind, wanted, next((p / kind for p in places if _holds(p / kind, wanted)), None))
        for kind, wanted in hashes.items()
    ]
    try:
        with open_objects(root, "cache") as cache:
            return [_look_up(each, known.get(each.kind, {}).items(), cache) for each in networks]
    except UserError as error:
        report(str(error))
        return networks


def _holds(folder: Path, wanted: str) -> bool:
    is_whole = (folder / WEIGHTS).is_file() and (folder / DESCRIPTION).is_file()
    return is_whole and weights_hash(folder) == wanted


def _look_up(
    network: Network, candidates: Iterable[tuple[str, list[str]]], store: ObjectStore
) -> Network:
    """Returns the network with its md5 and revisions if one of these in the store is it."""
    for md5, revisions in candidates:
        if store.weights_hash(md5) == network.hash:
            return replace(network, md5=md5, revisions=tuple(revisions))
    return network


def gather(networks: Sequence[Network], root: Path, folder: Path) -> None:
    """Copies each network to `folder`/<kind>, from where it is or from DVC's default remote.

    Raises:
        UserError: a network is nowhere, or a place cannot be read.
    """
    missing = []
    for network in networks:
        if network.folder is not None:
            shutil.copytree(network.folder, folder / network.kind)
        else:
            missing.append(network)
    if kept := [each for each in missing if each.md5]:
        with open_objects(root, "cache") as cache:
            for network in kept:
                cache.copy_network(network.md5, folder / network.kind)
    missing = [each for each in missing if not each.md5]
    if not missing:
        return
    known = remembered(root, lambda _: None)
    with open_objects(root, "remote") as remote:
        for network in missing:
            candidates = known.get(network.kind, {}).items()
            looked_at = track(candidates, "looking through DVC's remote", len(candidates))
            found = _look_up(network, looked_at, remote)
            if not found.md5:
                raise UserError(
                    f"{network.kind} {network.hash[:12]}: is not in models/ or pretrained/, and "
                    f"none of the {len(candidates)} that dvc.lock ever named here, as far as DVC's "
                    "cache and remote hold them; `dvc exp pull` and `git fetch` bring more of "
                    "them, --from names another folder"
                )
            remote.copy_network(found.md5, folder / network.kind)
