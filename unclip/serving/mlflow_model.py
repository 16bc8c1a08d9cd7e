"""The system as an MLflow model: MLflow stores this file and runs it to load the model.

Never import it. `unclip.serving.service` defines requests and answers.
"""

from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from unclip.config.errors import UserError
from unclip.serving.service import Service

SYSTEM = "system"  # the artifact: the folder that `Service.open` takes


class Painting(PythonModel):
    """Pictures of prompts."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the networks."""
        self.service = Service.open(Path(context.artifacts[SYSTEM]))

    def predict(
        self, model_input: list[str], params: dict[str, Any] | None = None
    ) -> list[dict[str, object]]:
        """Returns the pictures of prompts, like `Service.answer`.

        MLflow fills in missing params, and drops those that the signature does not have.

        Raises:
            MlflowException: the caller's mistake; a server answers with status 400.
        """
        try:
            return self.service.answer(model_input, params or {})
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


set_model(Painting())
