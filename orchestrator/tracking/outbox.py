"""A queue on disk between the driver and the tracking server: appended by many threads, read by one.

    <folder>/00000001.jsonl      operations, one JSON object a line, appended in single writes
    <folder>/acknowledged.json   up to where they have been delivered
    <folder>/rejected.jsonl      what the server refused for good, with its reason

A killed process loses nothing that ``append`` returned from, unless the disk took nothing: what it refuses
waits in memory and is written, in order, as soon as it takes it. Delivery is at least once: what was sent but
not acknowledged is sent again, so operations must bear repetition.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Operation = dict[str, Any]
Position = tuple[int, int]
"""Segment number and byte offset."""

SEGMENT_BYTES = 8 * 2**20

logger = logging.getLogger(__name__)


def news_left(folder: Path) -> bool:
    """Whether an outbox lies there with operations that were not delivered."""
    if not folder.is_dir():
        return False
    outbox = Outbox(folder)
    outbox.close()
    return outbox.waiting


class Outbox:
    """One folder, one reader.

    Attributes:
        folder: where it lies.
        appended: set whenever something may be waiting.
    """

    def __init__(self, folder: Path | str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.appended = threading.Event()
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._unwritten: deque[bytes] = deque()
        self._acknowledged = self._read_acknowledged()
        self._segment = max(self._segments(), default=self._acknowledged[0])
        self._cut_torn_line()
        self._descriptor = self._open(self._segment)
        self._end = os.fstat(self._descriptor).st_size
        if self.pending_bytes:
            self.appended.set()

    def append(self, operation: Operation) -> None:
        """Add an operation. It survives the death of this process, as far as the disk takes it."""
        line = json.dumps(operation, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._lock:
            self._unwritten.append(line)
        self.write_out()
        self.appended.set()

    def write_out(self) -> bool:
        """Write what waits in memory; False if the disk does not take it now."""
        with self._lock:
            try:
                while self._unwritten:
                    self._write(self._unwritten[0])
                    self._unwritten.popleft()
            except OSError as error:
                if len(self._unwritten) == 1:
                    logger.warning("%s: news for MLflow waits in memory: %s", self.folder, error)
            return not self._unwritten

    def _write(self, line: bytes) -> None:
        if self._end >= self._segment_bytes:
            descriptor = self._open(self._segment + 1)
            os.close(self._descriptor)
            self._descriptor, self._segment, self._end = descriptor, self._segment + 1, 0
        written = os.write(self._descriptor, line)
        if written < len(line):
            os.ftruncate(self._descriptor, self._end)
            raise OSError(errno.ENOSPC, "the disk is full")
        self._end += written

    def read(self, limit: int = 1000) -> tuple[list[Operation], Position]:
        """The oldest operations not yet acknowledged, and the position behind them."""
        with self._lock:
            last, end = self._segment, self._end
        segment, offset = self._acknowledged
        while True:
            size = end if segment == last else self._path(segment).stat().st_size
            if offset < size or segment == last:
                break
            segment, offset = segment + 1, 0
        operations: list[Operation] = []
        if offset < size:
            with self._path(segment).open("rb") as stream:
                stream.seek(offset)
                while len(operations) < limit and stream.tell() < size:
                    line = stream.readline()
                    try:
                        operations.append(json.loads(line))
                    except ValueError:
                        self.reject({"line": line.decode(errors="replace")}, "not JSON")
                offset = stream.tell()
        return operations, (segment, offset)

    def acknowledge(self, position: Position) -> None:
        """Everything before ``position`` was delivered; segments behind it are removed."""
        temporary = self.folder / ".acknowledged"
        temporary.write_text(json.dumps({"segment": position[0], "offset": position[1]}))
        temporary.replace(self.folder / "acknowledged.json")
        self._acknowledged = position
        for segment in self._segments():
            if segment < position[0]:
                self._path(segment).unlink(missing_ok=True)

    def reject(self, operation: Operation, reason: str) -> None:
        """Put aside an operation that can never be delivered."""
        with (self.folder / "rejected.jsonl").open("a") as stream:
            stream.write(json.dumps({"reason": reason, "operation": operation}, ensure_ascii=False) + "\n")

    @property
    def waiting(self) -> bool:
        """Something may be undelivered, on disk or in memory."""
        return bool(self._unwritten) or bool(self.pending_bytes)

    @property
    def pending_bytes(self) -> int:
        """Bytes on disk that are not yet acknowledged."""
        with self._lock:
            segment, offset = self._acknowledged
            if segment == self._segment:
                return self._end - offset
            before = (self._path(s).stat().st_size for s in self._segments() if segment <= s < self._segment)
            return sum(before) - offset + self._end

    def close(self) -> None:
        with self._lock:
            os.close(self._descriptor)

    def _segments(self) -> Sequence[int]:
        return sorted(int(p.stem) for p in self.folder.glob("*.jsonl") if p.stem.isdecimal())

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:08d}.jsonl"

    def _open(self, segment: int) -> int:
        return os.open(self._path(segment), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)

    def _read_acknowledged(self) -> Position:
        first = min(self._segments(), default=1)
        try:
            document = json.loads((self.folder / "acknowledged.json").read_text())
            position = (int(document["segment"]), int(document["offset"]))
        except (OSError, ValueError, KeyError, TypeError):
            return first, 0
        return position if position[0] >= first else (first, 0)

    def _cut_torn_line(self) -> None:
        """Remove what a process left unfinished at the end, so that the next line starts on its own."""
        path = self._path(self._segment)
        if path.is_file():
            data = path.read_bytes()
            if data and not data.endswith(b"\n"):
                os.truncate(path, data.rfind(b"\n") + 1)
