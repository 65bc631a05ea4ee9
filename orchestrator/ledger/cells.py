"""The content-addressed store of finished, failed and in-flight cells.

    cells/<key>/<files>         predictions, prompts, history: written first
    cells/<key>/record.json     written last, holds the hashes of the files: the commit point
    cells/<key>/record.copy.json   the same, written just before: takes its place where it is damaged
    cells/<key>/failure.json    why the last attempt failed; goes when the cell finishes
    cells/<key>/test.json       numbers on the test images, apart from the record: search never reads them
    inflight/<batch key>        how far a batch of cells is trained, after its last odd epoch
    inflight/<batch key>.even   the same after its last even epoch: if one is damaged the other is left
    claims/<key>/               leases on cells that several trials want at the same time
    quarantine/                 what was found damaged

What is damaged is moved aside, never deleted, and named in ``Ledger.damaged``. A cell whose record
is damaged as well as the copy counts as unfinished.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmap_model.configuration import content_key
from orchestrator.ledger.documents import (
    CorruptError,
    decode,
    decode_state,
    digest,
    encode,
    encode_state,
    now,
)
from orchestrator.ledger.gather import gather
from orchestrator.ledger.lease import Lease
from orchestrator.ledger.storage import Storage, open_storage
from orchestrator.redaction import redact

RECORD, FAILURE, TEST, HISTORY = "record.json", "failure.json", "test.json", "history.json"
COPY = "record.copy.json"
WEIGHTS = "prompts.safetensors"
"""What a cell trained: the one file that may be dropped while the cell stays finished."""

EVEN = ".even"

METRIC_VERSION = 1
"""Raised by hand whenever a metric of the same predictions would come out otherwise."""

Read = Callable[[str], dict[str, Any] | None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InFlight:
    """How far a batch is trained.

    Attributes:
        cells: the cells the batch was built of, as dictionaries, in order.
        active: keys of those neither failed nor cancelled.
        epoch: epochs completed.
        history: per key the reports of epochs 1 to ``epoch``.
        state: what ``FusedRun.restore`` takes.
        about: who wrote it: study, trial, invocation, time.
    """

    cells: tuple[dict[str, Any], ...]
    active: tuple[str, ...]
    epoch: int
    history: dict[str, list[dict[str, Any]]]
    state: bytes
    about: dict[str, Any]


class DroppedError(CorruptError):
    """A file of a finished cell that was dropped; training the cell again brings it back."""

    def __init__(self, key: str, name: str, at: str) -> None:
        super().__init__(
            f"{name} of cell {key[:12]} was dropped on {at[:16]}, when the cell was no finalist: "
            "a method that trains the whole backbone keeps its weights for finalists only"
        )


class Ledger:
    """Finished and unfinished cells below one storage root.

    Args:
        root: local path, URI or ``Storage``.

    Attributes:
        damaged: paths moved to quarantine by this object, with the reason.
    """

    def __init__(self, root: str | os.PathLike[str] | Storage) -> None:
        self.storage = open_storage(root)
        self.damaged: list[str] = []

    def get(self, key: str, *, verify: bool = False) -> dict[str, Any] | None:
        """The record of a finished cell; None if it is not finished or its record is damaged beyond repair.

        Args:
            key: of the cell.
            verify: read and hash all its files too; a missing or changed one makes the cell unfinished.
        """
        record = self._read_record(key)
        if record is not None and verify:
            for name, entry in record["files"].items():
                data = self.storage.read(f"cells/{key}/{name}")
                if data is None or digest(data) != entry["sha256"]:
                    self._quarantine(f"cells/{key}", f"{name} is missing or not what was committed")
                    return None
        return record

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Records of those of ``keys`` that are finished; read side by side where the storage is slow."""
        return self._gather(self.get, keys)

    def commit(self, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
        """Write a finished cell: its files, then the record.

        A cell finishes once: where a whole record exists already (another study trained it meanwhile) nothing
        is written. A record whose weights were dropped gives way to a whole one.

        Args:
            key: of the cell.
            record: JSON-able; ``key``, ``files`` and ``finished_at`` are added.
            files: content by name.

        Returns:
            True if this call committed the cell.
        """
        known = self.get(key)
        if known is not None and not known.get("dropped"):
            return False
        entries = self._write_files(key, files)
        document = {**record, "key": key, "files": entries, "finished_at": now()}
        document.setdefault("metric_version", METRIC_VERSION)
        self._write_record(key, document)
        self.storage.delete(f"cells/{key}/{FAILURE}")
        return True

    def drop(self, key: str, name: str) -> int:
        """Delete a file of a finished cell whose numbers stay; returns the bytes that went.

        The record is rewritten first: ``dropped`` holds the file's entry and the time, ``files`` no longer
        names it, so the record stays whole at every moment.
        """
        record = self.get(key)
        if record is None or name not in {**record["files"], **record.get("dropped", {})}:
            return 0
        freed = 0
        if name in record["files"]:
            entry = record["files"].pop(name)
            freed = int(entry["bytes"])
            record["dropped"] = {**record.get("dropped", {}), name: {**entry, "dropped_at": now()}}
            self._write_record(key, record)
        self.storage.delete(f"cells/{key}/{name}")  # also what an interrupted call left behind
        return freed

    def read_file(self, key: str, name: str, *, of: str = RECORD) -> bytes:
        """A file of a finished cell (``of=TEST`` for the files of its test record), checked against its hash.

        Raises:
            CorruptError: the cell is not finished, has no such file, or the file is damaged.
            DroppedError: the file was dropped.
        """
        record = self._read_record(key) if of == RECORD else self._read_json(f"cells/{key}/{of}")
        if record is not None and name in record.get("dropped", {}):
            raise DroppedError(key, name, record["dropped"][name]["dropped_at"])
        if record is None or name not in record["files"]:
            raise CorruptError(f"cell {key} has no committed file {name!r}")
        data = self.storage.read(f"cells/{key}/{name}")
        if data is None or digest(data) != record["files"][name]["sha256"]:
            raise CorruptError(f"{self.storage.locate(f'cells/{key}/{name}')} is not what was committed")
        return data

    def history(self, key: str) -> list[dict[str, Any]]:
        """Reports of all epochs of a finished cell, first epoch first."""
        return list(decode(self.read_file(key, HISTORY))["epochs"])

    def locate(self, key: str) -> str:
        """Folder of a cell as a path or URI."""
        return self.storage.locate(f"cells/{key}")

    def known(self) -> list[str]:
        """Sorted keys of all cells of which anything is kept, finished or not, by one listing."""
        return self.storage.names("cells")

    def finished(self) -> set[str]:
        """Keys of all cells with a record, by listings alone."""
        return self._cells_with(RECORD)

    def failed(self) -> set[str]:
        """Keys of all cells whose last attempt failed, by listings alone."""
        return self._cells_with(FAILURE)

    def record_failure(
        self, key: str, error: str, *, kind: str = "raised", traceback: str = "", **about: Any
    ) -> None:
        """Keep why a cell failed, without secrets. It counts as failed until it finishes or trains again.

        Args:
            key: of the cell.
            error: for people.
            kind: see ``orchestrator.failures``.
            traceback: where it happened.
            about: study, trial, invocation, epoch.
        """
        said = {"kind": kind, "error": redact(error), "traceback": redact(traceback)}
        document = {"key": key, **said, "failed_at": now(), **about}
        self.storage.write(f"cells/{key}/{FAILURE}", encode(document))

    def failure(self, key: str) -> dict[str, Any] | None:
        """``{kind, error, traceback, failed_at, …}`` of a cell that failed; None otherwise."""
        found = self._read_json(f"cells/{key}/{FAILURE}")
        return None if found is None else {"kind": "raised", **found}

    def clear_failure(self, key: str) -> None:
        self.storage.delete(f"cells/{key}/{FAILURE}")

    def commit_test(self, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Write what a finished cell scored on the test images; replaces an earlier score."""
        document = {**record, "key": key, "files": self._write_files(key, files), "scored_at": now()}
        document.setdefault("metric_version", METRIC_VERSION)
        self.storage.write(f"cells/{key}/{TEST}", encode(document))

    def test(self, key: str) -> dict[str, Any] | None:
        """The test record of a cell; None if it was never scored. For reports, never for search."""
        return self._read_json(f"cells/{key}/{TEST}")

    def tests(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Test records of those of ``keys`` that have one."""
        return self._gather(self.test, keys)

    def failures(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Failures of those of ``keys`` that have one."""
        return self._gather(self.failure, keys)

    def save_inflight(self, state: InFlight) -> str:
        """Replace the last but one state of a batch; returns its batch key (of the active cells)."""
        key = batch_key(state.active)
        header = {name: value for name, value in vars(state).items() if name != "state"}
        path = f"inflight/{key}{'' if state.epoch % 2 else EVEN}"
        self.storage.write(path, encode_state({**header, "saved_at": now()}, state.state))
        return key

    def inflight(self, keys: Sequence[str]) -> InFlight | None:
        """The latest whole state of the batch whose active cells are ``keys`` in this order, or None."""
        batch = batch_key(keys)
        found = (self._read_state(f"inflight/{name}") for name in (batch, f"{batch}{EVEN}"))
        return max((state for state in found if state is not None), key=lambda s: s.epoch, default=None)

    def _read_state(self, path: str) -> InFlight | None:
        data = self.storage.read(path)
        if data is None:
            return None
        try:
            header, state = decode_state(data)
        except CorruptError as error:
            self._quarantine(path, str(error))
            return None
        return InFlight(
            cells=tuple(header["cells"]),
            active=tuple(header["active"]),
            epoch=header["epoch"],
            history=header["history"],
            state=state,
            about=header["about"],
        )

    def drop_inflight(self, keys: Sequence[str]) -> None:
        """Forget the states of a batch."""
        batch = batch_key(keys)
        self.storage.delete(f"inflight/{batch}")
        self.storage.delete(f"inflight/{batch}{EVEN}")

    def inflight_batches(self) -> list[str]:
        """Batch keys that have a state, by one listing."""
        return sorted({name.removesuffix(EVEN) for name in self.storage.names("inflight")})

    def claim(self, key: str, *, invocation: str = "") -> Lease:
        """A lease on training ``key``: of workers that want the same cell at once, one computes it."""
        return Lease(self.storage, f"claims/{key}", invocation=invocation)

    def _write_files(self, key: str, files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
        for name, data in files.items():
            self.storage.write(f"cells/{key}/{name}", data)
        return {name: {"sha256": digest(data), "bytes": len(data)} for name, data in files.items()}

    def _cells_with(self, name: str) -> set[str]:
        suffix = f"/{name}"
        return {path.removesuffix(suffix) for path in self.storage.files("cells") if path.endswith(suffix)}

    def _write_record(self, key: str, document: Mapping[str, Any]) -> None:
        data = encode(dict(document))
        self.storage.write(f"cells/{key}/{COPY}", data)
        self.storage.write(f"cells/{key}/{RECORD}", data)

    def _read_record(self, key: str) -> dict[str, Any] | None:
        return self._read_json(f"cells/{key}/{RECORD}", lambda reason: self._restore(key, reason))

    def _restore(self, key: str, reason: str) -> dict[str, Any] | None:
        """The record of a cell from its copy; None, and the cell moved aside, if that is damaged too.

        The damaged record stays in its place until the copy replaces it: without any the cell would not count
        as finished.
        """
        data = self.storage.read(f"cells/{key}/{COPY}") or b""
        try:
            record = decode(data)
        except CorruptError:
            self._quarantine(f"cells/{key}", reason)
            return None
        path = f"cells/{key}/{RECORD}"
        damaged = self.storage.read(path)
        if damaged is None:
            return None  # somebody removed the cell meanwhile
        with contextlib.suppress(CorruptError):
            return decode(damaged)  # somebody restored it meanwhile
        self._set_aside(
            path,
            f"{reason}; its copy takes its place",
            lambda target: self.storage.write(target, damaged),
        )
        try:
            self.storage.write(path, data)
        except OSError as error:
            logger.warning("The record of cell %s could not be written from its copy: %s", key, error)
        return record

    def _read_json(self, path: str, restore: Read | None = None) -> dict[str, Any] | None:
        """A document; of a damaged one what ``restore`` makes of the reason, by default nothing."""
        data = self.storage.read(path)
        if data is None:
            return None
        try:
            return decode(data)
        except CorruptError as error:
            reason = f"{path}: {error}"
        if restore is not None:
            return restore(reason)
        self._quarantine(path, reason)
        return None

    def _quarantine(self, path: str, reason: str) -> None:
        self._set_aside(path, reason, lambda target: self.storage.move(path, target))

    def _set_aside(self, path: str, reason: str, put: Callable[[str], None]) -> None:
        """Have what is damaged put below ``quarantine`` and say so."""
        stamp = re.sub(r"\W", "", now())
        target = f"quarantine/{path.replace('/', '-')}-{stamp}"
        try:
            put(target)
            message = f"{reason}; moved to {self.storage.locate(target)}"
        except OSError as error:
            message = f"{reason}; could not be moved aside: {error}"
        self.damaged.append(message)
        logger.warning("Damaged: %s", message)

    def _gather(self, read: Read, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        wanted = list(dict.fromkeys(keys))
        found = gather(read, wanted)
        return {key: record for key, record in zip(wanted, found, strict=True) if record is not None}


def batch_key(keys: Sequence[str]) -> str:
    """Name of a batch: hash of its cell keys in order."""
    return content_key(list(keys))
