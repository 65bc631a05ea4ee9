"""A searched study with made-up numbers, and workers that answer at once: races without Ray."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmap_model.cells import Point
from orchestrator.driver.invocation import Outcome
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.rows.rows import Rows
from orchestrator.study import StudyPlan, load_plan
from orchestrator.tracking.tracker import NoTracker
from orchestrator.work.events import CellFinished, CellsKnown, CellState, Done, EpochReached
from orchestrator.work.item import WorkItem
from orchestrator.work.shown import NoteShown, Shown

NOISE = 0.012
SPLITS = ("3-shot", "6-shot")


class Killed(BaseException):
    """The driver is gone, in the middle of its work."""


@dataclass
class Workers:
    """What cells come to, and what happens to their driver.

    Attributes:
        levels: of each trial; a cell scatters about it by its trial, split and seed alone.
        slots: items that may be in work at once, as the driver sees it.
        kill_after: items after which the driver is killed.
        broken: seeds whose cell fails, by trial.
        trained: how often each cell was trained.
    """

    levels: dict[int, float]
    slots: int = 2
    kill_after: int | None = None
    broken: set[tuple[int, str]] = field(default_factory=set)
    trained: Counter[str] = field(default_factory=Counter)
    shown: list[Shown] = field(default_factory=list)

    def value(self, trial: int, split: str, seed: str) -> float:
        block = random.Random(f"{seed} {split}").gauss(0, 0.03)
        return self.levels[trial] + block + random.Random(f"{trial} {split} {seed}").gauss(0, NOISE)

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.shown if isinstance(event, NoteShown)]

    def work(
        self,
        agenda: Callable[[Any], Any],
        plan: StudyPlan,
        store: StudyStore,
        ledger: Ledger,
        progress: Any,
        invocation: Any,
        *others: Any,
    ) -> Outcome:
        """In place of ``invocation._work``."""
        session = AtOnce(self, plan, store, ledger, invocation)
        agenda(session).work()
        return Outcome(failed=tuple(session.rows.failed), trained=len(invocation.trained))


def metrics(value: float) -> dict[str, Any]:
    """As a cell records them."""
    return {"accuracy": value, "tasks": {"clipart": {"accuracy": value}}}


class AtOnce:
    """A session whose work is done while it is waited for."""

    def __init__(
        self, workers: Workers, plan: StudyPlan, store: StudyStore, ledger: Ledger, invocation: Any
    ) -> None:
        self.workers, self.plan, self.ledger = workers, plan, ledger
        self.store = StudyStore(store.storage, store.name)  # another object, as a real session has it
        self.around = SimpleNamespace(store=store, ledger=ledger)
        self.crew = SimpleNamespace(room=lambda: workers.slots)
        self.progress = workers.shown.append
        self.queued: list[WorkItem] = []
        self.rows = Rows(plan, self, NoTracker(), self.progress, invocation)

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
        if item.purpose != "probe":
            self.queued.append(item)
            for part in parts:
                assert part.splits and part.seeds
            if parts:
                cells = [(s["shots"], d["train"]) for p in parts for s in p.splits for d in p.seeds]
                assert cells == [(s["shots"], d["train"]) for s in item.splits for d in item.seeds]

    def cancel(self, item_id: str) -> None: ...
    def forget(self, item_id: str) -> None: ...
    def phase(self, name: str) -> None: ...
    def check(self) -> None: ...

    def say(self, text: str) -> None:
        self.progress(NoteShown(text=text))

    def until(self, condition: Callable[[], bool]) -> None:
        workers = self.workers
        while self.queued:
            if workers.kill_after is not None:
                workers.kill_after -= 1
                if workers.kill_after < 0:
                    raise Killed
            self._train(self.queued.pop(0))
        assert condition()

    def score(self, named: Iterable[tuple[int | str, TrialRecord]], reason: str, *, retrain: bool) -> None:
        assert retrain
        keys = [key for _, record in named for key in record.keys]
        for key in keys:
            self.ledger.commit_test(key, {"metrics": {"accuracy": 0.5}}, {})
        if keys:
            self.store.record_test_evaluation(reason=reason, keys=keys)

    def _train(self, item: WorkItem) -> None:
        places = [(f"{s['shots']}-shot", str(d["train"])) for s in item.splits for d in item.seeds]
        name = item.item_id if item.trial is None else f"trial-{item.trial}"
        keys = {place: "-".join([name, *place]) for place in places}
        cells = [
            CellState(key=keys[split, seed], split=split, seed=seed, parameters=10) for split, seed in places
        ]
        self.rows.take(CellsKnown(item_id=item.item_id, cells=cells))
        failed = False
        for (split, seed), key in keys.items():
            if self.ledger.get(key) is not None:
                continue
            if item.trial is not None and (item.trial, seed) in self.workers.broken:
                failed = True
                continue
            value = 0.4 if item.trial is None else self.workers.value(item.trial, split, seed)
            self.ledger.commit(key, {"metrics": metrics(value)}, {})
            self.workers.trained[key] += 1
            self.rows.take(
                CellFinished(item_id=item.item_id, key=key, at="", metrics={}, parameters=10, seconds={})
            )
        if not failed:
            values = [self.ledger.get(key)["metrics"]["accuracy"] for key in keys.values()]  # type: ignore[index]
            mean = sum(values) / len(values)
            self.rows.take(EpochReached(item_id=item.item_id, epoch=5, mean=mean, values=values, reports={}))
        ended: dict[str, Any] = {"state": "failed", "error": "it broke"} if failed else {"state": "complete"}
        self.rows.take(Done(item_id=item.item_id, seconds={"total": 1.0}, **ended))


def searched(
    folder: Path, workers: Workers, *overrides: str, states: dict[int, str] | None = None
) -> tuple[StudyPlan, StudyStore, Ledger]:
    """A study whose trials were searched on seeds 1 to 3, as its records have it."""
    plan = load_plan("demo", [f"storage={folder / 'runs'}", "name=unit", "seeds=[1, 2, 3]", *overrides])
    store, ledger = StudyStore(plan.study.storage, "unit"), Ledger(plan.study.storage)
    store.save_study(plan.study.to_plain(), plan.inputs.to_dict())
    first = plan.space.replay(plan.space.preset())
    for number in workers.levels:
        cells, values = [], []
        for split in plan.study.splits:
            for seed in plan.study.seeds:
                key = f"search-{number}-{split.label}-{seed.label}"
                cells.append({"key": key, "split": split.label, "seed": seed.label, "parameters": 10})
                values.append(workers.value(number, split.label, seed.label))
                ledger.commit(key, {"metrics": metrics(values[-1])}, {})
        point: Point = replace(first, recipe=replace(first.recipe, lr=0.01 * (1 + number)))
        record = TrialRecord(
            number=number,
            params=plan.space.preset(),
            point=point.to_dict(),
            cells=cells,
            value=sum(values) / len(values),
            parameters=10,
        )
        record.state = (states or {}).get(number, "complete")  # type: ignore[assignment]
        store.save_trial(record)
    return plan, store, ledger
