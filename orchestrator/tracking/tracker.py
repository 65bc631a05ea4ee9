"""What a driver tells about its study; a courier carries it to a backend."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.commands import command
from orchestrator.redaction import redact, shown_uri
from orchestrator.tracking.backend import Backend
from orchestrator.tracking.courier import Courier, Story
from orchestrator.tracking.events import now, take
from orchestrator.tracking.narration import Narration
from orchestrator.tracking.operations import Operation, Trial
from orchestrator.tracking.outbox import open_outbox
from orchestrator.tracking.row import RowEnd, TrackedRow
from orchestrator.work.events import Event

RECENT = 256
"""Rows that ended and are still remembered: their records may be on their way."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """How the telling went.

    Attributes:
        delivered: the backend was sent everything.
        refused: operations it did not take.
        refused_file: where they lie, with the server's words; None if there are none.
        note: for the user; None if all is well.
    """

    delivered: bool = True
    refused: int = 0
    refused_file: str | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return dict(vars(self))


class Tracker:
    """Tells a backend about one study. No method waits for the server or raises because of it.

    Args:
        uri: tracking URI, for messages.
        outboxes: local folder of the study's outboxes.
        connect: makes the backend, on the courier's own thread.
        narration: how rows are told.
        again: the command that tells all again, for messages.
        fence: of the driver; earlier drivers' outboxes are discarded.
        story: all rows as the records have them, see ``orchestrator.tracking.retelling``.
        keep: takes rows that can be told from no other record: those that did not complete.
        told_up_to, is_current, clock: see ``Courier``.
    """

    def __init__(
        self,
        uri: str,
        outboxes: Path | str,
        *,
        connect: Callable[[], Backend],
        narration: Narration,
        again: str | None = None,
        fence: int = 0,
        story: Callable[[Collection[str] | None], Iterator[TrackedRow]] = lambda runs: iter(()),
        keep: Callable[[TrackedRow], None] = lambda row: None,
        told_up_to: str | None = "",
        is_current: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.uri, self._narration, self._keep, self._story = uri, narration, keep, story
        self._again = again or command("track", narration.study)
        self._lock = threading.Lock()
        self._rows: dict[Trial, TrackedRow] = {}
        self._recent: OrderedDict[Trial, TrackedRow] = OrderedDict()
        self._outbox = open_outbox(Path(outboxes), fence)
        tell: Story = self._tell_rows
        self._courier = Courier(
            self._outbox,
            connect,
            story=tell,
            told_up_to=told_up_to,
            mark=str(fence),
            is_current=is_current,
            clock=clock,
        )

    @property
    def last_error(self) -> str | None:
        """Why the backend could not be told last, without secrets."""
        return self._courier.last_error

    @property
    def retold(self) -> int:
        """Rows told again from the records so far."""
        return self._courier.retold

    def trial_started(
        self,
        trial: Trial,
        point: dict[str, Any],
        *,
        started_at: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """A trial (or a reference row, by name) begins or is taken up again.

        Args:
            trial: its number, or ``zero_shot``, ``zero_step``.
            point: ``Point.to_dict()``.
            started_at: UTC ISO time, as recorded.
            tags: further tags.
        """
        row = TrackedRow(
            trial=trial, point=dict(point), started_at=started_at or now(), tags=dict(tags or {})
        )
        with self._lock:
            self._rows[trial] = row
            self._recent.pop(trial, None)
        self._append(self._narration.started(row))

    def event(self, trial: Trial, event: Event, *, stage: bool = False) -> None:
        """Pass on any event of a row's work; those of no interest are ignored.

        ``stage``: further seeds may follow. Means over those that there are so far are told when the row ends
        with them, for a run has one mean per epoch.
        """
        row = self._rows.get(trial)
        if row is not None:
            row.stage = stage
            self._append(take(event, row, self._narration))

    def trial_ended(
        self,
        trial: Trial,
        state: str,
        *,
        ended_at: str | None = None,
        attempts: int = 1,
        device_seconds: float | None = None,
        parameters: int | None = None,
        share: float | None = None,
        error: str | None = None,
        keep: bool = False,
    ) -> None:
        """``state`` is complete, pruned, failed, cancelled or interrupted; the times are those recorded.

        ``keep`` keeps a complete row too: no other record will have it for ever.
        """
        row = self._rows.get(trial)
        if row is None:
            return
        row.end = RowEnd(
            state=state,
            at=ended_at or now(),
            device_seconds=device_seconds,
            attempts=attempts,
            parameters=parameters,
            share=share,
            error=None if error is None else redact(error),
        )
        if row.stage and state != "interrupted":
            for epoch, reports in row.reports():
                self._append(self._narration.means(row, epoch, reports))
        self._append(self._narration.ended(row, row.end))
        if state != "complete" or keep:
            self._keep(row)
        with self._lock:
            self._rows.pop(trial, None)
            self._recent[trial] = row
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)

    def trial_settled(self, trial: Trial, state: str, *, at: str) -> None:
        """What a row has come to was decided after its work had ended."""
        recent = self._recent.get(trial)
        if recent is not None and recent.end is not None:
            recent.end.state = state
        self._append(self._narration.settled(trial, state, at))

    def trial_tested(
        self, trial: Trial, cells: Sequence[Mapping[str, Any]], tests: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """The scores of a row's cells on the test images, as recorded in the ledger, by key."""
        row = TrackedRow(trial=trial, started_at=now(), cells=[dict(cell) for cell in cells])
        row.tests = {key: dict(test) for key, test in tests.items()}
        self._append(self._narration.tested(row))

    def flush(self, timeout: float) -> bool:
        """Wait until everything told so far was delivered; False if ``timeout`` seconds did not suffice."""
        return self._courier.flush(timeout)

    def close(self, timeout: float = 60.0, hurry: Callable[[], bool] = lambda: False) -> Told:
        """Deliver what is left, and say how it went; see ``Courier.close``."""
        delivered = self._courier.close(timeout, hurry)
        if self._courier.is_over:
            self._outbox.close()
        refused = self._outbox.refused
        return Told(
            delivered=delivered and not self._courier.superseded,
            refused=refused,
            refused_file=str(self._outbox.refused_file) if refused else None,
            note=self._note(delivered, refused),
        )

    @property
    def complete(self) -> bool:
        """Whether the backend has everything, known once closed."""
        return self._courier.complete

    def _note(self, delivered: bool, refused: int) -> str | None:
        if self._courier.superseded:
            return f"Another driver took the study over and tells {shown_uri(self.uri)} about it."
        lines = []
        if not delivered:
            lines.append(
                f"{shown_uri(self.uri)} has not received all updates ({self.last_error or 'still busy'}). "
                "The next run of the study sends them again, from its records; so does: "
                f"{self._again}"
            )
        if refused:
            what = "1 update was" if refused == 1 else f"{refused} updates were"
            lines.append(
                f"{what} refused by {shown_uri(self.uri)} ({self.last_error}); listed with its answers in "
                f"{self._outbox.refused_file}. To send all again: {self._again}"
            )
        return "\n".join(lines) or None

    def _tell_rows(self, runs: Collection[str] | None, own: bool) -> Iterator[list[Operation]]:
        """Rows as recorded, then those in work or just ended as they are known here."""
        for row in self._story(runs):
            if runs is None and row.trial in self._rows:
                row.end = None  # its record is of before it was taken up again
            yield self._narration.whole(row)
        with self._lock:
            mine = [*self._recent.values(), *self._rows.values()] if own else []
        for row in mine:
            with contextlib.suppress(RuntimeError):  # it changes just now; what changed follows by itself
                yield self._narration.whole(row)

    def _append(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            self._outbox.append(operation)


class NoTracker:
    """Stands in where tracking is switched off."""

    last_error: str | None = None
    complete = False

    def trial_started(self, trial: Trial, point: dict[str, Any], **about: Any) -> None: ...
    def event(self, trial: Trial, event: Event, *, stage: bool = False) -> None: ...
    def trial_ended(self, trial: Trial, state: str, **about: Any) -> None: ...
    def trial_settled(self, trial: Trial, state: str, *, at: str) -> None: ...
    def trial_tested(
        self, trial: Trial, cells: Sequence[Mapping[str, Any]], tests: Mapping[str, Mapping[str, Any]]
    ) -> None: ...
    def flush(self, timeout: float) -> bool:
        return True

    def close(self, timeout: float = 60.0, hurry: Callable[[], bool] = lambda: False) -> Told:
        return Told()
