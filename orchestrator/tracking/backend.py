"""The seam: what shows runs is one class, here or in a file of the user's (``docs/custom_tracker.md``).

Everything that makes telling safe lies in front of it and serves every backend: the outbox, the fences, the
courier that waits for a server and tells again what was lost, the refusals that are counted, the redaction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from mmap_model.errors import InputError
from orchestrator.tracking.operations import Operation

WHERE = "tracking.uri"

Reasoned = tuple[Operation, str]
"""An operation, and why it was not taken, in the server's words."""


class TrackingError(InputError):
    """A tracking URI that cannot be written or reached, or a backend that is none."""


@dataclass
class Delivery:
    """Operations that are not named here were taken.

    Attributes:
        refused: the backend said that it will never take them.
        undecided: something else answered, or it failed at these alone: worth another try.
        lost: what had been told is not where it was; all of the study has to be told again.
    """

    refused: list[Reasoned] = field(default_factory=list)
    undecided: list[Reasoned] = field(default_factory=list)
    lost: bool = False

    def add(self, other: Delivery) -> None:
        """Take in what became of further operations."""
        self.refused += other.refused
        self.undecided += other.undecided
        self.lost = self.lost or other.lost


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What a backend writes to.

    Attributes:
        uri: tracking URI.
        experiment: its name.
        study: id of the study; studies of one name share no run.
        tags: of the experiment.
        varies: dotted names of the settings by which trials of the study differ.
        adopts: runs tracked before the study had an id are its own.
        backend: the class, if it is not one of this package: ``file.py:MyTracker``.
        outbox: of the driver; once a later driver has one beside it, the process ends. ``writer.lock`` beside
            it is held while the process lives: that of a driver that was killed ends what it was told last,
            and two that write the same runs at a time would make some of them twice.
    """

    uri: str
    experiment: str
    study: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    varies: Sequence[str] = ()
    adopts: bool = False
    backend: str | None = None
    outbox: str | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """Where people look at runs.

    Attributes:
        address: of the page.
        command: serves it until it is ended; none where a server does already.
        variables: of the command's environment: arguments everybody on the machine can read.
        health: path on it that answers once the command serves it.
    """

    address: str
    command: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    health: str = "/"


class Backend(ABC):
    """Takes what is told of one study. Only ``write`` must be written.

    An instance lives in a process of its own, so that it costs the driver's threads nothing. Any of its calls
    may raise: then the server is away, and the call is repeated later. The class is asked in the commands
    themselves, before anything starts: imports that take seconds belong in ``connect`` or below.

    Attributes:
        schemes: of the URIs that it serves.
        cannot: what it cannot do beyond what shows in the methods it leaves out, one sentence each.
        keeps_reports: files of a run may be megabytes, so that the study's report is made for it.
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    cannot: ClassVar[tuple[str, ...]] = ()
    keeps_reports: ClassVar[bool] = False

    def __init__(self, to: Connection) -> None:
        self.to = to

    @classmethod
    def serves(cls, scheme: str) -> bool:
        """Whether URIs of this scheme are its own."""
        return scheme in cls.schemes

    @classmethod
    def check(cls, uri: str, timeout: float) -> None:
        """Raise TrackingError if nothing can be written there; a server has ``timeout`` seconds to answer."""
        return  # nothing can be found out before

    @classmethod
    def place(cls, uri: str) -> str | None:
        """Path of the file or folder that it writes, None for a server: a job's must not be relative."""
        return None

    @classmethod
    def page(cls, uri: str, host: str, port: int) -> Page | None:
        """Where ``orchestrator ui`` leads; None if there is no page."""
        return None

    @classmethod
    def address(cls, page: str, to: Connection) -> str:
        """Address of the runs of a study on a page that answers.

        Args:
            page: its address; of a server that is not ours its URI.
            to: the study.

        Raises:
            TrackingError: the page does not say where they are.
        """
        return page

    @classmethod
    def runs(cls, page: str, to: Connection) -> dict[str, str]:
        """Addresses of the runs of a study, cells apart, by their names; none if there is no server.

        Args:
            page: URI of the server.
            to: the study.

        Raises:
            TrackingError: it does not answer.
        """
        return {}

    @classmethod
    def connect(cls, to: Connection) -> Backend:
        """Called in the process of its own."""
        return cls(to)

    def open(self) -> str | None:
        """Return what ``finish`` was told last of this study; None if unknown: all is told again."""
        return None

    @abstractmethod
    def write(self, operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        """Apply operations, in order. They may come again, so doing them twice must be as doing them once.

        Args:
            operations: see ``orchestrator.tracking.operations``.
            late: they were overtaken by others and say nothing of a run's status.
        """

    def finish(self, mark: str) -> None:  # noqa: B027
        """Remember ``mark``: the study has been told up to there."""

    def close(self) -> None:  # noqa: B027
        """Nothing more will come."""
