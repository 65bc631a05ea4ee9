"""How artefacts of each kind classify encoded images, each with the library it is made for."""

from __future__ import annotations

import importlib.util
import io
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
        # Written a moment ago, from a study of the user's own: a method of theirs may run.
        given = BackboneSpec(**backbone)
        self._classifier = mmap_model.load(folder, backbone=given, device=device, trusted=True)

    def probabilities(self, images: Sequence[bytes], task: str) -> npt.NDArray[Any]:
        import torch

        pixels = torch.stack([self._classifier.preprocess(image) for image in images])
        logits = self._classifier.logits(pixels, task)[:, : len(self.classes(task))]
        return logits.double().softmax(-1).cpu().numpy()


class OpenClipRunner(Runner):
    """A folder that plain open_clip loads, with its own preprocessing, tokenizer and text tower."""

    def __init__(self, folder: Path, artefact: Artefact, device: str) -> None:
        super().__init__(artefact)
        self._folder, self._device = folder, device
        self._clips: dict[Path, Any] = {}
        self._heads: dict[str, Any] = {}

    def probabilities(self, images: Sequence[bytes], task: str) -> npt.NDArray[Any]:
        import torch

        from mmap_model.data.formats import open_encoded

        clip, preprocess = self._clip(task)
        with torch.no_grad():
            opened = [open_encoded(io.BytesIO(image)).convert("RGB") for image in images]
            pixels = torch.stack([preprocess(image) for image in opened])
            features = clip.encode_image(pixels.to(self._device), normalize=True)
            logits = clip.logit_scale.exp() * features @ self._head(task).T
        found: npt.NDArray[Any] = logits.double().softmax(-1).cpu().numpy()
        return found

    def _place(self, task: str) -> Path:
        """The folder of the CLIP that is a task's."""
        from mmap_model.inference.formats.open_clip import CONFIG, folder_names

        if CONFIG in self.artefact.files:
            return self._folder
        names = [entry.name for entry in self.artefact.tasks]
        return self._folder / folder_names(names)[self.artefact.task(task)]

    def _clip(self, task: str) -> Any:
        import open_clip

        place = self._place(task)
        if place not in self._clips:
            named = f"local-dir:{place}"
            self._clips[place] = open_clip.create_model_from_pretrained(named, device=self._device)
        return self._clips[place]

    def _head(self, task: str) -> Any:
        import open_clip

        if task not in self._heads:
            entry = self.artefact.tasks[self.artefact.task(task)]
            template = entry.template or self.artefact.method.template
            tokens = open_clip.get_tokenizer(f"local-dir:{self._place(task)}")(
                [template.replace("{}", name) for name in entry.classes]
            )
            self._heads[task] = self._clip(task)[0].encode_text(tokens.to(self._device), normalize=True)
        return self._heads[task]


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
        names = self.classes(task)
        answers = self._model.predict(given, params={"top": len(names)})
        return np.array(
            [[answer[name] for name in names] for answer in answers["probabilities"]], dtype=np.float64
        )


class HubRunner(Runner):
    """A folder for the hub, as its card says: by the code beside it. The tensors have to say the same.

    Raises:
        CheckpointError: they do not, where images are classified.
    """

    def __init__(self, folder: Path, artefact: Artefact, backbone: Mapping[str, Any], device: str) -> None:
        from mmap_model.inference.artefact import Artefact
        from orchestrator.exporting.hub_form import PROGRAM, TENSORS

        super().__init__(artefact)
        self._folder = folder
        self._program = _module(folder / "classify.py").Classifier(folder / PROGRAM)
        tensors = folder / TENSORS
        self._tensors = ClassifierRunner(tensors, Artefact.read(tensors), backbone, device)

    def probabilities(self, images: Sequence[bytes], task: str) -> npt.NDArray[Any]:
        from mmap_model.errors import CheckpointError
        from orchestrator.exporting.agreement import TOLERANCE

        logits = self._program.logits(images, [task] * len(images))[:, : len(self.classes(task))]
        found: npt.NDArray[Any] = logits.double().softmax(-1).numpy()
        apart = abs(found - self._tensors.probabilities(images, task)).max()
        if not apart <= TOLERANCE:
            raise CheckpointError(
                f"the program and the tensors give probabilities that are {apart:.1e} apart",
                where=str(self._folder),
                fix="export it again",
            )
        return found


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("classify", path)
    assert spec is not None and spec.loader is not None, "a Python file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def open_runner(folder: Path, *, backbone: Mapping[str, Any], device: str) -> Runner:
    """The artefact in ``folder``, after its files have been checked.

    Raises:
        InputError: no artefact, a damaged one, or one whose CLIP is not there.
    """
    from mmap_model.inference.artefact import Artefact

    artefact = Artefact.read(folder)
    match artefact.kind:
        case "open_clip":
            return OpenClipRunner(folder, artefact, device)
        case "mlflow":
            return MlflowRunner(folder, artefact)
        case "hf":
            return HubRunner(folder, artefact, backbone, device)
        case _:
            return ClassifierRunner(folder, artefact, backbone, device)
