"""A chosen cell, loaded: its model, its CLIP, and the images that it was trained on and validated with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from mmap_model.cells import Cell
from mmap_model.errors import InputError

if TYPE_CHECKING:
    import torch

    from mmap_model.backbone import Backbone
    from mmap_model.data import Dataset
    from mmap_model.data.bank import Indices
    from mmap_model.inference.trained import Trained
    from orchestrator.exporting.choice import Chosen
    from orchestrator.face.stored import Stored

Part = Literal["train", "validation"]


@dataclass(frozen=True)
class Winner:
    """What is exported, with everything that writing and checking it needs.

    Attributes:
        stored: its study.
        chosen: the cell.
        tasks: names of those to export, None for all.
        device: where to compute.
    """

    stored: Stored
    chosen: Chosen
    tasks: Sequence[str] | None
    device: str = "cpu"

    @cached_property
    def cell(self) -> Cell:
        return Cell.from_dict(self.chosen.record["cell"])

    @cached_property
    def backbone(self) -> Backbone:
        """In single precision, or in double where the cell was trained so."""
        import torch

        from mmap_model.backbone import load_backbone

        dtype = torch.float64 if self.cell.precision == "fp64" else torch.float32
        return load_backbone(self.stored.study.backbone, device=self.device, dtype=dtype)

    @cached_property
    def trained(self) -> Trained:
        """Raises InputError where the files of the cell are damaged, were dropped, or are of another CLIP."""
        from mmap_model.inference.trained import Trained
        from orchestrator.ledger import DroppedError
        from orchestrator.ledger.documents import CorruptError

        key, again = self.chosen.key, f"{self._name} --trial {self.chosen.trial} --retrain"
        try:
            files = {
                name: self.stored.ledger.read_file(key, name)
                for name in ("prompts.safetensors", "prompts.json")
            }
        except DroppedError as error:
            raise InputError(
                str(error),
                where=f"trial {self.chosen.trial}",
                fix=f"train it again: orchestrator confirm {again}",
            ) from error
        except (CorruptError, FileNotFoundError) as error:
            raise InputError(
                f"what cell {key[:12]} trained cannot be read: {error}",
                where=f"trial {self.chosen.trial}",
                fix=f"the next sweep trains it again: orchestrator sweep {self._name}",
            ) from error
        return Trained.of(files, self.backbone, self.tasks, where=f"cell {key[:12]}")

    @cached_property
    def dataset(self) -> Dataset:
        """Raises InputError where the data are not there, or are not those that the cell was trained on."""
        from mmap_model.data import open_dataset

        found = open_dataset(self.stored.study.dataset)
        if found.manifest != self.cell.dataset:
            raise InputError(
                f"the images differ from those that cell {self.chosen.key[:12]} was trained on "
                f"(manifest {found.manifest[:12]}, recorded {self.cell.dataset[:12]})",
                where="dataset",
                fix="put those images back",
            )
        return found

    def indices(self, part: Part) -> dict[str, Indices]:
        """The images of a part of the cell's draws, by exported task."""
        every = self.every(part)
        return {name: every[name] for name in self.trained.task_names}

    def every(self, part: Part) -> dict[str, Indices]:
        """The same for all tasks of the study."""
        from mmap_model.training.replicate import draw_tasks

        draws = zip(self.dataset.tasks, draw_tasks(self.cell, self.dataset), strict=True)
        return {task.name: drawn.train if part == "train" else drawn.validation for task, drawn in draws}

    def views(self, task: str, indices: Indices) -> torch.Tensor:
        """Evaluation views, uint8 [n, 3, S, S]."""
        return self.dataset.views(task, indices, self.backbone.image_size, self.backbone.resize)

    @property
    def _name(self) -> str:
        return self.stored.store.name
