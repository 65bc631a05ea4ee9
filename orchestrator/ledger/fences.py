"""Which records of a study count: of every name the latest driver's, as far as it knows of it.

A driver may be stopped at any moment (SIGSTOP, a suspended laptop), also between making sure that it holds
the lease and writing. It then writes much later, when another driver has taken the study over and perhaps
finished it. Such a write cannot be prevented, so it is made harmless:

- A record carries the fence of the driver that wrote it in its name, ``<name>.<fence>.json``, so a late write
  replaces nothing of a later driver. Of several records of one name the one of the highest fence counts.
  ``<name>.json``, as earlier versions wrote it, has fence 0.
- A late record of a name that the later driver has not (a trial that the earlier one was about to start)
  would still be found. Hence the *opening*: before anything else a driver records, in
  ``fences/<fence>.json``, which records it found, by name and fence. A record of a lower fence counts only
  if the latest opening names it, with just that fence. An opening that is written late has a lower fence
  than the latest and is not read.
- A late write over a record that the opening does name could change it. Drivers change a record only until
  its trial, reference row or column has ended. So the second act of a driver is to write the records of
  trials in work again under its own fence (``StudyStore.adopt``); what it read is what counts. Records of
  what has ended are final and stay as they are: resuming rewrites as many records as there were slots.
- What was spent before is summed up in the opening, since a driver that was stopped also counts hours in
  which it did nothing.

Some records need none of this. Every run of a driver has its own file of ``invocations``; nobody else writes
it. Test-set evaluations (``looks``) are facts, whichever driver made them: each has its own name and counts.
Requests to cancel carry the fence of the driver that they are meant for. Cells are addressed by content.

Costs: a listing of a small folder and one read whenever records are read; nothing per trial.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.ledger.documents import CorruptError, decode, encode, now
from orchestrator.ledger.storage import Storage

AGAIN = 3
"""Attempts to read the latest opening."""

_NAME = re.compile(r"(?P<name>.+?)(?:\.(?P<fence>\d+))?\.json")

KnownFiles = Mapping[str, Mapping[str, int]]
"""By folder and name, the fence of the record that counts."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a driver found when it took a study over.

    Attributes:
        fence, invocation: of the driver; fence 0: no driver has recorded an opening, so everything counts.
        known: the records that it found.
        spent: by all invocations before, see ``orchestrator.statistics.spending``; None if that is not known.
        opened_at: time.
    """

    fence: int = 0
    invocation: str = ""
    known: KnownFiles = field(default_factory=dict)
    spent: dict[str, float] | None = None
    opened_at: str = field(default_factory=now)

    def counts(self, folder: str, name: str, fence: int) -> bool:
        """Whether a record of that name and fence counts, as long as no higher one does."""
        return fence >= self.fence or self.known.get(folder, {}).get(name) == fence

    def to_dict(self) -> dict[str, Any]:
        known: dict[str, dict[str, list[str]]] = {}
        for folder, names in self.known.items():
            for name, fence in names.items():
                known.setdefault(folder, {}).setdefault(str(fence), []).append(name)
        return {**vars(self), "known": known}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Opening:
        """What was given to ``to_dict``. Raises CorruptError."""
        try:
            known = {
                folder: {name: int(fence) for fence, names in fences.items() for name in names}
                for folder, fences in data["known"].items()
            }
            return cls(
                fence=int(data["fence"]),
                invocation=str(data["invocation"]),
                known=known,
                spent=data["spent"],
                opened_at=data["opened_at"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptError("not the opening record of a driver") from error


@dataclass(frozen=True, kw_only=True)
class FencedFiles:
    """Files of one folder, told apart.

    Attributes:
        counting: by name, the fence of the record that counts.
        superseded: file names of records that a higher one replaced.
        late: file names of records that an earlier driver wrote after a later one had taken over, and that
            nothing replaced.
    """

    counting: dict[str, int]
    superseded: list[str]
    late: list[str]


def resolve(folder: str, files: Iterable[str], opening: Opening) -> FencedFiles:
    """Tell which of the files of a folder count.

    Args:
        folder: its name below the study's.
        files: their names.
        opening: the latest.
    """
    found: dict[str, list[int]] = {}
    for file in files:
        if (split := split_name(file)) is not None:
            found.setdefault(split[0], []).append(split[1])
    counting: dict[str, int] = {}
    superseded: list[str] = []
    late: list[str] = []
    for name, fences in found.items():
        best = max((f for f in fences if opening.counts(folder, name, f)), default=None)
        if best is not None:
            counting[name] = best
        others = [file_name(name, fence) for fence in fences if fence != best]
        (late if best is None else superseded).extend(others)
    return FencedFiles(counting=counting, superseded=superseded, late=late)


def split_name(file: str) -> tuple[str, int] | None:
    """Name and fence of a record's file; None if it is none."""
    found = _NAME.fullmatch(file)
    return None if found is None else (found["name"], int(found["fence"] or 0))


def file_name(name: str, fence: int) -> str:
    """Of the record of ``name`` by the driver with ``fence``."""
    return f"{name}.{fence}.json" if fence else f"{name}.json"


class Openings:
    """The openings of one study.

    Args:
        storage, folder: where they are.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder

    def latest(self) -> Opening:
        """The opening with the highest fence; that of fence 0 if there is none.

        Raises:
            CorruptError: it cannot be read.
        """
        for _ in range(AGAIN):
            fence = max(self._fences(), default=0)
            if not fence:
                return Opening()
            data = self._storage.read(f"{self._folder}/{fence}.json")
            if data is not None:
                found = Opening.from_dict(decode(data))
                if found.fence != fence:
                    raise CorruptError(f"the newest, {fence}.json, is the record of driver {found.fence}")
                return found
            # Its driver was followed by another that deleted it meanwhile; the next listing shows that one's.
        raise CorruptError("it is listed and cannot be found")

    def write(self, opening: Opening) -> None:
        """Record what a driver found, and delete what earlier ones had found."""
        self._storage.write(f"{self._folder}/{opening.fence}.json", encode(opening.to_dict()))
        for fence in self._fences():
            if fence < opening.fence:
                self._storage.delete(f"{self._folder}/{fence}.json")

    def _fences(self) -> list[int]:
        stems = (name.removesuffix(".json") for name in self._storage.names(self._folder))
        return [int(stem) for stem in stems if stem.isdecimal()]
