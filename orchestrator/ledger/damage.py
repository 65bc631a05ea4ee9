"""What is found damaged: named in one line, moved aside, never deleted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from orchestrator.ledger.documents import CorruptError, NewerFormatError, decode, encode, now
from orchestrator.ledger.storage import Storage

Document = dict[str, Any]
CheckDocument = Callable[[Document], Document]
Restore = Callable[[str], Document | None]

logger = logging.getLogger(__name__)


class Damage:
    """Reads records of a storage and puts damaged ones below ``quarantine``.

    Attributes:
        lines: what was found, with the reason and where it is now, one line each.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.lines: list[str] = []

    def read(self, path: str, check: CheckDocument, restore: Restore | None = None) -> Document | None:
        """A record, or None if there is none that can be read.

        Args:
            path: of the record.
            check: returns the record, or raises CorruptError if it is not the one that belongs there.
            restore: makes of the reason what takes a damaged record's place; by default nothing does.
        """
        data = self._storage.read(path)
        if data is None:
            return None
        try:
            return check(decode(data))
        except NewerFormatError as error:
            self.note(f"{path}: {error}")
            return None
        except CorruptError as error:
            reason = f"{path}: {error}"
        if restore is not None:
            return restore(reason)
        if self._storage.read(path) == data:  # else somebody mended it meanwhile
            self.move_aside(path, reason)
        return None

    def move_aside(self, path: str, reason: str) -> None:
        """Move a file or folder."""
        self.set_aside(path, reason, lambda target: self._storage.move(path, target))

    def set_aside(self, path: str, reason: str, put: Callable[[str], None]) -> None:
        """Have what is damaged put at a place below ``quarantine``, and say so.

        Args:
            path: of what is damaged.
            reason: begins the line.
            put: told the place.
        """
        stamp = re.sub(r"\W", "", now())
        target = f"quarantine/{path.replace('/', '-')}-{stamp}"
        try:
            put(target)
            message = f"{reason}; moved to {self._storage.locate(target)}"
        except OSError as error:
            message = f"{reason}; could not be moved aside: {error}"
        self.note(message)

    def keep_newer(self, path: str) -> None:
        """Keep aside what a later version wrote and this one is about to replace."""
        data = self._storage.read(path)
        try:
            decode(encode({}) if data is None else data)
        except NewerFormatError as error:
            self.set_aside(path, f"{path}: {error}", lambda target: self._storage.write(target, data or b""))
        except CorruptError:
            return

    def note(self, message: str) -> None:
        """Name damage, once."""
        if message not in self.lines:
            self.lines.append(message)
            logger.warning("Damaged: %s", message)
