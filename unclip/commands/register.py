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
# What painting imports beside Python's own library.
REQUIREMENTS = (
    *("accelerate", "mlflow", "numpy", "pillow", "psutil", "pydantic", "ruamel.yaml"),
    *("safetensors", "torch"),
)
USAGE = """\
```sh
mlflow models serve -m models:/{name}@{alias} --env-manager local --port 5001
curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
    -d '{{"inputs": ["{prompt}"], "params": {{"num": 2, "seed": 7}}}}'
```

Each picture comes as a PNG in base64, with its prompt and its seed. A request may set
{settings}."""


def register(
    name: Annotated[str, typer.Option(help="Name of the registered model.")] = "unclip",
    alias: Annotated[
        str, typer.Option(help="Alias that the new version gets; it leaves the one that had it.")
    ] = "champion",
    source: options.From = None,
) -> None:
    """Register the trained system in MLflow as one model, to be served or given away.

    The model holds networks, params, code and a card with its figures; nothing in it is pickled. It
    is loaded and has to paint before it gets the alias.

    Example: `python cli.py register --from pretrained/fashion_mnist`, and then
    `mlflow models serve -m models:/unclip@champion --env-manager local -p 5001`
    """
    from unclip.tracking.address import find_root, is_tracking_on

    _require_name("--name", name, r"[\w.-]{1,100}")
    _require_name("--alias", alias, r"(?!latest$|v\d+$)[\w-]{1,100}")
    if not is_tracking_on():
        raise UserError("UNCLIP_TRACKING=off: nothing is registered; set it to on")
    folder = require_trained(source)
    with tempfile.TemporaryDirectory() as temporary:
        given = Path(temporary, "system")
        _gather(folder, given)
        version = _register(given, name, alias)
    uri = f"models:/{name}@{alias}"
    typer.echo(f"{uri}: version {version}, which has been loaded and has painted")
    where = find_root()
    typer.echo(f"serve it, in {where}: mlflow models serve -m {uri} --env-manager local -p 5001")


def _require_name(option: str, value: str, pattern: str) -> None:
    """Raises UserError for a name that MLflow has no room for."""
    if not re.fullmatch(pattern, value, re.ASCII):
        raise UserError(
            f"{option} {value!r}: is not allowed; expected letters, digits, - and _, "
            "and no word that MLflow keeps for itself (latest, v1); choose another"
        )


def _gather(folder: Path, out: Path) -> None:
    """Copies what there is of a system into a new folder, as `card.model_card` wants it.

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
        if (models_in(folder) / kind).is_dir():  # loading says best what is missing
            shutil.copytree(models_in(folder) / kind, out / kind)
    shutil.copy(layout.params, Layout(out).params)
    found = {
        FIGURES: (layout.metrics("evaluate"), folder / FIGURES),
        GRID: (layout.grid, folder / GRID),
    }
    for name, places in found.items():
        for place in places:
            if place.is_file():
                shutil.copy(place, out / name)
                break


def _register(given: Path, name: str, alias: str) -> int:
    """Returns the version under which the system in a folder was registered."""
    # Torch takes seconds to import; every check that needs none of it stands above.
    from unclip.running.progress import progress
    from unclip.serving.card import CARD, model_card
    from unclip.serving.service import SETTINGS, Service
    from unclip.tracking.registry import Given, register_model

    with progress("registering", 2) as bar:
        service = Service.open(given)
        prompt, hashes = service.unclip.system.prompts[0], service.unclip.system.hashes
        settings = ", ".join(f"`{key}`" for key in SETTINGS)
        usage = USAGE.format(name=name, alias=alias, prompt=prompt, settings=settings)
        card = model_card(given, usage)
        (given / CARD).write_text(card, encoding="utf-8")
        bar.advance(note="networks and card are sound")
        model = Given(
            code=PACKAGE / "serving" / "mlflow_model.py",
            package=PACKAGE,
            system=given,
            requirements=REQUIREMENTS,
            prompt=prompt,
            settings=service.defaults(),
            card=_text_alone(card),
            tags={f"checkpoint.{kind}": value for kind, value in hashes.items()},
            run_id=_record_of(hashes),
        )
        version = register_model(name, alias, model)
        bar.advance(note="(it has painted)")
    return version


def _record_of(hashes: Mapping[str, str]) -> str | None:
    """Returns the run in MLflow that records the experiment which trained these networks."""
    from unclip.tracking.lineage import find_lineage
    from unclip.tracking.store import TrackingError

    try:
        records = find_lineage(hashes).records
    except TrackingError:  # no store yet; what makes it says what is wrong with it
        return None
    return records[-1].id if records else None


def _text_alone(card: str) -> str:
    """Returns a card without pictures and links, for a page that has no files beside it."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", re.sub(r"!\[.*\n\n", "", card))
