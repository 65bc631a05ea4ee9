"""A race: do its terms follow from the search that it confirms, and its decisions from the predictions?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.auditing.cell import audit_cell
from orchestrator.auditing.finding import Finding, differs
from orchestrator.auditing.metrics import same
from orchestrator.auditing.row import AuditedRow, Cells
from orchestrator.ledger import CorruptError, StudyStore
from orchestrator.statistics.race_records import COURSE, course_of, load_terms, standing
from orchestrator.statistics.summary import seed_means

DECIDED = ("seeds", "cells", "end", "standing")
"""What the course of a race says of its decisions."""


def audit_race(store: StudyStore, trials: Sequence[AuditedRow], cells: Cells) -> Iterator[Finding]:
    """What is wrong with the race that a study is; nothing if it is none.

    Args:
        store: of the study.
        trials: its finalists.
        cells: audited, by key.
    """
    path = f"studies/{store.name}/race"
    try:
        terms = load_terms(store)
    except CorruptError as error:
        yield Finding(record=f"{path}/terms", problem=str(error))
        return
    if terms is None:
        return
    yield from _terms(StudyStore(store.storage, terms.study), terms.search, f"{path}/terms")
    by_number = {row.record.number: row.record for row in trials}
    records = {
        key: {**cell.record, "metrics": cell.validation}
        for key, cell in cells.items()
        if cell.record is not None and cell.validation is not None
    }
    found = course_of(terms, standing(terms, by_number, records), by_number, records)
    stored = store.load_race(COURSE)
    if stored is None:
        return
    known = [line["seed"] for line in _falls(stored)]
    for name in DECIDED:
        if name in stored and stored[name] != found[name]:
            yield differs(f"{path}/course", name, stored[name], found[name])
    if known != [line["seed"] for line in _falls(found)]:
        yield differs(f"{path}/course", "falls", known, [line["seed"] for line in _falls(found)])
    for was, now in zip(stored.get("finalists", ()), found["finalists"], strict=False):
        for part in ("search", "fresh"):
            mean, again = ((each.get(part) or {}).get("mean") for each in (was, now))
            if not same(mean, again):
                yield differs(f"{path}/course", f"finalists.{now['number']}.{part}.mean", mean, again)


def _terms(search: StudyStore, recorded: Mapping[int, Mapping[str, float]], path: str) -> Iterator[Finding]:
    """The values that the race took from the search, against the predictions of its cells."""
    trials = {trial.number: trial for trial in search.load_trials()}
    for number, values in recorded.items():
        if number not in trials:
            problem = f"trial {number} of study {search.name} cannot be checked: there is no such record"
            yield Finding(severity="warning", record=path, problem=problem)
            continue
        found = {
            (c["split"], c["seed"]): audit_cell(search.storage, c["key"]).accuracy
            for c in trials[number].cells
        }
        means = seed_means({place: value for place, value in found.items() if value is not None})
        for seed, value in values.items():
            if seed in means and not same(value, means[seed]):
                yield differs(path, f"search.{number}.{seed}", value, means[seed])


def _falls(course: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [line["fell"] for line in course.get("finalists", ()) if line.get("fell")]
