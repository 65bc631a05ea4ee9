"""What is kept so that a study can be told again: to another tracking server, or to one that lost it.

    studies/<name>/told/rows/<row>.<fence>.json   rows that no other record tells of in full: those that did
                                                  not complete, with the epochs of their cells
    studies/<name>/told/scored/<row>.json         which rows were scored on the test images
    studies/<name>/told/fences/<fence>.json       whether MLflow was told everything up to that driver

Of a row or a mark written under several fences the highest counts: a driver that was superseded changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmap_model.plain import content_key
from orchestrator.ledger.documents import CorruptError, decode, encode
from orchestrator.ledger.gather import gather
from orchestrator.ledger.storage import Storage
from orchestrator.ledger.write_behind import WriteBehind


class ToldStore:
    """Records of the telling of one study.

    Args:
        storage, study: where its records are.

    Attributes:
        damaged: records that could not be read, one line each.
    """

    def __init__(self, storage: Storage, study: str) -> None:
        self._storage, self._folder = storage, f"studies/{study}/told"
        self.damaged: list[str] = []

    def save_row(self, name: str, fence: int, row: Mapping[str, Any], behind: WriteBehind) -> None:
        """Keep a row, ``Row.to_dict()``, behind the caller's back."""
        path = f"{self._folder}/rows/{_slug(name)}.{fence}.json"
        behind.put(path, encode({"name": name, "fence": fence, "row": dict(row)}))

    def rows(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """By name of a row, the highest fence under which it was kept whole, and what was kept."""
        found: dict[str, tuple[int, dict[str, Any]]] = {}
        for document in self._gather("rows"):
            name, fence = document["name"], document["fence"]
            if name not in found or found[name][0] < fence:
                found[name] = (fence, document["row"])
        return found

    def save_scored(self, name: str, keys: Iterable[str]) -> None:
        """Keep that a row was scored on the test images."""
        self._write(f"scored/{_slug(name)}.json", {"name": name, "keys": list(keys)})

    def scored(self) -> dict[str, list[str]] | None:
        """Names of rows that were scored, with their cells; None if that was never recorded."""
        found = self._gather("scored")
        return {d["name"]: d["keys"] for d in found} if found else None

    def begin(self, fence: int) -> str | None:
        """A driver begins to tell. Up to which fence MLflow has everything; None if something is missing."""
        fences = self._fences()
        before = max((f for f in fences if f < fence), default=None)
        mark = None if before is None else self._read(f"fences/{before}.json")
        self._write(f"fences/{fence}.json", {"fence": fence, "complete": False})
        for earlier in fences:
            if earlier < (before or 0):
                self._storage.delete(f"{self._folder}/fences/{earlier}.json")
        return str(before) if mark is not None and mark["complete"] else None

    def complete(self, fence: int) -> None:
        """MLflow has everything that the driver of this fence, and those before it, had to say."""
        self._write(f"fences/{fence}.json", {"fence": fence, "complete": True})

    def is_complete(self) -> bool:
        """Whether MLflow was told everything, or never anything."""
        latest = max(self._fences(), default=None)
        mark = None if latest is None else self._read(f"fences/{latest}.json")
        return latest is None or (mark is not None and bool(mark["complete"]))

    def _fences(self) -> list[int]:
        stems = (name.removesuffix(".json") for name in self._storage.names(f"{self._folder}/fences"))
        return [int(stem) for stem in stems if stem.isdecimal()]

    def _write(self, path: str, document: Mapping[str, Any]) -> None:
        self._storage.write(f"{self._folder}/{path}", encode(dict(document)))

    def _read(self, path: str) -> dict[str, Any] | None:
        full = f"{self._folder}/{path}"
        data = self._storage.read(full)
        if data is None:
            return None
        try:
            document = decode(data)
            own = _slug(document["name"]) if "name" in document else str(document.get("fence"))
            if own != path.rpartition("/")[2].partition(".")[0]:
                raise CorruptError(f"it is the record of {document.get('name', own)!r:.40}")
            return document
        except CorruptError as error:
            self.damaged.append(f"{self._storage.locate(full)}: {error}")
            return None

    def _gather(self, folder: str) -> list[dict[str, Any]]:
        names = sorted(n for n in self._storage.names(f"{self._folder}/{folder}") if n.endswith(".json"))
        documents = gather(self._read, [f"{folder}/{name}" for name in names])
        return [document for document in documents if document is not None]


def _slug(name: str) -> str:
    return content_key(name)[:16]
