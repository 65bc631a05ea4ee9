"""Formats around artefacts of ``mmap_model``: how they are written, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from mmap_model.inference.artefact import Artefact
    from orchestrator.exporting.winner import Winner

CARRIED = Path(__file__).parent / "carried"
"""Files that go into artefacts."""


class Wrapping(ABC):
    """One format that holds artefacts of ``mmap_model`` in folders of its own.

    Attributes:
        name: as ``--format`` and ``kind`` name it.
        holds: the kinds of the artefacts, and the folders they lie in.
    """

    name: ClassVar[str]
    holds: ClassVar[Mapping[str, str]]

    @abstractmethod
    def fill(self, winner: Winner, parts: Mapping[str, Artefact], made: Path, folder: Path) -> None:
        """Write the files.

        Args:
            winner: what is exported.
            parts: descriptions of the artefacts, by kind.
            made: folder in which these lie, in folders named by kind; they may be moved away.
            folder: to write into, without the description.
        """

    def versions(self) -> Mapping[str, str | None]:
        """Of libraries beside those that ``mmap_model`` runs on."""
        return {}

    def notes(self) -> Sequence[str]:
        """What a user should know, one sentence each."""
        return ()

    def described(self, parts: Mapping[str, Artefact]) -> Artefact:
        """The description, made of the first part's."""
        first = next(iter(parts.values()))
        features = first.task_features
        return replace(
            first,
            kind=self.name,
            files={},
            versions={**first.versions, **self.versions()},
            task_features=None if features is None else f"{next(iter(self.holds.values()))}/{features}",
            notes=(*first.notes, *self.notes()),
        )
