"""How artefacts of each kind classify encoded images, each with the library it is made for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from mmap_model.inference.artefact import Artefact


class Runner(ABC):
    """An artefact that runs.

    Attributes:
        artefact: its description.
    """

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact

    @property
    def size(self) -> int:
        """Side of the square images it sees."""
        return self.artefact.preprocessing.size

    def classes(self, task: str) -> tuple[str, ...]:
        """Class names of a task."""
        return self.artefact.tasks[self.artefact.task(task)].classes

    @abstractmethod
    def probabilities(self, images: Sequence[bytes], task: str) -> npt.NDArray[Any]:
        """Of encoded images, [n, C] over the classes of the task."""


class ClassifierRunner(Runner):
    """Whatever ``mmap_model.load`` takes."""

    def __init__(self, folder: Path, artefact: Artefact, backbone: Mapping[str, Any], device: str) -> None:
        import mmap_model
        from mmap_model.backbone_spec import BackboneSpec

        super().__init__(artefact)
        self._classifier = mmap_model.load(folder, backbone=BackboneSpec(**backbone), device=device)

    def probabilities(self, images: Sequence[bytes], task: str) -> npt.NDArray[Any]:
        import torch

        pixels = torch.stack([self._classifier.preprocess(image) for image in images])
        logits = self._classifier.logits(pixels, task)[:, : len(self.classes(task))]
        return logits.double().softmax(-1).cpu().numpy()


class MlflowRunner(Runner):
    """An MLflow model, as ``mlflow models serve`` asks it."""

    def __init__(self, folder: Path, artefact: Artefact) -> None:
        import mlflow

        super().__init__(artefact)
        self._model = mlflow.pyfunc.load_model(str(folder / "model"))

    def probabilities(self, images: Sequence[bytes], task: str) -> npt.NDArray[Any]:
        import numpy as np
        import pandas as pd

        given = pd.DataFrame({"image": list(images), "task": [task] * len(images)})
        answers = self._model.predict(given)
        names = self.classes(task)
        return np.array(
            [[answer[name] for name in names] for answer in answers["probabilities"]], dtype=np.float64
        )


def open_runner(folder: Path, *, backbone: Mapping[str, Any], device: str) -> Runner:
    """The artefact in ``folder``, after its files have been checked.

    Raises:
        InputError: no artefact, a damaged one, or one whose CLIP is not there.
    """
    from mmap_model.inference.artefact import Artefact

    artefact = Artefact.read(folder)
    match artefact.kind:
        case "mlflow":
            return MlflowRunner(folder, artefact)
        case _:
            return ClassifierRunner(folder, artefact, backbone, device)
