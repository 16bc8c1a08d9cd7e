"""MLflow's model registry: a whole system as one model that can be served, under an alias.

Imports mlflow like `store`, only inside functions. A model is tried before it gets a version, and a
version before it gets the alias: whoever asks for the alias never meets a broken one.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from unclip.tracking.address import EXPERIMENTS, tracking_uri
from unclip.tracking.store import TrackingError, open_store, tracking_errors

TRY_SECONDS = 600  # of loading networks and painting one picture, on a busy machine


@dataclass(frozen=True)
class Given:
    """What is registered."""

    code: Path  # the Python file that defines the model (see `unclip.serving.mlflow_model`)
    package: Path  # the folder of code that it imports
    system: Path  # the folder that goes with it
    requirements: Sequence[str]  # names of packages, pinned as they are installed
    prompt: str  # for the first picture, and for the example that is kept with the model
    settings: Mapping[str, Any]  # what a request may set, with the values where it does not
    card: str  # in Markdown
    tags: Mapping[str, str]  # of the version
    run_id: str | None  # of the record that it came from


def register_model(name: str, alias: str, given: Given) -> int:
    """Returns the version under which a model was registered, once it has painted a picture.

    Args:
        name: of the registered model; made where it is new.
        alias: is moved to the new version.
        given: the model.

    Raises:
        TrackingError: one line; MLflow could not be used, or the model does not paint.
    """
    open_store()  # makes it, and says what is wrong with it
    with tracking_errors():
        return _register(name, alias, given)


def _register(name: str, alias: str, given: Given) -> int:
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # of copies within this machine
    import mlflow

    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(EXPERIMENTS)
    client = mlflow.MlflowClient(tracking_uri=uri)
    model = mlflow.pyfunc.log_model(
        name=name,
        python_model=str(given.code),
        code_paths=[str(given.package)],
        artifacts={"system": str(given.system)},
        # The signature is made of the type hints and of this example's settings.
        input_example=([given.prompt], dict(given.settings)),
        pip_requirements=pinned(given.requirements),
        tags=dict(given.tags),
    )
    try:
        _try(uri, model.model_uri, given.prompt)
        _ensure_registered(client, name)
        made = client.create_model_version(
            name,
            model.model_uri,
            run_id=given.run_id,
            tags=dict(given.tags),
            description=given.card,
            model_id=model.model_id,
        )
    except BaseException:  # Ctrl-C as well: what got no version is of no use to anyone
        client.delete_logged_model(model.model_id)
        raise
    client.set_registered_model_alias(name, alias, made.version)
    return int(made.version)


def pinned(requirements: Sequence[str]) -> list[str]:
    """Returns `package==version` for each, as installed; no build of it (torch's `+cpu`) is meant.

    A build can be had from its own index alone, and a model is no place for an address.
    """
    return [f"{name}=={installed(name).partition('+')[0]}" for name in requirements]


def _try(uri: str, model: str, prompt: str) -> None:
    """Paints one picture in another process and another folder, as a user of the model would.

    Raises:
        TrackingError: it does not; the message has the last line of what MLflow says.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "asked.json")
        asked.write_text(json.dumps({"inputs": [prompt]}), encoding="utf-8")
        command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", model]
        command += ["-i", str(asked), "-o", str(Path(folder, "answered.json")), "-t", "json"]
        environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
        environment.pop("PYTHONPATH", None)  # it must stand on what was stored with it
        done = subprocess.run(
            [*command, "--env-manager", "local"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TRY_SECONDS,
        )
    if done.returncode:
        # The reason stands last, after the long path of the code.
        said = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise TrackingError(f"{model}: does not paint: {said[-300:]}")


def _ensure_registered(client: Any, name: str) -> None:
    """Makes the registered model where there is none of that name."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
