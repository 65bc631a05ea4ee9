"""A study of one complete trial, trained for real by the work of a worker in this process, without Ray."""

from __future__ import annotations

from orchestrator.ledger import StudyStore, TrialRecord
from orchestrator.study import StudyPlan
from orchestrator.work.events import CellsKnown, Done, WorkEvent

CELL = ("key", "split", "seed", "partition", "parameters")


def train(plan: StudyPlan) -> None:
    """Leave the records of the study's first configuration."""
    from orchestrator.execution.executor import Executor

    store = StudyStore(plan.study.storage, plan.study.name)
    store.save_study(plan.study.to_plain(), plan.inputs.to_dict())
    point = plan.space.replay(plan.space.preset())
    item, events = plan.work_item(point, item_id="trial-0", trial=0), list[WorkEvent]()
    executor = Executor(item.dataset, item.backbone, item.storage, precision=item.precision)
    executor.run(item, events.append)
    assert isinstance(events[-1], Done) and events[-1].state == "complete", events[-1]
    (known,) = (event for event in events if isinstance(event, CellsKnown))
    cells = [{name: getattr(cell, name) for name in CELL} for cell in known.cells]
    given = {"number": 0, "state": "complete", "point": point.to_dict(), "cells": cells}
    store.save_trial(TrialRecord.from_dict(given))
