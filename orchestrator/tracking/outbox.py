"""A queue on disk between the driver and the tracking server: appended by many threads, read by one.

    <folder>/00000001.jsonl      operations, one JSON object a line, appended in single writes
    <folder>/acknowledged.json   up to where they have been delivered
    <folder>/refused.jsonl       what the server refused for good, with its words

A killed process loses nothing that ``append`` returned from, unless the disk took nothing: what it refuses
waits in memory and is written, in order, as soon as it takes it. Delivery is at least once: what was sent but
not acknowledged is sent again, so operations must bear repetition. A folder that somebody shortened says so
(``damaged``): what is gone from it has to be told again from the records.

Each driver has a folder of its own, named by its fence. The next driver discards those of earlier ones and
tells the study again: news of a driver that was stopped and goes on later is not told by anybody else.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from orchestrator.tracking.operations import Operation

OutboxPosition = tuple[int, int]
"""Segment number and byte offset."""

SEGMENT_BYTES = 8 * 2**20

REFUSED = "refused.jsonl"

logger = logging.getLogger(__name__)


def open_outbox(root: Path, fence: int) -> Outbox:
    """The outbox of a driver; those of earlier drivers, with or without a fence, are discarded.

    Args:
        root: holds the outboxes of a study.
        fence: of the driver.
    """
    root.mkdir(parents=True, exist_ok=True)
    outbox = Outbox(root / str(fence))  # first, so that a process of an earlier driver sees it and ends
    for entry in root.iterdir():
        if entry.is_dir() and entry.name.isdecimal() and int(entry.name) < fence:
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.suffix in (".json", ".jsonl"):
            entry.unlink(missing_ok=True)
    return outbox


def is_superseded(folder: Path) -> bool:
    """Whether a later driver has an outbox beside this one, or this one was discarded."""
    try:
        names = [entry.name for entry in folder.parent.iterdir()]
    except OSError:
        return False
    return folder.name.isdecimal() and any(n.isdecimal() and int(n) > int(folder.name) for n in names)


def news_left(root: Path) -> bool:
    """Whether outboxes, with or without a fence, lie there with operations that were not delivered."""
    for folder in (root, *(entry for entry in root.glob("*") if entry.name.isdecimal())):
        if any(folder.glob("*.jsonl")):
            outbox = Outbox(folder)
            outbox.close()
            if outbox.waiting or outbox.damaged:
                return True
    return False


class Outbox:
    """One folder, one reader.

    Attributes:
        folder: where it lies.
        appended: set whenever something may be waiting.
        damaged: operations that were not delivered are gone; reset by whoever has told them again.
        refused: how many operations were put aside.
    """

    def __init__(self, folder: Path | str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = Path(folder)
        self._make_folder()
        self.appended = threading.Event()
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._unwritten: deque[bytes] = deque()
        self.damaged = False
        self.refused = 0
        self._acknowledged = self._read_acknowledged()
        self._segment = max(self._segments(), default=self._acknowledged[0])
        self._cut_torn_line()
        self._descriptor = self._open(self._segment)
        self._end = os.fstat(self._descriptor).st_size
        with self._lock:
            self._mend()
        if self.waiting or self.damaged:
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
                    logger.warning("%s: news for the tracking server waits in memory: %s", self.folder, error)
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

    def read(self, limit: int = 1000) -> tuple[list[Operation], OutboxPosition]:
        """The oldest operations not yet acknowledged, and the position behind them."""
        with self._lock:
            self._mend()
            last, end = self._segment, self._end
            segment, offset = self._acknowledged
        while True:
            size = end if segment == last else _size(self._path(segment))
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
                        self.damaged = True
                offset = max(stream.tell(), min(size, offset + 1))  # advances whatever lies there
        return operations, (segment, offset)

    def _mend(self) -> None:
        """Notice that files were shortened or removed behind our back; go on behind what is left."""
        try:
            size = _size(self._path(self._segment))
            if size < self._end or not self._path(self._segment).is_file():
                self.damaged = True
                if is_superseded(self.folder):
                    self._acknowledged = self._segment, self._end
                    return
                os.close(self._descriptor)
                self._make_folder()
                self._cut_torn_line()
                self._descriptor = self._open(self._segment)
                self._end = os.fstat(self._descriptor).st_size
            elif size > self._end:
                self._end = size
        except OSError as error:
            logger.warning("%s: %s", self.folder, error)
            return
        segment, offset = self._acknowledged
        present = set(self._segments())
        if segment > self._segment:
            self.damaged, self._acknowledged = True, (self._segment, self._end)
            return
        missing = [number for number in range(segment, self._segment) if number not in present]
        if missing:
            self.damaged = True
            segment, offset = max(missing) + 1, 0
        if offset > (limit := self._end if segment == self._segment else _size(self._path(segment))):
            self.damaged, offset = True, limit
        self._acknowledged = segment, offset

    def acknowledge(self, position: OutboxPosition) -> None:
        """Everything before ``position`` was delivered; segments behind it are removed."""
        temporary = self.folder / ".acknowledged"
        temporary.write_text(json.dumps({"segment": position[0], "offset": position[1]}))
        temporary.replace(self.folder / "acknowledged.json")
        self._acknowledged = position
        for segment in self._segments():
            if segment < position[0]:
                self._path(segment).unlink(missing_ok=True)

    @property
    def refused_file(self) -> Path:
        """Where refused operations lie, each with the server's words."""
        return self.folder / REFUSED

    def reject(self, operation: Operation, reason: str) -> None:
        """Put aside an operation that the server does not take."""
        self.refused += 1
        line = json.dumps({"reason": reason, "operation": operation}, ensure_ascii=False) + "\n"
        try:
            with self.refused_file.open("a") as stream:
                stream.write(line)
        except OSError as error:
            logger.error(
                "Refused by the tracking server, and %s takes no note of it (%s): %s",
                self.folder,
                error,
                line,
            )

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
                return max(0, self._end - offset)
            before = (_size(self._path(s)) for s in self._segments() if segment <= s < self._segment)
            return max(0, sum(before) - offset + self._end)

    def close(self) -> None:
        with self._lock:
            os.close(self._descriptor)

    def _segments(self) -> Sequence[int]:
        return sorted(int(p.stem) for p in self.folder.glob("*.jsonl") if p.stem.isdecimal())

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:08d}.jsonl"

    def _make_folder(self) -> None:
        """For this user alone: what is told is for the server. Other users may have theirs beside it."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def _open(self, segment: int) -> int:
        return os.open(self._path(segment), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def _read_acknowledged(self) -> OutboxPosition:
        first = min(self._segments(), default=1)
        try:
            document = json.loads((self.folder / "acknowledged.json").read_text())
            position = (int(document["segment"]), max(0, int(document["offset"])))
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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
