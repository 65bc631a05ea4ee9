"""The audit of a race: its terms against the search, its course against the cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.auditing.finding import Finding
from orchestrator.auditing.race import audit_race
from orchestrator.ledger import StudyStore
from orchestrator.statistics.race import Race
from orchestrator.statistics.race_records import COURSE, TERMS, Terms, course_of, standing

SEARCHED = {0: {"1": 1 / 3, "2": 5 / 12}}


@pytest.fixture
def race(first_records: Path) -> StudyStore:
    store = StudyStore(first_records / "runs", "drawn-race-0-1")
    store.save_study({"name": "drawn-race-0-1"})
    return store


def terms(**changes: Any) -> Terms:
    given: dict[str, Any] = {
        "study": "drawn",
        "finalists": (0, 1),
        "search": SEARCHED,
        "splits": ("2-shot",),
        "seeds": ("7", "8"),
        "alpha": 0.05,
        "within": None,
        "budget": 10,
        "noise": None,
    }
    return Terms(**{**given, **changes})


def findings(store: StudyStore) -> list[Finding]:
    return list(audit_race(store, [], {}))


def test_a_study_that_is_no_race_has_nothing_to_check(first_records: Path) -> None:
    assert findings(StudyStore(first_records / "runs", "drawn")) == []


def test_values_taken_from_the_search_follow_from_its_predictions(race: StudyStore) -> None:
    race.save_race(TERMS, terms().to_dict(), fence=0)
    assert findings(race) == []
    race.save_race(TERMS, terms(search={0: {"1": 0.9, "2": 5 / 12}}).to_dict(), fence=0)
    (found,) = findings(race)
    assert (found.number, found.stored, found.recomputed) == ("search.0.1", 0.9, pytest.approx(1 / 3))


def test_a_search_that_is_gone_is_a_warning(race: StudyStore) -> None:
    race.save_race(TERMS, terms(study="elsewhere").to_dict(), fence=0)
    (found,) = findings(race)
    assert found.severity == "warning" and "elsewhere" in found.problem


def test_decisions_follow_from_the_cells(race: StudyStore) -> None:
    own = terms()
    stands: Race = standing(own, {}, {})
    course = course_of(own, stands, {}, {})
    race.save_race(TERMS, own.to_dict(), fence=0)
    race.save_race(COURSE, course, fence=0)
    assert findings(race) == []
    race.save_race(COURSE, {**course, "standing": [1], "seeds": ["7"]}, fence=0)
    assert {found.number for found in findings(race)} == {"seeds", "standing"}
    course["finalists"][0]["fell"] = {"seed": "7", "after": 1, "evidence": 30.0, "against": 1}
    race.save_race(COURSE, course, fence=0)
    assert [found.number for found in findings(race)] == ["falls"]
