"""`python cli.py register`: the trained system as one model in MLflow's registry."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from unclip.commands import options
from unclip.commands.common import require_trained
from unclip.config.errors import UserError
from unclip.config.layout import KINDS, Layout, models_in
from unclip.config.settings import REPOSITORY

PACKAGE = REPOSITORY / "unclip"
# What painting imports besides Python's standard library.
REQUIREMENTS = (
    *("accelerate", "joblib", "mlflow", "numpy", "pillow", "pydantic", "pyyaml"),
    *("safetensors", "torch"),
)
USAGE = """\
```sh
mlflow models serve -m models:/{name}@{alias} --env-manager local --port 5001
curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
    -d '{{"inputs": ["{prompt}"], "params": {{"num": 2, "seed": 7}}}}'
```

Each picture comes as a PNG in base64, with its prompt and seed. A request may set
{settings}."""


def register(
    name: Annotated[str, typer.Option(help="Name of the registered model.")] = "unclip",
    alias: Annotated[str, typer.Option(help="Alias that moves to the new version.")] = "champion",
    source: options.From = None,
) -> None:
    """Register the trained system in MLflow as one model, to be served or given away.

    The model holds networks, params, code and a card with its figures; nothing in it is pickled. It
    gets the alias only after it has been loaded and has painted.

    Example: `python cli.py register --from pretrained/fashion_mnist`, and then
    `mlflow models serve -m models:/unclip@champion --env-manager local -p 5001`
    """
    from unclip.tracking.address import find_root, is_tracking_on

    _require_name("--name", name, r"[\w.-]{1,100}")
    _require_name("--alias", alias, r"(?!latest$|v\d+$)[\w-]{1,100}")
    if not is_tracking_on():
        raise UserError("UNCLIP_TRACKING=off: nothing is registered; set it to on")
    if "%" in str(find_root()):
        raise UserError(
            f"{find_root()}: MLflow cannot load a model from below a folder with % in its name; "
            "rename the folder"
        )
    folder = require_trained(source)
    with tempfile.TemporaryDirectory() as temporary:
        system = Path(temporary, "system")
        _gather(folder, system)
        version = _register(system, name, alias)
    uri = f"models:/{name}@{alias}"
    typer.echo(f"{uri}: version {version}, which has been loaded and has painted")
    serve = f"mlflow models serve -m {uri} --env-manager local -p 5001"
    typer.echo(f"serve it, in {find_root()}: {serve}")


def _require_name(option: str, value: str, pattern: str) -> None:
    """Checks a name before any work: MLflow itself refuses a bad alias only at the end."""
    if not re.fullmatch(pattern, value, re.ASCII):
        raise UserError(
            f"{option} {value!r}: is not allowed; expected letters, digits, - and _, and no word "
            "that MLflow reserves (latest, v1); choose another"
        )


def _gather(folder: Path, out: Path) -> None:
    """Copies a system into a new folder, laid out as `card.model_card` reads it.

    Raises:
        UserError: its params are missing.
    """
    from unclip.serving.card import FIGURES, GRID

    layout = Layout(folder)
    if not layout.params.is_file():
        raise UserError(
            f"{layout.params}: missing; expected the params of the networks beside them; name the "
            "folder that holds both with --from"
        )
    for kind in KINDS:
        if (models_in(folder) / kind).is_dir():  # loading names what is missing
            shutil.copytree(models_in(folder) / kind, out / kind)
    shutil.copy(layout.params, out)
    for name, trained in ((FIGURES, layout.metrics("evaluate")), (GRID, layout.grid)):
        place = trained if trained.is_file() else folder / name
        if place.is_file():
            shutil.copy(place, out / name)


def _register(system: Path, name: str, alias: str) -> int:
    """Returns the version under which the system in a folder is registered."""
    from unclip.running.progress import progress
    from unclip.serving.card import CARD, model_card
    from unclip.serving.service import SETTINGS, Service
    from unclip.tracking.registry import Model, register_model

    with progress("registering", 2) as bar:
        service = Service.open(system)
        prompt, hashes = service.unclip.system.prompts[0], service.unclip.system.hashes
        settings = ", ".join(f"`{key}`" for key in SETTINGS)
        card = model_card(
            system, USAGE.format(name=name, alias=alias, prompt=prompt, settings=settings)
        )
        (system / CARD).write_text(card, encoding="utf-8")
        bar.advance(note="networks and card are sound")
        model = Model(
            package=PACKAGE,
            code=PACKAGE / "serving" / "mlflow_model.py",
            system=system,
            requirements=REQUIREMENTS,
            prompt=prompt,
            settings=service.defaults(),
            card=_without_links(card),
            tags={f"checkpoint.{kind}": value for kind, value in hashes.items()},
            run_id=_find_record(hashes),
        )
        version = register_model(name, alias, model)
        bar.advance(note="(it has painted)")
    return version


def _find_record(hashes: Mapping[str, str]) -> str | None:
    """Returns the id of the MLflow run that records the experiment with these networks, if any."""
    from unclip.tracking.lineage import find_lineage
    from unclip.tracking.store import TrackingError

    try:
        records = find_lineage(hashes).records
    except TrackingError:  # no store yet; registering makes it, or reports what is wrong with it
        return None
    return records[-1].id if records else None


def _without_links(card: str) -> str:
    """Returns a card without pictures and links: MLflow shows it without the files beside it."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", re.sub(r"!\[.*\n\n", "", card))
