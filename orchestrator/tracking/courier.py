"""Carries a driver's news to a backend, on a thread of its own, whatever becomes of the server meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.redaction import redact
from orchestrator.tracking.backend import Backend, Delivery
from orchestrator.tracking.operations import STUDY_RUN, Operation, row_of
from orchestrator.tracking.outbox import Outbox

LINGER = 0.5
"""Seconds that news waits for more of its kind, so that one call carries an epoch of many cells."""

BACKOFF = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between attempts while the server does not answer."""

TRIES = 10
"""Attempts at an operation that something else than the backend refuses, before it is set aside."""

LOSSES = 3
"""Times that the study is told again at once because something was gone; then only after a while."""

BATCH = 100
"""Operations that go together in one call, at least, as far as there are so many: those of a run together."""

UNTROUBLED = 3.0
"""Times as long as for a server in trouble that the end waits for one of which no error is known: it may
be busy, or its client is only just being started."""

LOOK_S = 0.5
"""Seconds between looks at whether the server still takes something, at the end of a driver."""

REPAIRS = 3
"""Attempts of a driver that was superseded to set right what it may have overwritten."""

Story = Callable[[Collection[str] | None, bool], Iterator[list[Operation]]]
"""All of the study, or some rows by their runs, a row at a time, as its records have it now; and then, if the
second argument says so, rows of this driver as it knows them."""


class _Superseded(Exception):
    """A later driver took the study over: what this one has to say no longer counts."""


@dataclass
class _Undecided:
    operation: Operation
    reason: str
    tries: int = 1
    at: float = 0.0


class Courier:
    """Empties an outbox, and tells the study again where the backend may have missed something.

    Args:
        outbox: holds the news.
        connect: makes the backend, on the courier's own thread.
        story: the study as its records have it.
        told_up_to: what the store remembers if it has been told everything before this driver; None if it
            certainly has not, empty if there was nothing to be told.
        mark: what the store shall remember once this driver's news are delivered.
        is_current: False once a later driver took the study over. Asked before and after every call: a driver
            can be stopped in between, and then tells what it touched again from the records.
        clock: seconds, monotonic.

    Attributes:
        last_error: why the last attempt failed, without secrets; None once the server takes things again.
        retold: rows that were told again.
        complete: everything was delivered, nothing refused, and the store remembers ``mark``.
        superseded: a later driver took over.
    """

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], Backend],
        *,
        story: Story = lambda runs, own: iter(()),
        told_up_to: str | None = "",
        mark: str = "",
        is_current: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox, self._connect, self._story, self._clock = outbox, connect, story, clock
        self._told_up_to, self._mark, self._is_current = told_up_to, mark, is_current
        self._delivered = threading.Event()
        self._closing = threading.Event()
        self._opened = self._news_lost = False
        self._again = told_up_to is None
        if self._again:
            outbox.appended.set()
        self._losses = 0
        self._telling: tuple[Iterator[list[Operation]], list[Operation]] | None = None
        self._undecided: list[_Undecided] = []
        self._sending: list[Operation] = []
        self._waiting_rows = self._answers = 0
        self.last_error: str | None = None
        self.retold = 0
        self.complete = self.superseded = False
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> bool:
        """Something is not delivered yet."""
        if self.superseded:
            return False
        return self._outbox.waiting or self._again or self._telling is not None or bool(self._undecided)

    def flush(self, timeout: float) -> bool:
        """Wait until everything told so far was delivered; False if ``timeout`` seconds did not suffice."""
        until = time.monotonic() + timeout
        while self.waiting:
            self._delivered.clear()
            if not self.waiting:
                break
            left = until - time.monotonic()
            if left <= 0 or not self._thread.is_alive():
                return False
            self._delivered.wait(min(left, 0.5))
        return True

    def close(self, timeout: float, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Deliver what is left; whether all was. What nobody decided on is set aside.

        Args:
            timeout: seconds without an answer after which it is given up: as long as the server takes
                something it is told the rest, however long that takes.
            hurry: asked now and then whether to leave it at what was delivered.
        """
        self._closing.set()
        self._outbox.appended.set()
        delivered = self._deliver_rest(timeout, hurry)
        if delivered:
            self._thread.join(timeout=max(5.0, timeout))
        else:
            for undecided in self._undecided:
                self._outbox.reject(undecided.operation, undecided.reason)
        return delivered

    def _deliver_rest(self, timeout: float, hurry: Callable[[], bool]) -> bool:
        answers, since = self._answers, self._clock()
        while not self.flush(min(LOOK_S, timeout)):
            now = self._clock()  # before the answers are counted, so that none is overlooked
            if self._answers != answers:
                answers, since = self._answers, now
            patience = timeout if self.last_error else UNTROUBLED * timeout
            if now - since >= patience or not self._thread.is_alive():
                return False
            if hurry():
                return self.flush(LOOK_S)
        return True

    @property
    def is_over(self) -> bool:
        """The thread has ended."""
        return not self._thread.is_alive()

    # On the thread

    def _run(self) -> None:
        backend: Backend | None = None
        failures = 0
        while True:
            self._outbox.appended.wait(self._next_try())
            if not self._closing.is_set():
                self._closing.wait(LINGER)
            self._outbox.appended.clear()
            try:
                self._check()
                backend = backend or self._connect()
                on_disk = self._outbox.write_out()
                self._deliver(backend)
                if not on_disk:
                    raise OSError(f"{self._outbox.folder} takes no more news; it waits in memory")
                failures = 0
                if self._closing.is_set() and not self.waiting:
                    self._finish(backend)
                    return
                self._delivered.set()
            except _Superseded:
                self._repair(backend)
                return
            except Exception as error:  # whatever the server or its client does, the sweep goes on
                self.last_error = _in_words(error)
                self._outbox.appended.set()
                self._pause(BACKOFF[min(failures, len(BACKOFF) - 1)])
                failures += 1

    def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            time.sleep(min(seconds, 1.0))
        else:
            self._closing.wait(seconds)

    def _next_try(self) -> float | None:
        """Seconds until an undecided operation is due; None if there is none."""
        if not self._undecided:
            return None
        return max(0.0, min(u.at for u in self._undecided) - time.monotonic())

    def _deliver(self, backend: Backend) -> None:
        if not self._opened:
            heard = backend.open()
            self._opened = True
            self._answers += 1
            if self._told_up_to:
                self._again = self._again or heard != self._told_up_to
        if self._outbox.damaged:
            self._outbox.damaged = False
            self._again = self._news_lost = True
        while self._again or self._telling is not None or self._outbox.pending_bytes:
            if self._again or self._telling is not None:
                self._tell_from_records(backend)
            news, position = self._outbox.read()
            if self._outbox.damaged:
                self._outbox.damaged = False
                self._again = self._news_lost = True
            if news:
                self._send(backend, news)
            self._outbox.acknowledge(position)
        self._try_again(backend)

    def _tell_from_records(self, backend: Backend) -> None:
        """Tell the study a row at a time; where the server is away in between, it goes on there."""
        if self._again:
            self._again = False
            self._telling, self._waiting_rows = (self._story(None, self._news_lost), []), 0
            self._news_lost = False
        assert self._telling is not None, "just begun, or begun before"
        rows, operations = self._telling
        while True:
            while len(operations) < BATCH and (more := self._next_row(rows)):
                operations += more
                self._waiting_rows += row_of(more[0]["run"]) != STUDY_RUN
            if not operations:
                break
            self._send(backend, operations)
            self.retold, self._waiting_rows = self.retold + self._waiting_rows, 0
            operations = []
            self._telling = (rows, operations)
            if self._again:
                return  # something was lost meanwhile: from the beginning
        self._telling = None

    def _next_row(self, rows: Iterator[list[Operation]]) -> list[Operation]:
        try:
            return next(rows, [])
        except Exception:  # the storage is away: from the beginning, when it is back
            self._telling, self._again = None, True
            raise

    def _send(self, backend: Backend, operations: list[Operation], *, late: bool = False) -> Delivery:
        delivery = Delivery()
        for call in _calls(operations):
            self._check()
            self._sending = call
            part = backend.write(call, late=late)
            self._check()
            self._sending = []
            self._answers += 1
            delivery.add(part)
            if part.lost:
                self._lose()
        if not (delivery.refused or delivery.undecided or self._undecided or self._outbox.refused):
            self.last_error = None
        for operation, reason in delivery.refused:
            self._refuse(operation, reason)
        if not late:
            for operation, reason in delivery.undecided:
                self.last_error = _short(reason)
                due = time.monotonic() + BACKOFF[0]
                self._undecided.append(_Undecided(operation, redact(reason), at=due))
        return delivery

    def _lose(self) -> None:
        """Something was gone: all of the study has to be told again."""
        self._again = self._news_lost = True
        self._losses += 1
        if self._losses % LOSSES == 0:
            raise OSError("its experiment or runs disappear while they are written")

    def _try_again(self, backend: Backend) -> None:
        """Try each undecided operation that is due alone; after ``TRIES`` it is set aside."""
        now = time.monotonic()
        for undecided in [u for u in self._undecided if u.at <= now]:
            delivery = self._send(backend, [undecided.operation], late=True)
            if not delivery.undecided:
                self._undecided.remove(undecided)
                continue
            undecided.reason = redact(delivery.undecided[0][1])
            undecided.tries += 1
            delay = BACKOFF[min(undecided.tries - 1, len(BACKOFF) - 1)]
            undecided.at = now + (BACKOFF[0] if self._closing.is_set() else delay)
            if undecided.tries >= TRIES:
                self._undecided.remove(undecided)
                self._refuse(undecided.operation, undecided.reason)

    def _refuse(self, operation: Operation, reason: str) -> None:
        self.last_error = _short(reason)
        self._outbox.reject(operation, redact(reason))

    def _check(self) -> None:
        if not self._is_current():
            raise _Superseded

    def _finish(self, backend: Backend) -> None:
        if self._outbox.refused == 0 and self._mark:
            backend.finish(self._mark)
        self.complete = self._outbox.refused == 0
        backend.close()
        self._delivered.set()

    def _repair(self, backend: Backend | None) -> None:
        """Set right what the last call may have overwritten of a later driver's news; then say no more."""
        runs = {row_of(operation["run"]) for operation in self._sending}
        if backend is not None:
            backend.close()
            backend = None  # what it knows of the runs is of before the other driver
        for attempt in range(REPAIRS if runs else 0):
            try:
                backend = backend or self._connect()
                for operations in self._story(runs, False):
                    backend.write(operations)
                break
            except Exception as error:
                self.last_error = _in_words(error)
                self._pause(BACKOFF[attempt])
        if backend is not None:
            backend.close()
        self.superseded = True
        self._delivered.set()


def _calls(operations: Sequence[Operation]) -> Iterator[list[Operation]]:
    """Operations as they go together: those of a run in one call, of more runs until there are ``BATCH``."""
    by_run: dict[str, list[Operation]] = {}
    for operation in operations:
        by_run.setdefault(operation["run"], []).append(operation)
    call: list[Operation] = []
    for group in by_run.values():
        call += group
        if len(call) >= BATCH:
            yield call
            call = []
    if call:
        yield call


def _in_words(error: Exception) -> str:
    return _short(f"{type(error).__name__}: {error}")


def _short(reason: str) -> str:
    return redact((reason.splitlines() or [""])[0])[:300]
