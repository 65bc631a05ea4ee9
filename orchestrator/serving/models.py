"""The models of a server by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import mmap_model
from mmap_model.errors import ConfigurationError
from mmap_model.inference.artefact import DESCRIPTION, file_entry
from mmap_model.inference.classifier import Classifier
from mmap_model.inference.engine import Precision
from mmap_model.plain import to_plain
from orchestrator.serving.refusal import unknown
from orchestrator.serving.schema import ModelResponse, TaskResponse


@dataclass(frozen=True)
class Model:
    """A classifier with the name and hash that it is served by."""

    name: str
    sha256: str
    classifier: Classifier

    def task(self, name: str | None) -> int:
        """The index of a task; of the only one where none is named. Raises Refusal (422)."""
        tasks = self.classifier.tasks
        if name is None and len(tasks) == 1:
            return 0
        if name is None:
            raise unknown("no_task", "an image has no task", f"name one of {_listed(tasks)}")
        if name not in tasks:
            raise unknown("unknown_task", f"there is no task {name!r}", f"use one of {_listed(tasks)}")
        return tasks.index(name)

    def described(self) -> ModelResponse:
        artefact = self.classifier.artefact
        return ModelResponse(
            name=self.name,
            kind=artefact.kind,
            tasks=[
                TaskResponse(
                    name=task.name,
                    classes=list(task.classes),
                    validation_accuracy=task.validation_accuracy,
                )
                for task in artefact.tasks
            ],
            image_size=self.classifier.image_size,
            calibrated=artefact.calibrated,
            method=artefact.method.name,
            backbone=to_plain(artefact.backbone),
            source=to_plain(artefact.source),
            versions=dict(artefact.versions),
            created_at=artefact.created_at,
            sha256=self.sha256,
            notes=list(artefact.notes),
        )


class Models:
    """All models of a server."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = {model.name: model for model in models}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def find(self, name: str | None) -> Model:
        """The model of that name; the only one where none is named. Raises Refusal (422)."""
        if name is None and len(self._models) == 1:
            return next(iter(self._models.values()))
        if name is None:
            raise unknown("no_model", "the request names no model", f"name one of {_listed(self._models)}")
        if name not in self._models:
            raise unknown(
                "unknown_model", f"there is no model {name!r}", f"use one of {_listed(self._models)}"
            )
        return self._models[name]


def load_models(
    places: Mapping[str, Path],
    *,
    backbone: str | None = None,
    device: str = "cpu",
    precision: Precision = "fp32",
) -> Models:
    """Load every artefact; arguments and errors are those of ``mmap_model.load``.

    Raises:
        ConfigurationError: no such device.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"device {device!r} cannot be used: {str(error).splitlines()[0]}",
            where="device",
            fix="use cpu, cuda or cuda:N",
        ) from error
    return Models(
        Model(
            name,
            file_entry(folder / DESCRIPTION).sha256,
            mmap_model.load(folder, backbone=backbone, device=device, precision=precision),
        )
        for name, folder in places.items()
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
