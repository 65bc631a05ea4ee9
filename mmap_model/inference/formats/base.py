"""The interface of a format: how a trained model is written into a folder, and how the folder classifies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import torch

from mmap_model.backbone import Backbone, BackboneSpec, load_backbone
from mmap_model.errors import BackboneError, CheckpointError, ConfigurationError
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.engine import InferenceEngine, Precision
from mmap_model.inference.trained import Trained


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How an artefact shall run.

    Attributes:
        backbone: the CLIP, or where it is; None: where the artefact says.
        device: where to compute.
        precision: of the towers.
    """

    backbone: Backbone | BackboneSpec | str | None = None
    device: torch.device | str = "cpu"
    precision: Precision = "fp32"

    def clip(self, artefact: Artefact, where: Path) -> Backbone:
        """The CLIP that an artefact needs, on the device.

        Raises:
            BackboneError: it cannot be loaded.
            CheckpointError: it is not the one that was tuned.
        """
        backbone = self.backbone
        if not isinstance(backbone, Backbone):
            backbone = load_backbone(self._spec(artefact, where), device=self.device)
        wanted = artefact.backbone
        if backbone.fingerprint != wanted.fingerprint:
            named = " ".join(filter(None, (wanted.model, wanted.pretrained))) or "another CLIP"
            raise CheckpointError(
                f"trained on {named} with fingerprint {wanted.fingerprint}, "
                f"but the backbone has {backbone.fingerprint}",
                where=str(where),
                fix="give the CLIP that was tuned as backbone",
            )
        return backbone.to(self.device)

    def only_fp32(self, kind: str) -> None:
        """Raise ConfigurationError for another precision than a file of that kind was written in."""
        if self.precision != "fp32":
            raise ConfigurationError(
                f"an artefact of kind {kind} computes in fp32 only",
                where="precision",
                fix="leave it out, or export with --format classifier or prompts",
            )

    def _spec(self, artefact: Artefact, where: Path) -> BackboneSpec:
        given, tuned = self.backbone, artefact.backbone
        if isinstance(given, BackboneSpec):
            return given
        if isinstance(given, str) and given.startswith("local-dir:"):
            return BackboneSpec(given)
        if tuned.model is None:
            raise BackboneError(
                "the CLIP that was tuned has no name", where=str(where), fix="give it as backbone"
            )
        activation = next((a for a in ("gelu", "quickgelu") if a == tuned.activation), None)
        return BackboneSpec(tuned.model, given or tuned.pretrained, activation)  # type: ignore[arg-type]


class ExportFormat(ABC):
    """One format.

    Attributes:
        name: as ``--format`` and ``kind`` name it.
        text_tower: further classes can be named.
        libraries: that it needs besides this package's own, which the extra ``extra`` installs.
    """

    name: ClassVar[str]
    text_tower: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def refusal(self, trained: Trained) -> str | None:
        """Why this format cannot hold that model, and what can; None if it can."""
        return None

    def require(self) -> None:
        """Raise ConfigurationError, with the command that installs them, if libraries are missing."""
        missing = [library for library in self.libraries if find_spec(library) is None]
        if missing:
            raise ConfigurationError(
                f"{self.name} needs {', '.join(missing)}, not installed here",
                where="format",
                fix=f"run uv sync --inexact --extra {self.extra}, or pip install {' '.join(self.libraries)}",
            )

    def notes(self, trained: Trained) -> Sequence[str]:
        """What a user should know, one sentence each."""
        return ()

    @abstractmethod
    def write(self, trained: Trained, folder: Path) -> None:
        """Write the files, without the description."""

    @abstractmethod
    def load(self, folder: Path, artefact: Artefact, options: LoadOptions) -> InferenceEngine:
        """What classifies with the files of ``folder``, whose hashes were checked.

        Raises:
            InputError: it cannot run so.
        """
