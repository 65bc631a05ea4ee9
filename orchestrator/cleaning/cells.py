"""Cells in a storage: which of them, and which of their files, may go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.cleaning.item import SETTLED, Findings, is_temporary
from orchestrator.ledger import CorruptError, Storage
from orchestrator.ledger.cell_files import check_record, names_of
from orchestrator.ledger.cell_records import COPY, RECORD
from orchestrator.ledger.cells import FAILURE, TEST
from orchestrator.ledger.documents import NewerFormatError, decode
from orchestrator.ledger.gather import gather
from orchestrator.ledger.storage import StorageEntry


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What may need cells.

    Attributes:
        referred: keys that stand in the records of studies that stay.
        complete: all those records could be read, so that no other cell is referred to.
        studies: names of studies that stay.
        running: a driver runs a study, so that cells may come to be needed at any moment.
        claimed: somebody trains a cell for others, perhaps without running a study.
    """

    referred: Collection[str]
    complete: bool
    studies: Sequence[str]
    running: bool
    claimed: bool


def sort_cells(
    storage: Storage, entries: Iterable[StorageEntry], needs: Needs, now: float, findings: Findings
) -> None:
    """Sort all cells into what may go and what stays."""
    groups: dict[str, dict[str, StorageEntry]] = {}
    for entry in entries:
        if entry.path.startswith("cells/") and not is_temporary(entry.path):
            _, key, *rest = entry.path.split("/")
            groups.setdefault(key, {})["/".join(rest)] = entry
    finished = [key for key, files in groups.items() if RECORD in files]
    settled = not needs.running and not needs.claimed
    doubtful = [key for key in finished if key not in needs.referred] if _may_go(needs) else []
    reasons = gather(lambda key: _why_unreferred(storage, key, needs.studies), doubtful)
    why = {key: reason for key, reason in zip(doubtful, reasons, strict=True) if reason}
    staying = [key for key in finished if key not in why] if settled else []
    unnamed = gather(lambda key: _unnamed(storage, key, groups[key]), staying)
    surplus = dict(zip(staying, unnamed, strict=True))
    for key, files in groups.items():
        size = sum(entry.size for entry in files.values())
        if key in why:
            findings.add("cells", f"cells/{key}", size, why[key])
        elif RECORD in files:
            old = [name for name in surplus.get(key, ()) if now - files[name].modified > SETTLED]
            for name in old:
                findings.add(
                    "files", f"cells/{key}/{name}", files[name].size, "no record of its cell names it"
                )
            findings.keep("cells", size - sum(files[name].size for name in old))
        elif FAILURE in files:
            findings.keep("failed", size)
        elif TEST in files and key in needs.referred:
            findings.keep("broken", size)
        elif settled and now - max(entry.modified for entry in files.values()) > SETTLED:
            findings.add("partial", f"cells/{key}", size, "it has no record")


def read_record(storage: Storage, key: str) -> dict[str, Any] | None:
    """The record of a finished cell, or None; unlike the ledger this leaves a damaged one where it is.

    Raises:
        NewerFormatError: a later version wrote it.
    """
    for name in (RECORD, COPY):
        data = storage.read(f"cells/{key}/{name}")
        if data is None:
            return None
        try:
            return check_record(decode(data), key)
        except NewerFormatError:
            raise
        except CorruptError:
            continue
    return None


def _may_go(needs: Needs) -> bool:
    return not needs.running and needs.complete


def _why_unreferred(storage: Storage, key: str, studies: Sequence[str]) -> str:
    """Empty if the cell is needed after all: a probe is shared by studies that do not name it."""
    try:
        record = read_record(storage, key)
    except NewerFormatError:
        return ""
    if record is None:
        return "its record is damaged"
    if record["cell"]["kind"] == "probe" and studies:
        return ""
    origin = record.get("study")
    return f"trained for study {origin!r}, which no longer refers to it" if origin else "trained for no study"


def _unnamed(storage: Storage, key: str, files: Iterable[str]) -> set[str]:
    """Files of a finished cell that none of its records names: of another worker, of an earlier training.

    Empty where a record cannot be read: it may name any of them.
    """
    left = set(files) - {RECORD, COPY, TEST, FAILURE}
    for name in (RECORD, COPY, TEST):
        if not left:
            break
        data = storage.read(f"cells/{key}/{name}")
        try:
            left -= set() if data is None else names_of(check_record(decode(data), key))
        except CorruptError:
            return set()
    return left
