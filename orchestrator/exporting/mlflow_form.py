"""An MLflow model: models-from-code around an exported program, so that it needs none of this software."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from orchestrator.exporting.wrapping import CARRIED, Wrapping

if TYPE_CHECKING:
    from mmap_model.inference.artefact import Artefact
    from orchestrator.exporting.winner import Winner

MODEL = "model"
"""Folder of the MLflow model in the artefact."""

LIBRARIES = ("torch", "numpy", "pillow", "mlflow")
"""All that the model needs, at the versions that it was exported with."""

_ENVIRONMENT = {
    "MLFLOW_UV_AUTO_DETECT": "false",  # or the pyproject.toml of the folder one stands in is copied
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_LOCK_MODEL_DEPENDENCIES": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class MlflowWrapping(Wrapping):
    """``model/`` is what MLflow serves; the program and its description are among its artifacts."""

    name = "mlflow"
    holds: ClassVar[Mapping[str, str]] = {"torch-export": f"{MODEL}/artifacts/classifier"}

    def versions(self) -> Mapping[str, str | None]:
        return {"mlflow": importlib.metadata.version("mlflow")}

    def notes(self) -> Sequence[str]:
        return (f"MLflow serves it: mlflow models serve --env-manager local -m FOLDER/{MODEL}",)

    def fill(self, winner: Winner, parts: Mapping[str, Artefact], made: Path, folder: Path) -> None:
        with _settings():
            import mlflow

            program = (made / "torch-export").rename(made / "classifier")
            shutil.copyfile(CARRIED / "classify.py", program / "classify.py")
            mlflow.pyfunc.save_model(
                str(folder / MODEL),
                python_model=str(CARRIED / "served_by_mlflow.py"),
                artifacts={"classifier": str(program)},
                signature=_signature(len(parts["torch-export"].tasks) > 1),
                pip_requirements=requirements(),
            )
        _forget_places(folder / MODEL)


def requirements() -> list[str]:
    """``name==version`` of the libraries of this environment, as a registry names them."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return [f"{name}=={version.partition('+')[0]}" for name, version in found.items()]


def _signature(several: bool) -> Any:
    """Of inputs, outputs and parameters; the task may be left out where there is one."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import DataType
    from mlflow.types.schema import Map as Mapped

    return ModelSignature(
        inputs=Schema([ColSpec("binary", "image"), ColSpec("string", "task", required=several)]),
        outputs=Schema(
            [
                ColSpec("string", "label"),
                ColSpec("double", "probability"),
                ColSpec(Mapped(DataType.double), "probabilities"),
            ]
        ),
        params=ParamSchema([ParamSpec("top", "long", 5)]),
    )


def _forget_places(model: Path) -> None:
    """Take out where program and code lay on this machine; MLflow reads no more of it than a file's name."""
    from mlflow.models import Model

    found = Model.load(str(model))
    flavor = found.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    found.save(str(model / "MLmodel"))


@contextmanager
def _settings() -> Iterator[None]:
    """MLflow's settings and silence while a model is saved; those of the process come back."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The signature says what an example would, and images would be pickled or written as text.
            warnings.filterwarnings("ignore", message=".*An input example was not provided")
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
