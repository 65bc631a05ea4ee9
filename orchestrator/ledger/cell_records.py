"""The records of finished cells, each with a copy that takes its place where it is damaged."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from orchestrator.ledger.cell_files import check_record, format_of
from orchestrator.ledger.damage import Damage
from orchestrator.ledger.documents import CorruptError, decode, encode
from orchestrator.ledger.storage import Storage

RECORD = "record.json"
COPY = "record.copy.json"

logger = logging.getLogger(__name__)


class CellRecords:
    """``record.json`` and ``record.copy.json`` of cells.

    Args:
        storage: holds them.
        damage: told of damaged ones.
    """

    def __init__(self, storage: Storage, damage: Damage) -> None:
        self._storage, self._damage = storage, damage

    def place(self, key: str, data: bytes, known: Mapping[str, Any] | None) -> bool:
        """Put a record in place of ``known``; False if somebody else's whole one came first."""
        path, copy = f"cells/{key}/{RECORD}", f"cells/{key}/{COPY}"
        self._storage.write(copy, data)
        if known is not None or not self._storage.create(path, data):
            if known is None and (theirs := self.whole(path, key)) not in (None, data):
                self._storage.write(copy, theirs or b"")
                return False
            self._damage.keep_newer(path)
            self._storage.write(path, data)
        if (last := self.whole(path, key)) not in (None, data):  # where creating is not exclusive
            self._storage.write(copy, last or b"")
            return False
        return True

    def whole(self, path: str, key: str) -> bytes | None:
        """Bytes of a record of cell ``key`` that can be read."""
        data = self._storage.read(path)
        with contextlib.suppress(CorruptError):
            check_record(decode(data or b""), key)
            return data
        return None

    def write(self, key: str, document: Mapping[str, Any]) -> None:
        data = encode(dict(document), record_format=format_of(document))
        self._storage.write(f"cells/{key}/{COPY}", data)
        self._storage.write(f"cells/{key}/{RECORD}", data)

    def read(self, key: str) -> dict[str, Any] | None:
        return self._damage.read(
            f"cells/{key}/{RECORD}",
            lambda document: check_record(document, key),
            lambda reason: self._restore(key, reason),
        )

    def _restore(self, key: str, reason: str) -> dict[str, Any] | None:
        """The record of a cell from its copy; None, and both moved aside, if that is damaged too.

        The damaged record stays in its place until the copy replaces it: without any the cell would not count
        as finished.
        """
        path, copy = f"cells/{key}/{RECORD}", f"cells/{key}/{COPY}"
        whole = self.whole(copy, key)
        damaged = self._storage.read(path)
        if damaged is None:
            return None  # somebody removed the cell meanwhile
        with contextlib.suppress(CorruptError):
            return check_record(decode(damaged), key)  # somebody restored it meanwhile
        if whole is None:
            self._damage.set_aside(f"cells/{key}", reason, lambda target: self._put_both(key, target))
            return None
        self._damage.set_aside(
            path,
            f"{reason}; its copy takes its place",
            lambda target: self._storage.write(target, damaged),
        )
        try:
            self._storage.write(path, whole)
        except OSError as error:
            logger.warning("The record of cell %s could not be written from its copy: %s", key, error)
        return decode(whole)

    def _put_both(self, key: str, target: str) -> None:
        for name in (RECORD, COPY):
            self._storage.move(f"cells/{key}/{name}", f"{target}/{name}")
