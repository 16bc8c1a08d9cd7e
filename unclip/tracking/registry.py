"""MLflow's model registry: a whole system as one model that can be served, under an alias.

mlflow is imported inside functions only, as in `store`. A model has to paint before it gets a
version, and only then does the alias move: an alias never names a broken model.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from unclip.tracking.address import EXPERIMENTS, tracking_uri
from unclip.tracking.store import TrackingError, open_store, tracking_errors

TRIAL = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.pyfunc.load_model(sys.argv[2]).predict([sys.argv[3]])
"""
TRIAL_SECONDS = 600  # to load the networks and paint one picture on a busy machine


@dataclass(frozen=True)
class Model:
    """What is registered."""

    package: Path  # the folder of code
    code: Path  # the file in it that defines the model (`unclip.serving.mlflow_model`)
    system: Path  # the folder with networks, params and card
    requirements: Sequence[str]  # names of packages
    prompt: str  # for the trial, and for the example that is kept with the model
    settings: Mapping[str, Any]  # what a request may set, with the defaults
    card: str  # Markdown
    tags: Mapping[str, str]  # of the version
    run_id: str | None  # of the record that the system came from


def register_model(name: str, alias: str, model: Model) -> int:
    """Returns the new version of the registered model `name`, to which the alias has moved.

    Raises:
        TrackingError: MLflow could not be used, or the model does not paint.
    """
    open_store()  # makes it where there is none
    with tracking_errors():
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        import mlflow

        mlflow.set_tracking_uri(tracking_uri())
        mlflow.set_experiment(EXPERIMENTS)
        client = mlflow.MlflowClient()
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(model.code),
            code_paths=[str(model.package)],
            artifacts={"system": str(model.system)},
            # MLflow derives the signature from the type hints and this example.
            input_example=([model.prompt], dict(model.settings)),
            pip_requirements=[_pin(package) for package in model.requirements],
            tags=dict(model.tags),
        )
        try:
            _try(tracking_uri(), logged.model_uri, model.prompt)
            _ensure_registered(client, name)
            made = client.create_model_version(
                name,
                logged.model_uri,
                run_id=model.run_id,
                tags=dict(model.tags),
                description=model.card,
                model_id=logged.model_id,
            )
        except BaseException:  # Ctrl-C too: a model without a version is of no use
            client.delete_logged_model(logged.model_id)
            raise
        client.set_registered_model_alias(name, alias, made.version)
        return int(made.version)


def _pin(package: str) -> str:
    """Returns `package==version` as installed, without the build (torch's `+cpu`).

    A build has an index of its own, and a model is no place for an address.
    """
    return f"{package}=={installed(package).partition('+')[0]}"


def _try(uri: str, model: str, prompt: str) -> None:
    """Paints one picture in another process, with the code stored in the model alone.

    Raises:
        TrackingError: it does not paint; the message has the last line of stderr.
    """
    # -E and -P keep this repository's code out of the process.
    done = subprocess.run(
        [sys.executable, "-E", "-P", "-c", TRIAL, uri, model, prompt],
        capture_output=True,
        text=True,
        timeout=TRIAL_SECONDS,
    )
    if done.returncode:
        said = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise TrackingError(f"{model}: does not paint: {said[-300:]}")


def _ensure_registered(client: Any, name: str) -> None:
    """Makes the registered model unless it exists."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
