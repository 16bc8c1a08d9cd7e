"""The system as an MLflow model: MLflow keeps this file and runs it wherever the model is loaded.

Import it nowhere else. What a request may hold and what comes back is in `unclip.serving.service`.
"""

from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from unclip.config.errors import UserError
from unclip.serving.service import SETTINGS, Service

SYSTEM = "system"  # the artifact: the folder that `Service.open` takes


class Painting(PythonModel):
    """Pictures of prompts."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the networks; MLflow calls it once."""
        refuse_unknown_params()
        self.service = Service.open(Path(context.artifacts[SYSTEM]))

    def predict(
        self, model_input: list[str], params: dict[str, Any] | None = None
    ) -> list[dict[str, object]]:
        """Returns the pictures as `Service.answer` does.

        Args:
            model_input: the prompts.
            params: the settings; MLflow fills in what the signature has and the caller left out.

        Raises:
            MlflowException: the caller's mistake, which a server answers with status 400.
        """
        try:
            return self.service.answer(model_input, params or {})
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def refuse_unknown_params() -> None:
    """Makes MLflow refuse a param that our signature does not have.

    By itself it says so in its own log and paints without it, which a misspelt name does not
    deserve. There is no hook for it, so the function that fills params in is wrapped; other models
    in the process, whose signature is another, are left alone.
    """
    enforce = mlflow.pyfunc._enforce_params_schema
    if getattr(enforce, "is_strict", False):
        return

    def enforce_strictly(params: Any, schema: Any) -> Any:
        known = {spec.name for spec in schema or ()}
        strangers = set(params) - known if isinstance(params, dict) else set()
        if strangers and known == set(SETTINGS):
            raise MlflowException.invalid_parameter_value(
                f"params: {min(map(str, strangers))}: unknown; expected some of "
                f"{', '.join(SETTINGS)}; correct its name"
            )
        return enforce(params, schema)

    enforce_strictly.is_strict = True  # type: ignore[attr-defined]
    mlflow.pyfunc._enforce_params_schema = enforce_strictly


set_model(Painting())
