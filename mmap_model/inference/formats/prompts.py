"""What was trained, as it was recorded: tiny for prompts, and needs the CLIP that they were trained on."""

from __future__ import annotations

from pathlib import Path

from mmap_model.checkpoint import DESCRIPTION, TENSORS
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.engine import InferenceEngine, TorchEngine
from mmap_model.inference.formats.base import ExportFormat, LoadOptions
from mmap_model.inference.new_classes import Rewording
from mmap_model.inference.plain import plain_images
from mmap_model.inference.trained import Trained


class PromptsFormat(ExportFormat):
    """The two files of a checkpoint. It takes new classes, as it runs with both towers of the CLIP."""

    name = "prompts"
    text_tower = True

    def write(self, trained: Trained, folder: Path) -> None:
        for name in (TENSORS, DESCRIPTION):
            (folder / name).write_bytes(trained.files[name])

    def load(self, folder: Path, artefact: Artefact, options: LoadOptions) -> InferenceEngine:
        trained = read_trained(folder, artefact, options)
        engine: InferenceEngine = TorchEngine(
            trained.deployed,
            kind=self.name,
            precision=options.precision,
            plain=plain_images(trained.backbone),
            reword=Rewording(trained),
        )
        for place, entry in enumerate(artefact.tasks):
            # The description has the last word: a classifier that was given other classes is saved so.
            if entry.template is not None or entry.classes != trained.checkpoint.tasks[entry.name]:
                engine, _ = engine.with_classes(place, entry.classes, entry.template)
        return engine


def read_trained(folder: Path, artefact: Artefact, options: LoadOptions) -> Trained:
    """The model whose checkpoint lies in ``folder``."""
    files = {name: (folder / name).read_bytes() for name in (TENSORS, DESCRIPTION)}
    names = [task.name for task in artefact.tasks]
    return Trained.of(files, options.clip(artefact, folder), names, where=str(folder))
