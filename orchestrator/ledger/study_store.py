"""The records of one study: its resolved file, trials, test-set evaluations, invocations, driver lease.

studies/<name>/study.json             the resolved study and its id, see ``orchestrator.ledger.study_file``
studies/<name>/study.copy.json        the same: takes its place where it is damaged
studies/<name>/draws/<draw>.json      images of one split and seed
studies/<name>/trials/<number>.<fence>.json     one per trial, replaced as it proceeds
studies/<name>/proposals/<number>.<fence>.json  what a trial is: runs it again where its record is damaged
studies/<name>/baselines/<row>.<fence>.json     keys of the reference rows
studies/<name>/rows/<key>.<fence>.json          rows of a comparison
studies/<name>/race/<name>.<fence>.json         of a race: its terms, and its course with every decision
studies/<name>/warm_start.json        what was taken from other studies when it began
studies/<name>/looks/<time>.json      every test-set evaluation
studies/<name>/invocations/<id>.json  every run of a driver: what it trained, where its time went
studies/<name>/spending/<id>.json     what each run of a driver spent of the budgets
studies/<name>/driver/<fence>.json    which driver runs the study now
studies/<name>/live/<fence>.json      what it shows, see ``orchestrator.ledger.live_record``
studies/<name>/notices/<event>.json   events that somebody has told of, see ``orchestrator.notices.stalled``
studies/<name>/fences/<fence>.json    what the latest driver found when it took the study over
studies/<name>/cancel/<number>.<fence>  requests to cancel a trial

``<fence>`` is that of the driver that wrote a record: see ``orchestrator.ledger.fences`` for which of them
counts. Earlier versions wrote ``trials/<number>.json``, ``rows/<key>.json`` and all reference rows in
``baselines.json``; they are read as of fence 0.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from mmap_model.errors import InputError
from orchestrator.ledger.documents import CorruptError, now
from orchestrator.ledger.driver_lease import DriverLease
from orchestrator.ledger.fenced_records import FencedRecords, FolderRecords, UnreadableRecord
from orchestrator.ledger.fences import Opening, Openings, file_name, resolve, split_name
from orchestrator.ledger.gather import gather
from orchestrator.ledger.guarded import GuardedStorage
from orchestrator.ledger.holding import current_fence
from orchestrator.ledger.invocation import Invocation
from orchestrator.ledger.storage import Storage, open_storage
from orchestrator.ledger.study_file import StudyDamaged, StudyFile
from orchestrator.ledger.study_records import (
    Parse,
    StudyFolder,
    dictionary,
    digits,
    parse_baseline,
    parse_draw,
    parse_invocation,
    parse_race,
    parse_row,
    parse_spending,
    parse_test_evaluation,
    parse_transfer,
    parse_trial,
    parse_warm_start,
)
from orchestrator.ledger.trial_record import TrialRecord
from orchestrator.ledger.write_behind import WriteBehind

FENCED = ("trials", "rows", "baselines", "race")
"""Folders of records that drivers replace."""

LEGACY = "baselines.json"
"""All reference rows in one file, as earlier versions wrote them."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class StudyStore:
    """Records of the study ``name`` below ``root``. Reading creates nothing.

    Attributes:
        damaged: records that could not be read as they are, one line each.
        unreadable: numbers of trials whose records could not be read when they were last loaded.
        late: what earlier drivers wrote when a later one had taken over: it counts for nothing.
        fence, invocation: of the driver that took the study over through this object.
        predecessor: invocation of the one before it; empty if there was none.
    """

    def __init__(self, root: str | os.PathLike[str] | Storage, name: str) -> None:
        if not re.fullmatch(r"[\w][\w.\-]*", name):
            raise InputError(
                f"{name!r} cannot name a study", where="name", fix="use letters, digits, _, - and ."
            )
        self._folder = StudyFolder(open_storage(root), f"studies/{name}")
        self.name = name
        self.unreadable: dict[int, UnreadableRecord] = {}
        self._unreadable: dict[str, UnreadableRecord] = {}
        self.late: list[str] = []
        self.fence = 0
        self.invocation = self.predecessor = ""
        self._own_id = ""
        self._file = StudyFile(self.storage, self._folder.path, self._folder.note)

    @property
    def storage(self) -> Storage:
        return self._folder.storage

    @property
    def damaged(self) -> list[str]:
        return self._folder.damaged

    @property
    def id(self) -> str:
        """Random digits that tell the study from others of its name.

        Empty if it was never run, or not since studies have ids: its next driver gives it one.
        """
        document = self._file.read()
        return "" if document is None else document.id

    @property
    def adopts(self) -> bool:
        """Whether runs that were tracked before the study had an id are its own."""
        document = self._file.read()
        return document is not None and document.adopts

    def exists(self) -> bool:
        return self.load_study() is not None

    def save_study(self, study: dict[str, Any], inputs: dict[str, Any] | None = None) -> None:
        """Keep the resolved study; the first time it gets its id. For the holder of the lease alone.

        Args:
            study: as it is now.
            inputs: the data and the weights that it is begun with; kept unless some are known.
        """
        self._file.save(study, inputs, fence=self.fence)

    def load_inputs(self) -> dict[str, Any] | None:
        """The data and the weights that the study was begun with, see ``orchestrator.work.inputs``.

        None if it was never run, or not since they are recorded.
        """
        document = self._file.read()
        return None if document is None else document.inputs

    def load_study(self) -> dict[str, Any] | None:
        """The resolved study, as it was given to ``save_study``.

        Raises:
            StudyDamaged: it cannot be read although there are trials.
        """
        document = self._file.read()
        return None if document is None else document.study

    def save_draw(self, name: str, draw: dict[str, Any]) -> None:
        """Keep the images of one split and seed; see ``orchestrator.driver.draws``."""
        self._folder.write(f"draws/{name}.json", {"name": name, "draw": draw})

    def load_draw(self, name: str) -> dict[str, Any] | None:
        """What was given to ``save_draw``."""
        return self._folder.read(f"draws/{name}.json", name, parse_draw)

    def save_trial(self, trial: TrialRecord, behind: WriteBehind | None = None) -> None:
        """Write a trial as it is now, at once or ``behind`` the caller's back, under its ``fence``."""
        document = {**trial.to_dict(), "study_id": self._identity()}
        self._folder.write(f"trials/{file_name(str(trial.number), trial.fence)}", document, behind)

    def save_proposal(self, trial: TrialRecord, behind: WriteBehind | None = None) -> None:
        """Write what a trial is: if its record is ever damaged, the trial can be run again."""
        document = {**trial.proposal(), "study_id": self._identity()}
        self._folder.write(f"proposals/{file_name(str(trial.number), trial.fence)}", document, behind)

    def load_trial(self, number: int) -> TrialRecord | None:
        """The record of a trial; None if there is none that can be read."""
        found = self._fenced("trials", parse_trial).load(str(number))
        self._note_unreadable(found)
        return found.records.get(str(number))

    def load_trials(self) -> list[TrialRecord]:
        """All trials by number. One whose record cannot be read is left out and named in ``damaged``."""
        found = self._fenced("trials", parse_trial).load()
        self._note_unreadable(found)
        self.unreadable = {int(name): why for name, why in found.unreadable.items() if name.isdecimal()}
        self.late = found.late
        return list(found.records.values())

    def trial_numbers(self) -> list[int]:
        """Numbers of all trials, readable or not; reads none of them."""
        names = self._fenced("trials", parse_trial).names()
        return [int(name) for name in names if name.isdecimal()]

    def rebuild_trials(self, numbers: Iterable[int]) -> list[TrialRecord]:
        """Trials as they were proposed, of those of ``numbers`` whose proposals are kept; they are to run."""
        wanted = {str(number) for number in numbers}
        kept: dict[str, list[int]] = {}
        for file in self._folder.names("proposals") if wanted else ():
            if (split := split_name(file)) is not None and split[0] in wanted:
                kept.setdefault(split[0], []).append(split[1])
        found, parse = [], parse_trial(self._own_id)
        for name, fences in kept.items():
            for fence in sorted(fences, reverse=True):
                record = self._folder.read(f"proposals/{file_name(name, fence)}", name, parse)
                if record is not None:
                    found.append(record)
                    break
        return sorted(found, key=lambda record: record.number)

    def save_baseline(self, name: str, row: dict[str, Any]) -> None:
        """Keep a reference row, ``zero_shot`` or ``zero_step``: ``{point, cells, parameters, fence, …}``."""
        document = {"name": name, "row": row, "study_id": self._identity()}
        self._folder.write(f"baselines/{file_name(name, row.get('fence', 0))}", document)

    def load_baselines(self) -> dict[str, dict[str, Any]]:
        """All reference rows by name."""
        found = self._fenced("baselines", parse_baseline).load()
        self._note_unreadable(found)
        return {**self._legacy_baselines(), **found.records}

    def save_row(self, key: str, row: TrialRecord) -> None:
        """Keep a row of a comparison, under its ``fence``."""
        document = {"key": key, "row": row.to_dict(), "study_id": self._identity()}
        self._folder.write(f"rows/{file_name(key, row.fence)}", document)

    def load_rows(self) -> dict[str, TrialRecord]:
        """All rows of a comparison by key. One that cannot be read is left out and named in ``damaged``."""
        found = self._fenced("rows", parse_row).load()
        self._note_unreadable(found)
        self.late = found.late
        return found.records

    def save_race(self, name: str, record: dict[str, Any], *, fence: int) -> None:
        """Keep the ``terms`` of a race or its ``course``, under the ``fence`` of the driver."""
        document = {"name": name, "race": record, "study_id": self._identity()}
        self._folder.write(f"race/{file_name(name, fence)}", document)

    def load_race(self, name: str) -> dict[str, Any] | None:
        """What was given to ``save_race``; None: no race, or not readable (see ``damaged``)."""
        found = self._fenced("race", parse_race).load(name)
        self._note_unreadable(found)
        return found.records.get(name)

    def save_warm_start(self, taken: dict[str, Any]) -> None:
        """Keep what the study took from others when it began; once and for all."""
        document = {"taken": taken, "study_id": self._identity()}
        self._folder.write("warm_start.json", document)

    def load_warm_start(self) -> dict[str, Any] | None:
        """What was given to ``save_warm_start``; None: nothing yet, or not readable (see ``damaged``)."""
        return self._folder.read("warm_start.json", "warm_start", parse_warm_start(self._own_id))

    def record_test_evaluation(self, *, reason: str, keys: list[str], invocation: str = "") -> None:
        """Record that the test images of ``keys`` were looked at."""
        stamp = now()
        name = f"{digits(stamp)}-{secrets.token_hex(3)}"
        document = {"name": name, "time": stamp, "reason": reason, "keys": keys, "invocation": invocation}
        self._folder.write(f"looks/{name}.json", document)

    def load_test_evaluations(self) -> list[dict[str, Any]]:
        """Every test-set evaluation, oldest first."""
        return self._folder.gather("looks", parse_test_evaluation)

    def save_transfer(self, found: dict[str, Any]) -> None:
        """Keep what the winner reached on classes or tasks that it was not trained on."""
        stamp = now()
        name = f"{digits(stamp)}-{secrets.token_hex(3)}"
        document = {"name": name, "time": stamp, "study_id": self._identity(), "transfer": found}
        self._folder.write(f"transfers/{name}.json", document)

    def load_transfers(self) -> list[dict[str, Any]]:
        """Everything that was given to ``save_transfer``, oldest first."""
        return self._folder.gather("transfers", parse_transfer)

    def save_invocation(self, invocation: Invocation) -> None:
        self._folder.write(f"invocations/{invocation.id}.json", invocation.to_dict())

    def load_invocations(self) -> list[Invocation]:
        """Every run of a driver, oldest first: in the order in which they took the study over."""
        found = self._folder.gather("invocations", parse_invocation)
        return sorted(found, key=lambda invocation: (invocation.fence, invocation.id))

    def save_spending(self, invocation: str, spent: dict[str, float]) -> None:
        """Keep what an invocation spent; see ``orchestrator.statistics.spending``. Replaced while it runs."""
        self._folder.write(f"spending/{invocation}.json", {"invocation": invocation, "spent": spent})

    def load_spending(self) -> dict[str, dict[str, float]]:
        """What each invocation spent, by id. Of earlier drivers what the latest found counts: ``opening``."""
        return dict(self._folder.gather("spending", parse_spending))

    # Taking a study over

    def take_over(self, lease: DriverLease, invocation: str, spent: dict[str, float]) -> None:
        """Record what is there, so that nothing an earlier driver still writes counts.

        The first act of a driver that holds the lease. From here on this object writes only as long as it
        does.

        Args:
            lease: of the study, held.
            invocation: of the driver.
            spent: by all invocations before.
        """
        self._folder.storage = GuardedStorage(self.storage, lease.holds)
        self._file = StudyFile(self.storage, self._folder.path, self._folder.note)
        self.fence, self.invocation = lease.fence, invocation
        before = self.opening()
        self.predecessor = before.invocation
        files = {folder: self._folder.names(folder) for folder in FENCED}
        resolved = {folder: resolve(folder, names, before) for folder, names in files.items()}
        known = {folder: dict(found.counting) for folder, found in resolved.items()}
        for name in self._legacy_baselines():
            known["baselines"].setdefault(name, 0)
        opening = Opening(fence=lease.fence, invocation=invocation, known=known, spent=spent)
        self._openings().write(opening)
        for folder, found in resolved.items():
            for file in found.superseded:
                self._folder.discard(f"{folder}/{file}")
        self._take_requests_over()

    def adopt(self, trials: Iterable[TrialRecord]) -> None:
        """Write trials that an earlier driver had in work under the own fence.

        After ``load_trials``, and before anything is made of them. Records that could not be read are moved
        aside first: others will take their places.
        """
        for why in self._unreadable.values():
            stamp = re.sub(r"\W", "", now())
            with contextlib.suppress(OSError):
                self.storage.move(why.path, f"quarantine/{why.path.replace('/', '-')}-{stamp}")
        known = self.opening().known.get("trials", {})

        def adopt(trial: TrialRecord) -> None:
            trial.fence, trial.invocation = self.fence, self.invocation
            self.save_trial(trial)
            before = known.get(str(trial.number), self.fence)
            if before != self.fence and trial.number not in self.unreadable:
                self._folder.discard(f"trials/{file_name(str(trial.number), before)}")

        gather(adopt, [trial for trial in trials if trial.state == "running"])

    def opening(self) -> Opening:
        """What the latest driver found when it took the study over; that of fence 0 if there was none."""
        try:
            return self._openings().latest()
        except CorruptError as error:
            self._folder.note(
                f"{self.storage.locate(self._folder.path)}/fences: {error}; of each record the latest counts"
            )
            return Opening()

    def _openings(self) -> Openings:
        return Openings(self.storage, f"{self._folder.path}/fences")

    def _take_requests_over(self) -> None:
        """Requests to cancel were meant for the earlier driver: it might take them and do nothing."""
        folder = f"{self._folder.path}/cancel"
        for name in self.storage.names(folder):
            number, _, fence = name.partition(".")
            if number.isdecimal() and int(fence or 0) < self.fence:
                self.storage.write(f"{folder}/{number}.{self.fence}", b"")
                self._folder.discard(f"cancel/{name}")

    def driver_lease(self, *, invocation: str = "", **options: Any) -> DriverLease:
        return DriverLease(self.storage, self.name, invocation=invocation, **options)

    def driver_fence(self) -> int:
        """Of the latest driver; 0 if there never was one. One listing."""
        return current_fence(self.storage, f"{self._folder.path}/driver")

    def fence_valid(self, fence: int) -> bool:
        """True while no later driver took the study over. Fence 0 stands for work without a driver."""
        return fence == 0 or self.driver_fence() == fence

    def _note_unreadable(self, found: FolderRecords[Any]) -> None:
        for why in found.unreadable.values():
            self._unreadable[why.path] = why
            self._folder.note(f"{self.storage.locate(why.path)}: {why.reason}")

    def _identity(self) -> str:
        """The study's id, read once it has one."""
        if not self._own_id:
            with contextlib.suppress(StudyDamaged):
                self._own_id = self.id
        return self._own_id

    def _fenced(self, folder: str, parse: Callable[[str], Parse[T]]) -> FencedRecords[T]:
        return FencedRecords(self.storage, self._folder.path, folder, parse(self._identity()), self.opening)

    def _legacy_baselines(self) -> dict[str, dict[str, Any]]:
        rows = self._folder.read(LEGACY, "", lambda _, document: dictionary(document, "rows")) or {}
        known = self.opening()
        return {name: row for name, row in rows.items() if known.counts("baselines", name, 0)}
