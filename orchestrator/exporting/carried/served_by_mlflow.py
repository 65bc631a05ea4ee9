"""The code of an MLflow model: what ``mlflow models serve`` and ``mlflow.pyfunc.load_model`` run.

It runs ``classifier/classify.py`` on the program beside it, among the model's artifacts.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

BATCH = 32


class ServedClassifier(PythonModel):  # type: ignore[misc]
    """Classifies rows of images and tasks."""

    def load_context(self, context: Any) -> None:
        """Load the program. Its module is taken by path: models of several exports may share a process."""
        folder = Path(context.artifacts["classifier"])
        spec = importlib.util.spec_from_file_location("classify", folder / "classify.py")
        assert spec is not None and spec.loader is not None, "a Python file"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._classifier = module.Classifier(folder)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Classify images.

        Args:
            context: unused.
            model_input: a row for each image: ``image``, its encoded bytes; ``task``, by name, which may be
                left out where there is only one.
            params: ``top``, the most classes that ``probabilities`` names.

        Raises:
            MlflowException: an image that cannot be decoded, an unknown task, or ``top`` below 1.
        """
        tasks, top = list(self._classifier.tasks), int((params or {}).get("top", 5))
        if top < 1:
            raise MlflowException(f"top is {top}; use 1 or more", INVALID_PARAMETER_VALUE)
        images = [bytes(image) for image in model_input["image"]]
        given = [*model_input["task"]] if "task" in model_input else [None] * len(images)
        named = [tasks[0] if task is None and len(tasks) == 1 else task for task in given]
        answers: list[dict[str, float]] = []
        for first in range(0, len(images), BATCH):
            part = slice(first, first + BATCH)
            try:
                logits = self._classifier.logits(images[part], named[part], first=first)
            except ValueError as error:
                raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error
            answers += self._classifier.ranked(logits, named[part], top)
        best = [next(iter(answer.items())) for answer in answers]
        return pd.DataFrame(
            {
                "label": [label for label, _ in best],
                "probability": [probability for _, probability in best],
                "probabilities": answers,
            }
        )


set_model(ServedClassifier())
