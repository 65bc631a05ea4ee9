"""Records of one folder that the drivers of a study replace: of every name the one that counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.ledger.documents import CorruptError, decode
from orchestrator.ledger.fences import Opening, file_name, resolve
from orchestrator.ledger.gather import gather
from orchestrator.ledger.storage import Storage

AGAIN = 3
"""Attempts to read a folder in which records vanish: a driver takes the study over at this moment."""

T = TypeVar("T")


@dataclass(frozen=True)
class UnreadableRecord:
    """A record that counts and cannot be read, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class FolderRecords(Generic[T]):
    """What a folder holds.

    Attributes:
        records: by name, in order.
        unreadable: those that cannot be read, by name.
        late: paths of records that count for nothing: an earlier driver wrote them when a later one had
            taken over.
    """

    records: dict[str, T]
    unreadable: dict[str, UnreadableRecord]
    late: list[str]


class FencedRecords(Generic[T]):
    """One folder of a study.

    Args:
        storage: where it is.
        study: folder of the study.
        folder: its name below it.
        parse: makes a record of its name and document; raises CorruptError if it is not what belongs there.
        opening: gives the latest opening.
    """

    def __init__(
        self,
        storage: Storage,
        study: str,
        folder: str,
        parse: Callable[[str, dict[str, Any]], T],
        opening: Callable[[], Opening],
    ) -> None:
        self._storage, self._parse, self._opening = storage, parse, opening
        self._folder, self._path = folder, f"{study}/{folder}"

    def load(self, *names: str) -> FolderRecords[T]:
        """All records that count, or those of the given names; read side by side where that pays."""
        for attempt in range(AGAIN):
            resolved = resolve(self._folder, self._storage.names(self._path), self._opening())
            wanted = [n for n in sorted(resolved.counting, key=_order) if not names or n in names]
            contents = gather(self._read, [(name, resolved.counting[name]) for name in wanted])
            if None not in contents or attempt == AGAIN - 1:
                break
        found = dict(zip(wanted, contents, strict=True))
        return FolderRecords(
            records={n: r for n, r in found.items() if r is not None and not isinstance(r, UnreadableRecord)},
            unreadable={n: r for n, r in found.items() if isinstance(r, UnreadableRecord)},
            late=[self._storage.locate(f"{self._path}/{file}") for file in resolved.late],
        )

    def names(self) -> list[str]:
        """Names of the records that count, in order; reads none of them."""
        files = self._storage.names(self._path)
        return sorted(resolve(self._folder, files, self._opening()).counting, key=_order)

    def _read(self, wanted: tuple[str, int]) -> T | UnreadableRecord | None:
        name, fence = wanted
        path = f"{self._path}/{file_name(name, fence)}"
        data = self._storage.read(path)
        if data is None:
            return None
        try:
            return self._parse(name, decode(data))
        except CorruptError as error:
            return UnreadableRecord(path, str(error))


def _order(name: str) -> tuple[int, str]:
    """Numbers by their value."""
    return (len(name) if name.isdecimal() else 0), name
