"""When slots were at work on what is kept with the record of it, and of what has none with the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.driver.occupied import Occupied
from orchestrator.driver.session import Session
from orchestrator.study import load_plan
from orchestrator.work.events import Done, Leased, PartDone, Requeued


def test_a_slot_is_at_work_from_its_lease_to_its_release() -> None:
    occupied = Occupied()
    assert occupied.take(Leased(item_id="trial-1", slot="0")) is None
    assert occupied.take(Leased(item_id="trial-2", slot="1")) is None
    first = occupied.take(Requeued(item_id="trial-2", deaths=1))
    assert first is not None and (first["item"], first["slot"]) == ("trial-2", "1")
    assert first["start"] <= first["end"]
    occupied.take(Leased(item_id="trial-2", slot="0"))
    second = occupied.take(Done(item_id="trial-2", state="complete"))
    assert second is not None and second["slot"] == "0"
    assert occupied.take(Done(item_id="trial-2", state="complete")) is None, "it was free already"


def test_parts_of_an_item_are_held_by_slots_of_their_own() -> None:
    occupied = Occupied()
    occupied.take(Leased(item_id="trial-1", part="trial-1.0", slot="0"))
    occupied.take(Leased(item_id="trial-1", part="trial-1.1", slot="1"))
    done = occupied.take(PartDone(item_id="trial-1", part="trial-1.1", state="complete"))
    assert done is not None and (done["item"], done["slot"]) == ("trial-1.1", "1")


@pytest.mark.parametrize(("purpose", "kept"), [("search", "record"), ("confirm", "run")])
def test_times_are_kept_where_they_are_saved(
    tmp_path: Path, idle_session: Callable[..., Session], purpose: str, kept: str
) -> None:
    plan = load_plan("demo", [f"storage={tmp_path / 'runs'}", "name=unit"])
    session = idle_session(plan, lambda event: None)
    record = session.rows.record(plan.space.replay(plan.space.preset()), number=0)
    item = session.rows.item(plan.study.point, item_id="trial-0", purpose=purpose)
    row: Any = SimpleNamespace(item=item, record=record, run=None, values=None)
    cast(Any, session.rows)._live["trial-0"] = row
    when = {"item": "trial-0", "slot": "0", "start": "a", "end": "b"}
    assert session.rows.held("trial-0", when) == (kept == "record")
    assert record.attributes == ({"held": [when]} if kept == "record" else {})
    assert not session.rows.held("probe-1", when), "probes have no record of their own"
