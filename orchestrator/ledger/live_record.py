"""What a driver shows, kept for those who follow it from elsewhere.

    studies/<name>/live/<fence>.json   its state as it was a few seconds ago, and its latest events

Replaced every few seconds; of no use once the driver has ended, and no part of the study's results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.ledger.documents import CorruptError, decode, encode
from orchestrator.ledger.storage import Storage


class LiveRecord:
    """The live records of one study.

    Args:
        storage, study: where its records are.
    """

    def __init__(self, storage: Storage, study: str) -> None:
        self._storage, self._folder = storage, f"studies/{study}/live"

    def write(self, fence: int, document: Mapping[str, Any]) -> None:
        """Replace what the driver of this fence shows."""
        self._storage.write(f"{self._folder}/{fence}.json", encode(dict(document)))

    def forget_before(self, fence: int) -> None:
        """Remove what earlier drivers showed."""
        for known in self._fences():
            if known < fence:
                self._storage.delete(f"{self._folder}/{known}.json")

    def read(self, fence: int) -> dict[str, Any] | None:
        """What the driver of this fence showed last; None if it shows nothing, or is writing just now."""
        data = self._storage.read(f"{self._folder}/{fence}.json")
        try:
            return None if data is None else decode(data)
        except CorruptError:
            return None

    def _fences(self) -> list[int]:
        stems = (name.removesuffix(".json") for name in self._storage.names(self._folder))
        return [int(stem) for stem in stems if stem.isdecimal()]
