"""A record that has the content of another one of its kind is named and does not count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.ledger import Invocation, StudyStore
from orchestrator.ledger.documents import encode
from orchestrator.ledger.told import ToldStore


def swap(store: StudyStore, folder: str) -> str:
    """Put the content of a folder's second record into its first; the path of that one."""
    names = sorted(store.storage.names(f"studies/unit/{folder}"))
    first, second = (f"studies/unit/{folder}/{name}" for name in names[:2])
    data = store.storage.read(second)
    assert data is not None
    store.storage.write(first, data)
    return first


def two_of_each(store: StudyStore) -> None:
    for number in (1, 2):
        store.record_test_evaluation(reason="end of the sweep", keys=[f"k{number}"])
        store.save_invocation(Invocation(id=f"2026010100000{number}-abcd", fence=number))
        store.save_spending(f"2026010100000{number}-abcd", {"seconds": number})
        store.save_draw(f"6-shot_seed{number}", {"dataset": "d", "seed": number})


@pytest.mark.parametrize("folder", ["looks", "invocations", "spending", "draws"])
def test_a_record_with_the_content_of_another_is_named_and_does_not_count(
    tmp_path: Path, folder: str
) -> None:
    store = StudyStore(tmp_path, "unit")
    two_of_each(store)
    reads = SimpleNamespace(
        looks=store.load_test_evaluations,
        invocations=store.load_invocations,
        spending=store.load_spending,
        draws=lambda: [d for n in (1, 2) if (d := store.load_draw(f"6-shot_seed{n}"))],
    )
    assert len(getattr(reads, folder)()) == 2 and store.damaged == []
    path = swap(store, folder)
    assert len(getattr(reads, folder)()) == 1
    assert len(store.damaged) == 1 and path in store.damaged[0] and "it is the record of" in store.damaged[0]


def test_evaluations_recorded_before_they_had_a_name_are_read_and_a_swap_shows_by_their_time(
    tmp_path: Path,
) -> None:
    store = StudyStore(tmp_path, "unit")
    for second in (1, 2):
        look = {
            "time": f"2026-01-01T00:00:0{second}.000000+00:00",
            "reason": "",
            "keys": [],
            "invocation": "",
        }
        store.storage.write(f"studies/unit/looks/2026010100000{second}000000-abcdef.json", encode(look))
    assert len(store.load_test_evaluations()) == 2 and store.damaged == []
    path = swap(store, "looks")
    assert len(store.load_test_evaluations()) == 1 and path in store.damaged[0]


def test_what_mlflow_was_told_does_not_count_for_another_row_or_driver(tmp_path: Path) -> None:
    store = StudyStore(tmp_path, "unit")
    told = ToldStore(store.storage, "unit")
    told.save_scored("trial/1", ["a"])
    told.save_scored("trial/2", ["b"])
    assert set(told.scored() or {}) == {"trial/1", "trial/2"}
    path = swap(store, "told/scored")
    assert len(told.scored() or {}) == 1 and path in told.damaged[0]
    told.begin(1)
    told.complete(1)
    told.begin(2)
    assert not told.is_complete()
    data = store.storage.read("studies/unit/told/fences/1.json")
    assert data is not None
    store.storage.write("studies/unit/told/fences/2.json", data)
    assert not told.is_complete(), "what the first driver told says nothing of the second"
