"""The records of one study: its resolved file, trials, looks at the test images, invocations, driver lease.

studies/<name>/study.json             the resolved study and its id, see ``orchestrator.ledger.study_file``
studies/<name>/study.copy.json        the same: takes its place where it is damaged
studies/<name>/draws/<draw>.json      images of one split and seed
studies/<name>/trials/<number>.json   one per trial, replaced as it proceeds
studies/<name>/baselines.json         keys of the reference rows
studies/<name>/rows/<key>.json        rows of a comparison
studies/<name>/looks/<time>.json      every look at the test images
studies/<name>/invocations/<id>.json  every run of a driver: what it trained, where its time went
studies/<name>/spending/<id>.json     what each run of a driver spent of the budgets
studies/<name>/driver/<fence>.json    who drives the study now
"""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from mmap_model.errors import InputError
from orchestrator.ledger.documents import CorruptError, decode, encode, now
from orchestrator.ledger.gather import gather
from orchestrator.ledger.holding import current_fence
from orchestrator.ledger.lease import Lease
from orchestrator.ledger.storage import Storage, open_storage
from orchestrator.ledger.study_file import StudyFile
from orchestrator.ledger.write_behind import WriteBehind

TrialState = Literal["running", "complete", "pruned", "failed"]


@dataclass(kw_only=True)
class TrialRecord:
    """One configuration under search.

    Attributes:
        number: 0-based, as Optuna counts.
        state: ``running`` trials are taken up again by the next invocation.
        params: what Optuna suggested, internal names.
        distributions: the same names, as ``optuna.distributions.distribution_to_json`` writes them.
        point: ``Point.to_dict()``.
        cells: per cell ``{key, split, seed, partition, parameters}``, splits first; known once a worker
            resolved the partitions.
        epochs: per epoch ``{epoch, mean, values}``: accuracies of the cells and their replicate mean.
        value: the objective of a complete trial.
        parameters: trained parameters of one replicate, the largest if the cells differ.
        share: ``parameters`` over those of the backbone.
        error: why it failed.
        device_seconds: summed over all attempts.
        attempts: how often it was handed out.
        fence, invocation: of the driver that wrote this.
        attributes: anything else a driver wants to find again, JSON-able.
    """

    number: int
    state: TrialState = "running"
    params: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, str] = field(default_factory=dict)
    point: dict[str, Any] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    value: float | None = None
    parameters: int | None = None
    share: float | None = None
    error: str | None = None
    device_seconds: float = 0.0
    attempts: int = 0
    created_at: str = field(default_factory=now)
    started_at: str | None = None
    ended_at: str | None = None
    fence: int = 0
    invocation: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return [cell["key"] for cell in self.cells]

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrialRecord:
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(kw_only=True)
class Invocation:
    """One run of a driver.

    Attributes:
        id: sortable by time.
        command: what was run.
        trained: keys of the cells this invocation finished (``trained_now``).
        reused: keys of the cells it found finished.
        timing: seconds by part: ``start_up``, ``training``, ``evaluation``, ``per_trial_overhead``, …
        outcome: ``running``, ``complete``, ``interrupted`` or ``failed``.
        provenance: versions, commit, device.
        quarantined: slots that failed too often in a row: ``{slot, node, reason, at}``.
        scoring: keys of cells that it set out to score on the test images; nobody drops their weights.
    """

    id: str = field(default_factory=lambda: invocation_id())
    command: str = ""
    started_at: str = field(default_factory=now)
    ended_at: str | None = None
    outcome: str = "running"
    trained: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    timing: dict[str, float] = field(default_factory=dict)
    fence: int = 0
    provenance: dict[str, Any] = field(default_factory=dict)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    scoring: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class DriverLease(Lease):
    """The right to drive a study. ``take`` refuses while another driver lives."""

    def __init__(self, storage: Storage, study: str, *, invocation: str = "", **options: Any) -> None:
        super().__init__(storage, f"studies/{study}/driver", invocation=invocation, **options)
        self._study = study

    def take(
        self,
        tell: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], bool | None] = time.sleep,
    ) -> int:
        """The fence. Waits where only watching tells whether another driver lives; see ``Lease.acquire``.

        Raises:
            LeaseError: naming the process that holds the lease, and since when.
            WaitEnded: ``pause`` said so.
        """
        return self.acquire(
            what=f"study {self._study!r}",
            fix="wait for it or stop it there; if it was killed its lease runs out by itself",
            tell=tell,
            pause=pause,
        )


class StudyStore:
    """Records of the study ``name`` below ``root``. Reading creates nothing.

    Attributes:
        damaged: records that could not be read as they are, one line each.
    """

    def __init__(self, root: str | os.PathLike[str] | Storage, name: str) -> None:
        if not re.fullmatch(r"[\w][\w.\-]*", name):
            raise InputError(
                f"{name!r} cannot name a study", where="name", fix="use letters, digits, _, - and ."
            )
        self.storage = open_storage(root)
        self.name = name
        self.damaged: list[str] = []
        self._folder = f"studies/{name}"
        self._file = StudyFile(self.storage, self._folder, self._note_damage)

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
        self._file.save(study, inputs)

    def load_inputs(self) -> dict[str, Any] | None:
        """The data and the weights that the study was begun with, see ``orchestrator.inputs``.

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
        """Keep the images of one split and seed; see ``orchestrator.draws``."""
        self._write(f"draws/{name}.json", {"draw": draw})

    def load_draw(self, name: str) -> dict[str, Any] | None:
        """What was given to ``save_draw``."""
        document = self._read(f"draws/{name}.json")
        return None if document is None else dict(document["draw"])

    def save_trial(self, trial: TrialRecord, behind: WriteBehind | None = None) -> None:
        """Write a trial as it is now, at once or ``behind`` the caller's back."""
        path, data = f"{self._folder}/trials/{trial.number}.json", encode(trial.to_dict())
        (self.storage.write if behind is None else behind.put)(path, data)

    def load_trial(self, number: int) -> TrialRecord | None:
        document = self._read(f"trials/{number}.json")
        return None if document is None else TrialRecord.from_dict(document)

    def load_trials(self) -> list[TrialRecord]:
        """All trials by number. A damaged record is left out and named in ``damaged``."""
        return [TrialRecord.from_dict(document) for document in self._gather("trials")]

    def trial_numbers(self) -> list[int]:
        """Numbers of all trials, by one listing."""
        stems = (name.removesuffix(".json") for name in self.storage.names(f"{self._folder}/trials"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def save_baseline(self, name: str, row: dict[str, Any]) -> None:
        """Keep a reference row: ``{point, cells, parameters, …}`` under ``zero_shot``, ``zero_step``, …"""
        rows = self.load_baselines()
        rows[name] = row
        self._write("baselines.json", {"rows": rows})

    def load_baselines(self) -> dict[str, dict[str, Any]]:
        document = self._read("baselines.json")
        return {} if document is None else dict(document["rows"])

    def save_row(self, key: str, row: TrialRecord) -> None:
        """Keep a row of a comparison."""
        self._write(f"rows/{key}.json", {"key": key, "row": row.to_dict()})

    def load_rows(self) -> dict[str, TrialRecord]:
        """All rows of a comparison by key."""
        return {d["key"]: TrialRecord.from_dict(d["row"]) for d in self._gather("rows")}

    def record_look(self, *, reason: str, keys: list[str], invocation: str = "") -> None:
        """Record that the test images of ``keys`` were looked at."""
        stamp = now()
        name = f"{re.sub(r'[^0-9]', '', stamp.split('+')[0])}-{secrets.token_hex(3)}"
        document = {"time": stamp, "reason": reason, "keys": keys, "invocation": invocation}
        self._write(f"looks/{name}.json", document)

    def load_looks(self) -> list[dict[str, Any]]:
        """Every look at the test images, oldest first."""
        return self._gather("looks")

    def save_invocation(self, invocation: Invocation) -> None:
        self._write(f"invocations/{invocation.id}.json", invocation.to_dict())

    def load_invocations(self) -> list[Invocation]:
        """Every run of a driver, oldest first."""
        return [Invocation(**document) for document in self._gather("invocations")]

    def save_spending(self, invocation: str, spent: dict[str, float]) -> None:
        """Keep what an invocation spent; see ``orchestrator.spending``. Replaced while it runs."""
        self._write(f"spending/{invocation}.json", {"invocation": invocation, "spent": spent})

    def load_spending(self) -> dict[str, dict[str, float]]:
        """What each invocation spent, by id."""
        return {d["invocation"]: dict(d["spent"]) for d in self._gather("spending")}

    def driver_lease(self, *, invocation: str = "", **options: Any) -> DriverLease:
        return DriverLease(self.storage, self.name, invocation=invocation, **options)

    def fence_valid(self, fence: int) -> bool:
        """True while no later driver took the study over. Fence 0 stands for work without a driver."""
        return fence == 0 or current_fence(self.storage, f"{self._folder}/driver") == fence

    def _note_damage(self, line: str) -> None:
        if line not in self.damaged:
            self.damaged.append(line)

    def _write(self, path: str, document: dict[str, Any]) -> None:
        self.storage.write(f"{self._folder}/{path}", encode(document))

    def _read(self, path: str) -> dict[str, Any] | None:
        full = f"{self._folder}/{path}"
        data = self.storage.read(full)
        if data is None:
            return None
        try:
            return decode(data)
        except CorruptError as error:
            self.damaged.append(f"{self.storage.locate(full)}: {error}")
            return None

    def _gather(self, folder: str) -> list[dict[str, Any]]:
        names = [n for n in self.storage.names(f"{self._folder}/{folder}") if n.endswith(".json")]
        names.sort(key=lambda name: (len(name), name) if name[:-5].isdecimal() else (0, name))
        documents = gather(self._read, [f"{folder}/{name}" for name in names])
        return [document for document in documents if document is not None]


def invocation_id() -> str:
    """A new id: the time, then four random digits."""
    return f"{re.sub(r'[^0-9]', '', now()[:19])}-{secrets.token_hex(2)}"
