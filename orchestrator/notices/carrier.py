"""Delivers the notices of a box, with longer and longer pauses while a receiver is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from orchestrator.notices.box import NoticeBox, WaitingNotice
from orchestrator.notices.delivery import Send, Sent, send

BACKOFF = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds between attempts at an address that does not take anything."""

ATTEMPT_S = 10.0
"""Seconds that an attempt under way gets at the end: Apprise gives a receiver 8."""

HURRIED_S = 3.0
"""The same where the user, or a signal, wants the run to end: it has 13 s for all of that."""

LOOK_S = 1.0
"""Seconds between looks at what is due."""

logger = logging.getLogger(__name__)


@dataclass
class _Address:
    """How it goes with one address.

    Attributes:
        failures: attempts in a row that failed.
        due: when it may be tried again, by the clock.
        error: why the last one failed.
    """

    failures: int = 0
    due: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Rest:
    """What is left of a box.

    Attributes:
        delivered: messages that reached their address now.
        waiting: those that have not: one for each notice and variable.
        errors: why not, by variable.
        elsewhere: another process delivers them just now.
    """

    delivered: int = 0
    waiting: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    elsewhere: bool = False


class Carrier:
    """Looks through a box and sends what is due. Plain calls with a clock; ``CarrierThread`` makes them.

    Args:
        box: what is to be delivered.
        variables: whose addresses can be told here; what is for others stays.
        send: sends one message.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        box: NoticeBox,
        variables: Collection[str],
        send: Send = send,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._box, self._variables, self._send, self._clock = box, variables, send, clock
        self._addresses = {name: _Address() for name in variables}
        self.delivered = 0

    def look(self) -> float | None:
        """Send what is due; seconds until something may be due again, None if nothing waits."""
        pauses = []
        for one in self._box.waiting():
            for variable in [name for name in one.left if name in self._addresses]:
                address = self._addresses[variable]
                if self._clock() >= address.due:
                    self._try(one, variable, address)
                if variable in one.left:
                    pauses.append(address.due - self._clock())
        return max(0.0, min(pauses)) if pauses else None

    def rest(self) -> Rest:
        """How far it is."""
        waiting = [name for one in self._box.waiting() for name in one.left]
        errors = {n: a.error for n, a in self._addresses.items() if n in waiting and a.error}
        unknown = {name: f"variable {name} is not set here" for name in waiting if name not in errors}
        return Rest(self.delivered, len(waiting), {**unknown, **errors})

    def hurry(self) -> None:
        """Let every address be tried again at once."""
        for address in self._addresses.values():
            address.due = self._clock()

    def _try(self, one: WaitingNotice, variable: str, address: _Address) -> None:
        if not self._box.begin(one, variable):
            return
        sent = self._send(one.notice, variable)
        if sent.delivered:
            self._box.delivered(one, variable)
            self.delivered += 1
            address.failures, address.error = 0, ""
            return
        if sent.delivered is False:
            self._box.failed(one, variable)
        self._put_off(address, sent)

    def _put_off(self, address: _Address, sent: Sent) -> None:
        address.error = sent.error
        address.due = self._clock() + BACKOFF[min(address.failures, len(BACKOFF) - 1)]
        address.failures += 1


class CarrierThread:
    """A carrier at work beside a run, which never waits for it but, for a while, at its end.

    Args:
        carrier, box: what delivers, and what is delivered.
        look: called about once a second, for what may have happened by nothing happening.
    """

    def __init__(self, carrier: Carrier, box: NoticeBox, look: Callable[[], None] = lambda: None) -> None:
        self._carrier, self._box, self._ask = carrier, box, look
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._empty = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was put into the box."""
        self._empty.clear()
        self._wake.set()

    def close(self, patience: float, hurry: Callable[[], bool] = lambda: False) -> Rest:
        """Deliver what is left for at most ``patience`` seconds, or until ``hurry``; what is left then."""
        until = time.monotonic() + patience
        self._carrier.hurry()
        self.wake()
        while not self._empty.wait(0.1) and time.monotonic() < until and not hurry():
            pass
        self._closing.set()
        self._wake.set()
        # So that an attempt under way is not made again by the next who looks.
        self._thread.join(HURRIED_S if hurry() else ATTEMPT_S)
        return self._carrier.rest()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                with self._box.hold() as mine:
                    while mine and not self._closing.is_set():
                        self._work()
                self._wake.wait(LOOK_S)
        except Exception:
            logger.exception("This run no longer delivers notices; orchestrator status does")

    def _work(self) -> None:
        self._ask()
        self._wake.clear()
        pause = self._carrier.look()
        if pause is None:
            self._empty.set()
        self._wake.wait(LOOK_S if pause is None else min(LOOK_S, pause))
