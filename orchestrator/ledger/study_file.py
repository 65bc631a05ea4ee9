"""The resolved study and its identity: ``study.json``, and ``study.copy.json`` in case that is damaged.

A study has a random id from its first record on. It is decided once: whoever creates ``study.json`` decides
it, and everybody else reads it back. A study recorded before there were ids takes one made of its old record,
so that a driver which was stopped in the middle of a resume cannot give it a second one when it wakes. Such a
driver can still replace one of the two files, at most, as it makes sure that it holds the study before each
write. Both files carry the fence of their driver, and the higher one counts.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmap_model.errors import InputError
from orchestrator.ledger.documents import CorruptError, NewerFormatError, decode, digest, encode, now
from orchestrator.ledger.lease import LeaseError
from orchestrator.ledger.storage import Storage

RECORD, COPY = "study.json", "study.copy.json"


class StudyDamaged(InputError):
    """The settings of a study that has results cannot be read, or a later version wrote them."""


@dataclass(frozen=True, kw_only=True)
class StudyDocument:
    """What is recorded of a study as a whole.

    Attributes:
        study: the resolved study.
        id: 16 random hexadecimal digits that no other study has; empty until a driver resumes an older one.
        adopts: runs tracked before the study had an id are its own.
        inputs: the data and the weights that it was begun with (`orchestrator.work.inputs`); None until a
            driver resumes an older one.
    """

    study: dict[str, Any]
    id: str = ""
    adopts: bool = False
    inputs: dict[str, Any] | None = None


class StudyFile:
    """``study.json`` of one study with its copy. Reading writes nothing.

    Args:
        storage, folder: where the study's records are.
        note: told of damage, one line each.
    """

    def __init__(self, storage: Storage, folder: str, note: Callable[[str], None]) -> None:
        self._storage, self._folder, self._note = storage, folder, note

    def read(self) -> StudyDocument | None:
        """The document, from the copy where the record is damaged; None if the study was never run.

        Raises:
            StudyDamaged: neither can be read while there are trials or rows; or a later version wrote one.
        """
        found = self._read()
        return None if found is None else _document(found)

    def save(
        self, study: dict[str, Any], inputs: dict[str, Any] | None = None, *, fence: int = 0
    ) -> StudyDocument:
        """Keep the resolved study; the identity stays what it was first. For the holder of the lease alone.

        Args:
            study: as it is now.
            inputs: kept unless some are known.
            fence: of the driver.

        Raises:
            StudyDamaged: as `read`.
            LeaseError: another driver created the study at this moment.
        """
        known = self._read()
        given: dict[str, Any] = {} if inputs is None else {"inputs": inputs}
        self._set_aside()
        if known is None:
            identity = {"id": secrets.token_hex(8), **given}
            data = encode({"study": study, "saved_at": now(), "fence": fence, **identity})
            if not self._storage.create(self._path(RECORD), data):
                raise LeaseError(
                    f"another driver created {self._shown(RECORD)} at the same time",
                    where="name",
                    fix="run the command again: it continues that study, or says what differs",
                )
        else:
            identity = {**given, **known}
            changing = ("study", "saved_at", "fence")
            identity = {name: identity[name] for name in identity if name not in changing}
            if "id" not in identity:
                identity = {**identity, "id": digest(encode(known))[:16], "adopts": True}
            data = encode({"study": study, "saved_at": now(), "fence": fence, **identity})
            self._storage.write(self._path(RECORD), data)
        self._storage.write(self._path(COPY), data)
        return _document(self._read() or decode(data))

    def _read(self) -> dict[str, Any] | None:
        """Of the record and its copy the later driver's: an earlier one may replace one of them late."""
        found: dict[str, dict[str, Any]] = {}
        problems = []
        for name in (RECORD, COPY):
            data = self._storage.read(self._path(name))
            if data is None:
                continue
            try:
                found[name] = self._decode(data)
            except NewerFormatError as error:
                raise StudyDamaged(
                    f"{self._shown(name)}: {error}",
                    where="STUDY",
                    fix="use that version, or run the study under another name (name=…)",
                ) from None
            except CorruptError as error:
                problems.append(f"{self._shown(name)}: {error}")
        if found:
            if RECORD not in found:
                reason = problems[0] if problems else f"{self._shown(RECORD)} is missing"
                self._note(f"{reason}; {COPY} beside it takes its place")
            return max(found.values(), key=lambda document: document.get("fence", 0))
        if any(self._storage.names(f"{self._folder}/{part}") for part in ("trials", "rows")):
            raise StudyDamaged(
                "the settings of this study cannot be read, although it has results: "
                + ("; ".join(problems) or f"{self._shown(RECORD)} and {COPY} are missing"),
                where="STUDY",
                fix=f"restore {RECORD} or {COPY} from a backup. The finished cells are not affected: under "
                "another name the same study finds them again (name=…)",
            )
        for problem in problems:
            self._note(f"{problem}; there are no results yet, so it is written anew")
        return None

    def _set_aside(self) -> None:
        """Keep a damaged record: it is about to be replaced."""
        record = self._storage.read(self._path(RECORD))
        if record is None:
            return
        try:
            self._decode(record)
        except CorruptError:
            stamp = re.sub(r"\W", "", now())
            place = self._path(RECORD).replace("/", "-")
            self._storage.move(self._path(RECORD), f"quarantine/{place}-{stamp}")

    def _decode(self, data: bytes) -> dict[str, Any]:
        """A whole document of this study. Raises CorruptError."""
        document = decode(data)
        study, name = document.get("study"), self._folder.rpartition("/")[2]
        if not isinstance(study, dict):
            raise CorruptError("it is the record of something else than a study")
        if study.get("name", name) != name:
            raise CorruptError(f"it is the record of study {study['name']!r}")
        return document

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _shown(self, name: str) -> str:
        return self._storage.locate(self._path(name))


def _document(found: dict[str, Any]) -> StudyDocument:
    return StudyDocument(
        study=dict(found["study"]),
        id=found.get("id", ""),
        adopts=bool(found.get("adopts", False)),
        inputs=found.get("inputs"),
    )
