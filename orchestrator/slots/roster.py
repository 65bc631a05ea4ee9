"""The slots of the pool: who is up, what each holds, whose deaths count, who has not been heard of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.slots.items import Items
from orchestrator.slots.news import News
from orchestrator.slots.silence import Silences
from orchestrator.work.events import Seconds, SlotDown, SlotGone, SlotStopped, SlotUp
from orchestrator.work.failures import was_killed_for_memory

LOOK_S = 10.0
"""Seconds between two looks for silent workers while driver and pool run: a driver asks every second."""

GRACE = 90.0
"""Seconds in which Ray notices that a node is gone. Its health check asks every 3 s and gives up at the fifth
failure: 15 s where the connection is refused, 65 s where nothing answers at all."""


@dataclass
class Slot:
    """What is known of one slot.

    Attributes:
        worker: id of the process that runs; None between two.
        seen: time of its last sign of life.
        item: id of what it holds.
        deaths: of its workers since it finished a cell.
        proven: it has finished one.
        left: its worker gave its item up and ends itself.
        error: the last that is known.
        stopped: it takes no more work.
        draining: its node will be taken away.
    """

    worker: str | None = None
    seen: float = 0.0
    item: str | None = None
    deaths: int = 0
    proven: bool = False
    left: bool = False
    error: str = ""
    stopped: bool = False
    draining: bool = False

    def prove(self) -> None:
        """It finished a cell: what happened before is forgiven."""
        self.deaths, self.error, self.proven = 0, "", True

    def pardon(self) -> None:
        """Its last deaths were the fault of an item, if it had proven itself; once."""
        if self.proven:
            self.deaths, self.error, self.proven = 0, "", False


@dataclass(frozen=True)
class _Doubt:
    """A death that does not count yet: the node may have died, and then neither slot nor item is to blame."""

    slot: str
    item: str | None
    until: float


class Roster:
    """All slots of one study.

    Args:
        items: what they work on.
        news: takes what is told of them.
        clock: seconds, monotonic.
        patience: silence after which a worker is taken for dead.
        deaths: of a slot that finished no cell in between that end it.

    Attributes:
        stopping: all work ends; every worker is let go.
    """

    def __init__(
        self, items: Items, news: News, *, clock: Callable[[], float], patience: float, deaths: int
    ) -> None:
        self._items, self._news, self._clock = items, news, clock
        self._patience, self._looked, self._deaths = patience, clock(), deaths
        self._slots: dict[str, Slot] = {}
        self._doubts: list[_Doubt] = []
        self._silences = Silences(patience)
        self.stopping = False

    def get(self, slot: str) -> Slot | None:
        """A slot that is known."""
        return self._slots.get(slot)

    def held_by(self, slot: str, worker: str) -> Slot | None:
        """A slot whose worker is this one."""
        record = self._slots.get(slot)
        return record if record is not None and record.worker == worker else None

    def heard(self, slot: str, worker: str) -> Slot | None:
        """The same, and it lives."""
        record = self.held_by(slot, worker)
        if record is not None:
            record.seen = self._clock()
        return record

    def workers(self) -> list[str]:
        """Of all slots that have one."""
        return [record.worker for record in self._slots.values() if record.worker is not None]

    def doubtful(self, item_id: str) -> int:
        """Deaths of an item's workers that do not count yet."""
        return sum(doubt.item == item_id for doubt in self._doubts)

    def hello(self, slot: str, worker: str) -> bool:
        """A worker is up; see ``Pool.hello``."""
        record = self._slots.setdefault(slot, Slot())
        if record.worker not in (None, worker):
            self.died(slot, "its worker was replaced")
        self._settle_doubts(lambda doubt: doubt.slot == slot)
        if record.stopped or record.draining or self.stopping:
            return False
        record.worker, record.seen = worker, self._clock()
        self._news.tell(SlotUp(slot=slot))
        self._tell_silence(slot, record)
        return True

    def bye(self, slot: str, worker: str, error: str | None, *, final: bool) -> None:
        """A worker ends; see ``Pool.bye``."""
        record = self.held_by(slot, worker)
        if record is None:
            return
        if error is not None:
            record.error = error
        if final:
            self.release(record, counted=False)
            self._stop(slot, record)
        elif record.draining:
            self._dismiss(slot, record)
        elif error is None:
            self.release(record)
            record.worker = None
            self._news.tell(SlotDown(slot=slot))

    def died(self, slot: str, error: str, *, grace: float = 0.0) -> bool:
        """A worker is dead; see ``Pool.died``."""
        record = self._slots.setdefault(slot, Slot())
        if record.stopped:
            return False
        if record.draining:
            self._dismiss(slot, record)
            return False
        # A worker that left had given its item up; one that Ray killed for memory died of its item.
        for_memory = record.item is not None and was_killed_for_memory(error)
        explained, record.left = record.left or for_memory, False
        doubtful = grace > 0 and not explained
        item_id = self.release(record, error, counted=not (doubtful or explained), for_memory=for_memory)
        record.worker = None
        if not explained:
            record.error = record.error or error
        if doubtful:
            self._doubts.append(_Doubt(slot, item_id, self._clock() + grace))
        elif not explained and not self._count(slot, record):
            return False
        self._news.tell(SlotDown(slot=slot, error=record.error or error))
        return True

    def drain(self, slot: str) -> None:
        """Let a slot go whose node will be taken away."""
        record = self._slots.setdefault(slot, Slot())
        if record.worker is None:
            self._dismiss(slot, record)
        else:
            record.draining = True
            self._news.notify(f"worker:{record.worker}")
            self._news.notify("queue")

    def lost(self, slot: str) -> None:
        """The node of a slot is gone."""
        record = self._slots.get(slot)
        if record is not None:
            self._dismiss(slot, record)

    def expire(self) -> None:
        """Take workers that have been silent for too long for dead, and count deaths no longer in doubt."""
        now = self._clock()
        self._forgive(now - self._looked - LOOK_S, now)
        self._looked = now
        self._settle_doubts(lambda doubt: doubt.until <= now)
        limit = now - self._patience
        for slot, record in list(self._slots.items()):
            if record.worker is None or record.item is None:
                continue
            self._tell_silence(slot, record)
            if record.seen < limit:
                # Silence is how a node looks that is gone without a word.
                self.died(slot, f"its worker was silent for {self._patience:g} s", grace=GRACE)

    def release(
        self,
        record: Slot,
        error: str = "",
        *,
        counted: bool = True,
        for_memory: bool = False,
        seconds: Seconds | None = None,
    ) -> str | None:
        """Queue the item of a worker that is gone again, unless it has killed too many; its id."""
        item_id, record.item = record.item, None
        if item_id is None:
            return None
        about = {"counted": counted, "for_memory": for_memory}
        if self._items.release(item_id, error, seconds=seconds, **about):
            record.pardon()
        return item_id

    def _forgive(self, seconds: float, now: float) -> None:
        """Take silence back that nobody listened to: the pool was stopped (SIGSTOP, a suspended machine)."""
        if seconds <= 0:
            return
        for record in self._slots.values():
            record.seen = min(now, record.seen + seconds)
        self._silences.shift(seconds)

    def _tell_silence(self, slot: str, record: Slot) -> None:
        news = self._silences.look(slot, record.seen, self._clock())
        if news is not None and not self.stopping:
            self._news.tell(news)

    def _count(self, slot: str, record: Slot) -> bool:
        """Count a death of a slot; False if it was one too many."""
        record.deaths += 1
        if record.deaths >= self._deaths:
            self._stop(slot, record)
        return not record.stopped

    def _settle_doubts(self, over: Callable[[_Doubt], bool]) -> None:
        """Count the deaths whose doubt is ``over``."""
        settled = [doubt for doubt in self._doubts if over(doubt)]
        self._doubts = [doubt for doubt in self._doubts if doubt not in settled]
        for doubt in settled:
            record = self._slots.get(doubt.slot)
            if doubt.item is not None and self._items.blame(doubt.item) and record is not None:
                record.pardon()
            if record is not None and not record.stopped:
                self._count(doubt.slot, record)
        if settled:
            self._news.notify("queue")

    def _dismiss(self, slot: str, record: Slot) -> None:
        """Forget a slot that went for no fault of its own."""
        self._doubts = [doubt for doubt in self._doubts if doubt.slot != slot]
        self.release(record, counted=False)
        self._slots.pop(slot, None)
        self._silences.forget(slot)
        self._news.tell(SlotGone(slot=slot))
        self._news.notify("queue")

    def _stop(self, slot: str, record: Slot) -> None:
        self.release(record)
        record.worker, record.stopped = None, True
        self._silences.forget(slot)
        self._news.tell(SlotStopped(slot=slot, error=record.error))
