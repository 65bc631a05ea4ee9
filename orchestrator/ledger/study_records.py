"""The places of a study's records, and what is a record of each kind at all."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, TypeVar

from orchestrator.ledger.documents import CorruptError, decode, encode
from orchestrator.ledger.gather import gather
from orchestrator.ledger.invocation import Invocation
from orchestrator.ledger.storage import Storage
from orchestrator.ledger.trial_record import TrialRecord
from orchestrator.ledger.write_behind import WriteBehind

T = TypeVar("T")

Parse = Callable[[str, dict[str, Any]], T]
"""A record from the name of its file and what is in it; CorruptError if it is none of that name."""

logger = logging.getLogger(__name__)


class StudyFolder:
    """Records below the folder of a study.

    Args:
        storage: holds it.
        path: of the folder.

    Attributes:
        damaged: records that could not be read as they are, one line each.
    """

    def __init__(self, storage: Storage, path: str) -> None:
        self.storage, self.path = storage, path
        self.damaged: list[str] = []

    def note(self, line: str) -> None:
        """Name something damaged, once."""
        if line not in self.damaged:
            self.damaged.append(line)

    def names(self, folder: str) -> list[str]:
        """Of the files in a folder."""
        return self.storage.names(f"{self.path}/{folder}")

    def write(self, path: str, document: dict[str, Any], behind: WriteBehind | None = None) -> None:
        """Write a record, at once or ``behind`` the caller's back."""
        put = self.storage.write if behind is None else behind.put
        put(f"{self.path}/{path}", encode(document))

    def read(self, path: str, name: str, parse: Parse[T]) -> T | None:
        """A record; None if there is none, or one that is damaged, which is noted."""
        full = f"{self.path}/{path}"
        data = self.storage.read(full)
        if data is None:
            return None
        try:
            return parse(name, decode(data))
        except CorruptError as error:
            self.note(f"{self.storage.locate(full)}: {error}")
            return None

    def gather(self, folder: str, parse: Parse[T]) -> list[T]:
        """All records of a folder, by the names of their files."""

        def read(name: str) -> T | None:
            return self.read(f"{folder}/{name}", name.removesuffix(".json"), parse)

        names = sorted(name for name in self.names(folder) if name.endswith(".json"))
        return [record for record in gather(read, names) if record is not None]

    def discard(self, path: str) -> None:
        """Delete a record that counts no longer; if that fails it stays."""
        try:
            self.storage.delete(f"{self.path}/{path}")
        except OSError as error:
            logger.warning("%s could not be deleted: %s", path, error)


def parse_trial(own_id: str) -> Parse[TrialRecord]:
    """Trials of the study of that id."""

    def parse(name: str, document: dict[str, Any]) -> TrialRecord:
        _require_own(document, own_id)
        record = TrialRecord.from_dict(document)
        if str(record.number) != name:
            raise CorruptError(f"it is the record of trial {record.number}")
        return record

    return parse


def parse_row(own_id: str) -> Parse[TrialRecord]:
    """Rows of the comparison of that id."""

    def parse(name: str, document: dict[str, Any]) -> TrialRecord:
        _require_own(document, own_id)
        if document.get("key") != name:
            raise CorruptError(f"it is the record of row {document.get('key')!r:.40}")
        return TrialRecord.from_dict(dictionary(document, "row"))

    return parse


def parse_baseline(own_id: str) -> Parse[dict[str, Any]]:
    """Reference rows of the study of that id."""

    def parse(name: str, document: dict[str, Any]) -> dict[str, Any]:
        _require_own(document, own_id)
        if document.get("name") != name:
            raise CorruptError(f"it is the record of reference row {document.get('name')!r:.40}")
        row = dictionary(document, "row")
        TrialRecord.from_dict({"number": -1, **row})
        return row

    return parse


def parse_race(own_id: str) -> Parse[dict[str, Any]]:
    """What is kept of the race of that id."""

    def parse(name: str, document: dict[str, Any]) -> dict[str, Any]:
        _require_own(document, own_id)
        _require_name(document.get("name"), name, "race")
        return dictionary(document, "race")

    return parse


def parse_warm_start(own_id: str) -> Parse[dict[str, Any]]:
    """What the study of that id took from others."""

    def parse(name: str, document: dict[str, Any]) -> dict[str, Any]:
        _require_own(document, own_id)
        taken = dictionary(document, "taken")
        sources = taken.get("sources")
        parts = ("study", "enqueued", "fed", "notes")
        if not isinstance(sources, list) or not all(_has_all(each, parts) for each in sources):
            raise CorruptError("it does not say what was taken")
        return taken

    return parse


def _has_all(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and all(name in value for name in names)


def _require_own(document: dict[str, Any], own_id: str) -> None:
    """Records of versions before studies had ids say nothing of theirs."""
    theirs = document.get("study_id")
    if theirs and own_id and theirs != own_id:
        raise CorruptError(f"it is a record of another study (id {theirs}, this one has {own_id})")


def dictionary(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    if not isinstance(found, dict):
        raise CorruptError(f"its field {name} is {found!r:.40}")
    return found


def parse_draw(name: str, document: dict[str, Any]) -> dict[str, Any]:
    _require_name(document.get("name", name), name, "draw")  # of earlier versions without a name
    return dictionary(document, "draw")


def parse_test_evaluation(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """A test-set evaluation; its name, or in records without one its time, tells that the file is its own."""
    if not isinstance(document.get("keys"), list) or not isinstance(document.get("time"), str):
        raise CorruptError("not a record of a test-set evaluation")
    own = document.pop("name", None)
    if own is None:
        own = "-".join([digits(document["time"]), *name.split("-")[1:]])
    _require_name(own, name, "test-set evaluation")
    return document


def parse_transfer(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a transfer, with its time."""
    _require_name(document.get("name"), name, "transfer")
    return {"time": document.get("time"), **dictionary(document, "transfer")}


def parse_invocation(name: str, document: dict[str, Any]) -> Invocation:
    found = Invocation.from_dict(document)
    _require_name(found.id, name, "run")
    return found


def parse_spending(name: str, document: dict[str, Any]) -> tuple[str, dict[str, float]]:
    spent = dictionary(document, "spent")
    if not all(isinstance(value, int | float) for value in spent.values()):
        raise CorruptError("not a record of what was spent")
    _require_name(document.get("invocation"), name, "spending of run")
    return name, {kind: float(value) for kind, value in spent.items()}


def _require_name(own: object, name: str, what: str) -> None:
    """Another record's content in a file shows by the name in it."""
    if own != name:
        raise CorruptError(f"it is the record of {what} {own!r:.40}")


def digits(stamp: str) -> str:
    return re.sub(r"[^0-9]", "", stamp.split("+")[0])
