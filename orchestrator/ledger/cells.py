"""The content-addressed store of finished, failed and in-flight cells.

    cells/<key>/<files>         predictions, prompts, history: written first, named by their content
    cells/<key>/record.json     written last, holds the hashes of the files: the commit point
    cells/<key>/record.copy.json   the same, written just before: takes its place where it is damaged
    cells/<key>/failure.json    why the last attempt failed; goes when the cell finishes
    cells/<key>/test.json       numbers on the test images, apart from the record: search never reads them
    inflight/<batch key>        how far a batch of cells is trained, after its last odd epoch
    inflight/<batch key>.even   the same after its last even epoch: if one is damaged the other is left
    claims/<key>/               leases on cells that several trials want at the same time
    quarantine/                 what was found damaged

What is damaged is moved aside, never deleted, and named in ``Ledger.damaged``. A cell whose record
is damaged as well as the copy counts as unfinished, and so does one whose record is of another cell. What a
later version of this software wrote stays where it is until the cell is trained again.

Two workers may finish one cell at the same time. The record that comes to lie there names files of its own
writer, see ``orchestrator.ledger.cell_files``; what nobody's record names is left to ``orchestrator clean``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmap_model.cells import METRIC_VERSION
from orchestrator.ledger.cell_files import check_key, check_score, entry_of, format_of, path_of
from orchestrator.ledger.cell_records import COPY, RECORD, CellRecords
from orchestrator.ledger.damage import Damage
from orchestrator.ledger.documents import (
    CorruptError,
    decode,
    digest,
    encode,
    now,
)
from orchestrator.ledger.gather import gather
from orchestrator.ledger.in_flight import InFlight, InFlightStates
from orchestrator.ledger.lease import Lease
from orchestrator.ledger.storage import Storage, open_storage
from orchestrator.redaction import redact

FAILURE, TEST, HISTORY = "failure.json", "test.json", "history.json"
WEIGHTS = "prompts.safetensors"
"""What a cell trained: the one file that may be dropped while the cell stays finished."""

ATTEMPTS = 3
"""How often a record that somebody else replaces at this moment is read again."""

Read = Callable[[str], dict[str, Any] | None]

logger = logging.getLogger(__name__)


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
        damaged: what this object found damaged, with the reason and where it is now, one line each.
    """

    def __init__(self, root: str | os.PathLike[str] | Storage) -> None:
        self.storage = open_storage(root)
        self._damage = Damage(self.storage)
        self._records = CellRecords(self.storage, self._damage)
        self._states = InFlightStates(self.storage, self._damage)

    @property
    def damaged(self) -> list[str]:
        return self._damage.lines

    def get(self, key: str, *, verify: bool = False) -> dict[str, Any] | None:
        """The record of a finished cell; None if it is not finished or its record is damaged beyond repair.

        Args:
            key: of the cell.
            verify: read and hash all its files too; a missing or changed one makes the cell unfinished.
        """
        record = self._records.read(key)
        for _ in range(ATTEMPTS if verify else 0):
            broken = [] if record is None else self._broken(key, record)
            if record is None or not broken:
                return record
            if (again := self._records.read(key)) == record:
                self._withdraw(key, record, broken)
                return None
            record = again  # somebody trained the cell again meanwhile
        return record

    def is_whole(self, key: str) -> bool:
        """Whether a cell is finished and all its files are as they were committed; moves nothing aside."""
        record = self._records.read(key)
        return record is not None and not self._broken(key, record)

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Records of those of ``keys`` that are finished; read side by side where the storage is slow."""
        return self._gather(self.get, keys)

    def commit(self, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
        """Write a finished cell: its files, then the record.

        A cell finishes once: where a whole record exists already (another worker trained it meanwhile) it
        stays. A record whose weights were dropped gives way to a whole one. A test score of other weights is
        set aside.

        Args:
            key: of the cell.
            record: JSON-able; ``key``, ``files`` and ``finished_at`` are added.
            files: content by name.

        Returns:
            True if this call committed the cell: its record is what everybody reads from now on.
        """
        known = self.get(key)
        if known is not None and not known.get("dropped"):
            return False
        entries = self._write_files(key, files)
        document = {**record, "key": key, "files": entries, "finished_at": now()}
        document.setdefault("metric_version", METRIC_VERSION)
        self._set_stale_test_aside(key, entries, known)
        if not self._records.place(key, encode(document, record_format=format_of(document)), known):
            return False
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
            self._records.write(key, record)
        self.storage.delete(path_of(key, name, record["dropped"][name]))  # also what an interrupted call left
        return freed

    def read_file(self, key: str, name: str, *, of: str = RECORD) -> bytes:
        """A file of a finished cell (``of=TEST`` for the files of its test record), checked against its hash.

        Raises:
            CorruptError: the cell is not finished, has no such file, or the file is damaged.
            DroppedError: the file was dropped.
        """
        record = self._records.read(key) if of == RECORD else self.test(key)
        if record is not None and name in record.get("dropped", {}):
            raise DroppedError(key, name, record["dropped"][name]["dropped_at"])
        if record is None or name not in record["files"]:
            raise CorruptError(f"cell {key} has no committed file {name!r}")
        return self._read_entry(key, name, record["files"][name])

    def read_files(self, key: str, record: Mapping[str, Any]) -> dict[str, bytes]:
        """All files of one record of a cell by name: of one writer, whatever is committed meanwhile.

        Raises:
            CorruptError: one is missing or damaged.
        """
        return {name: self._read_entry(key, name, entry) for name, entry in record["files"].items()}

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
            kind: see ``orchestrator.work.failures``.
            traceback: where it happened.
            about: study, trial, invocation, epoch.
        """
        said = {"kind": kind, "error": redact(error), "traceback": redact(traceback)}
        document = {"key": key, **said, "failed_at": now(), **about}
        self.storage.write(f"cells/{key}/{FAILURE}", encode(document))

    def failure(self, key: str) -> dict[str, Any] | None:
        """``{kind, error, traceback, failed_at, …}`` of a cell that failed; None otherwise."""
        found = self._damage.read(f"cells/{key}/{FAILURE}", lambda document: check_key(document, key))
        return None if found is None else {"kind": "raised", **found}

    def clear_failure(self, key: str) -> None:
        self.storage.delete(f"cells/{key}/{FAILURE}")

    def commit_test(self, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
        """Write what a finished cell scored on the test images; replaces an earlier score.

        Args:
            key: of the cell.
            record: JSON-able; ``weights``, the SHA-256 of what was scored, tells later whether the score is
                still that of the cell. ``key``, ``files`` and ``scored_at`` are added.
            files: content by name.

        Returns:
            False, and nothing is written, if the cell has other weights by now: it was trained again.
        """
        cell = self._records.read(key)
        weights = record.get("weights")
        if cell is not None and weights not in (None, cell["files"].get(WEIGHTS, {}).get("sha256", weights)):
            return False
        document = {**record, "key": key, "files": self._write_files(key, files), "scored_at": now()}
        document.setdefault("metric_version", METRIC_VERSION)
        self._damage.keep_newer(f"cells/{key}/{TEST}")
        self.storage.write(f"cells/{key}/{TEST}", encode(document, record_format=format_of(document)))
        return True

    def test(self, key: str) -> dict[str, Any] | None:
        """The test record of a cell; None if it has no score. For reports, never for search."""
        return self._damage.read(f"cells/{key}/{TEST}", lambda document: check_score(document, key))

    def tests(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Test records of those of ``keys`` that have one."""
        return self._gather(self.test, keys)

    def failures(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Failures of those of ``keys`` that have one."""
        return self._gather(self.failure, keys)

    def save_inflight(self, state: InFlight) -> str:
        """Replace the last but one state of a batch; returns its batch key."""
        return self._states.save(state)

    def inflight(self, keys: Sequence[str]) -> InFlight | None:
        """The latest whole state of the batch that was built of the cells ``keys`` in this order, or None."""
        return self._states.latest(keys)

    def drop_inflight(self, keys: Sequence[str]) -> None:
        """Forget the states of a batch."""
        self._states.drop(keys)

    def inflight_batches(self) -> list[str]:
        """Batch keys that have a state, by one listing."""
        return self._states.batches()

    def claim(self, key: str, *, invocation: str = "") -> Lease:
        """A lease on training ``key``: of workers that want the same cell at once, one computes it."""
        return Lease(self.storage, f"claims/{key}", invocation=invocation)

    def _write_files(self, key: str, files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
        entries = {name: entry_of(name, data) for name, data in files.items()}
        for name, data in files.items():
            self.storage.write(path_of(key, name, entries[name]), data)
        return entries

    def _read_entry(self, key: str, name: str, entry: Mapping[str, Any]) -> bytes:
        path = path_of(key, name, entry)
        data = self.storage.read(path)
        if data is None or digest(data) != entry["sha256"]:
            raise CorruptError(f"{self.storage.locate(path)} is not what was committed")
        return data

    def _broken(self, key: str, record: Mapping[str, Any]) -> list[str]:
        """Names of the files of a record that are missing or damaged."""
        broken = []
        for name, entry in record["files"].items():
            try:
                self._read_entry(key, name, entry)
            except CorruptError:
                broken.append(name)
        return broken

    def _withdraw(self, key: str, record: dict[str, Any], broken: Sequence[str]) -> None:
        """Set a record aside that names broken files, and these: the cell is unfinished from now on.

        Its test score stays: `commit` decides whether it is one of what is trained again.
        """

        def put(target: str) -> None:
            self.storage.write(f"{target}/{RECORD}", encode(record, record_format=format_of(record)))
            for name in (RECORD, COPY):  # in this order: a copy alone finishes nothing
                self.storage.delete(f"cells/{key}/{name}")
            for name in broken:
                path = path_of(key, name, record["files"][name])
                if self.storage.read(path) is not None:
                    self.storage.move(path, f"{target}/{path.rpartition('/')[2]}")

        reason = f"cells/{key}: {' and '.join(broken)} missing or not what was committed"
        self._damage.set_aside(f"cells/{key}", reason, put)

    def _cells_with(self, name: str) -> set[str]:
        suffix = f"/{name}"
        return {path.removesuffix(suffix) for path in self.storage.files("cells") if path.endswith(suffix)}

    def _set_stale_test_aside(
        self, key: str, entries: Mapping[str, Mapping[str, Any]], known: Mapping[str, Any] | None
    ) -> None:
        """A test score counts only for the weights that were scored."""
        test = self.test(key)
        if test is None or WEIGHTS not in entries:
            return
        if known is None and self.storage.read(f"cells/{key}/{RECORD}") is not None:
            return  # of another worker, which was first: the score is of its weights
        before = (known or {}).get("dropped", {}).get(WEIGHTS, {}).get("sha256")
        if test.get("weights", before) != entries[WEIGHTS]["sha256"]:
            reason = f"cells/{key}/{TEST}: it is the score of other weights than the cell's new ones"
            self._damage.move_aside(f"cells/{key}/{TEST}", reason)

    def _gather(self, read: Read, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        wanted = list(dict.fromkeys(keys))
        found = gather(read, wanted)
        return {key: record for key, record in zip(wanted, found, strict=True) if record is not None}
