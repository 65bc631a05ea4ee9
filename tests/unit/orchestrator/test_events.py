"""What workers and the pool tell, as values that travel between processes."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from typing import get_args

import pytest

from orchestrator.work import events, shown
from orchestrator.work.events import (
    CellFailure,
    CellsKnown,
    CellState,
    Done,
    Leased,
    Note,
    PartDone,
    SlotStopped,
    with_error,
)


def test_events_survive_the_way_between_processes() -> None:
    cell = CellState(key="k", split="6-shot", seed="1", partition=[[0], [1, 2]], parameters=9)
    for event in (CellsKnown(item_id="a", cells=[cell]), Leased(item_id="a", part="a.0", slot="0")):
        assert pickle.loads(pickle.dumps(event)) == event
    with pytest.raises(dataclasses.FrozenInstanceError):
        cell.status = "failed"  # type: ignore[misc]


def test_a_slot_holds_an_item_or_the_part_of_it() -> None:
    assert Done(item_id="a", state="complete").held == "a"
    assert Leased(item_id="a", slot="0").held == "a"
    assert PartDone(item_id="a", part="a.0", state="failed").held == "a.0"


def test_every_error_and_nothing_else_is_rewritten() -> None:
    for event in (
        CellFailure(item_id="a", key="k", error="secret", failure="raised"),
        Done(item_id="a", state="failed", error="secret"),
        SlotStopped(slot="0", error="secret"),
    ):
        assert with_error(event, lambda error: "***") == dataclasses.replace(event, error="***")
    for silent in (Done(item_id="a", state="complete"), Note(item_id="a", text="secret")):
        assert with_error(silent, lambda error: "***") is silent


def test_whatever_has_an_error_is_rewritten() -> None:
    """An event that is added with an error must not carry secrets past ``with_error``."""
    told = [kind for kind in get_args(events.Event) if "error" in {f.name for f in dataclasses.fields(kind)}]
    assert {kind.__name__ for kind in told} == {"CellFailure", "Done", "SlotDown", "SlotStopped"}


def test_both_kinds_of_events_are_light_to_import(imported: Callable[..., str]) -> None:
    heavy = {"torch", "ray", "open_clip", "mlflow", "rich"}
    assert imported(f"{events.__name__}, {shown.__name__}", heavy) == "[]"
