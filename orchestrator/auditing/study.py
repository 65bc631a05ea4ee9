"""All records of a study, and of the studies that confirm it, checked against the predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mmap_model.errors import InputError
from orchestrator.auditing.cell import AuditedCell, audit_cell
from orchestrator.auditing.finding import Finding
from orchestrator.auditing.images import audit_images, draw_name
from orchestrator.auditing.order import audit_ranks, audit_test_evaluations, winner
from orchestrator.auditing.probes import Probes
from orchestrator.auditing.race import audit_race
from orchestrator.auditing.row import AuditedRow, audit_row
from orchestrator.ledger import Storage, StudyStore, TrialRecord
from orchestrator.statistics.objectives import Aim

CONFIRMING = ("-seeds-", "-race-")
"""What follows the name of a study in those of the studies that confirm it."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found.

    Attributes:
        study: its name.
        winner: number of the trial that is first by its predictions on validation images; None without one.
        cells, rows: how many were checked.
        findings: what does not follow, errors first.
    """

    study: str
    winner: int | None
    cells: int
    rows: int
    findings: tuple[Finding, ...] = field(default=())

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "warning"]

    def holds(self, strict: bool) -> bool:
        """Whether nothing is wrong; with ``strict`` warnings count."""
        return not (self.findings if strict else self.errors)

    def to_dict(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "winner": self.winner,
            "cells": self.cells,
            "rows": self.rows,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def confirming(storage: Storage, study: str) -> list[str]:
    """Names of the studies that confirm one: its finalists on further seeds."""
    return [
        name
        for name in storage.names("studies")
        if any(name.startswith(f"{study}{mark}") for mark in CONFIRMING)
    ]


def audit_study(storage: Storage, name: str, tell: Callable[[str], None] = lambda _: None) -> Audit:
    """Check one study; reads everything and changes nothing.

    Args:
        storage: of its records.
        name: of the study.
        tell: told what is being read.

    Raises:
        InputError: there is no such study.
    """
    store = StudyStore(storage, name)
    study = store.load_study()
    if study is None:
        known = ", ".join(storage.names("studies")) or "none"
        raise InputError(
            f"there is no study {name!r} in {storage.locate('')}",
            where="STUDY",
            fix=f"check --storage and the name; studies there: {known}",
        )
    trials, others = _rows(store)
    rows = [*trials, *others]
    cells: dict[str, AuditedCell] = {}
    keys = list(dict.fromkeys(key for row in rows for key in row.record.keys))
    for number, key in enumerate(keys):
        tell(f"cell {number + 1} of {len(keys)}")
        cells[key] = audit_cell(storage, key)
    findings = [
        *(Finding(record=f"studies/{name}", problem=line) for line in store.damaged),
        *_cells(store, cells),
        *_rows_of(rows, cells, storage, Aim.of_study(study)),
        *audit_ranks(trials, cells),
        *audit_race(store, trials, cells),
        *audit_test_evaluations(name, trials, cells, _test_evaluations(storage)),
    ]
    return Audit(
        study=name,
        winner=winner(trials, cells),
        cells=sum(cell.record is not None for cell in cells.values()),
        rows=len(rows),
        findings=tuple(sorted(findings, key=lambda finding: finding.severity != "error")),
    )


def _rows(store: StudyStore) -> tuple[list[AuditedRow], list[AuditedRow]]:
    """Trials; reference rows and rows of a comparison."""
    folder = f"studies/{store.name}"
    trials = [
        AuditedRow(name=f"trial {t.number}", path=f"{folder}/trials/{t.number}", record=t)
        for t in store.load_trials()
    ]
    others = [
        AuditedRow(
            name=f"reference row {name}",
            path=f"{folder}/baselines/{name}",
            record=TrialRecord.from_dict({"number": -1, **row}),
        )
        for name, row in store.load_baselines().items()
    ]
    others += [
        AuditedRow(name=f"row {key}", path=f"{folder}/rows/{key}", record=row)
        for key, row in store.load_rows().items()
    ]
    return trials, others


def _cells(store: StudyStore, cells: dict[str, AuditedCell]) -> Iterator[Finding]:
    draws: dict[str, dict[str, Any] | None] = {}
    for cell in cells.values():
        yield from cell.findings
        name = draw_name(cell)
        if name is not None and name not in draws:
            draws[name] = store.load_draw(name)
        yield from audit_images(cell, draws.get(name or ""))


def _rows_of(
    rows: list[AuditedRow], cells: dict[str, AuditedCell], storage: Storage, aim: Aim
) -> Iterator[Finding]:
    probes = Probes(storage)
    for row in rows:
        own = aim if row.name.startswith("trial") else Aim()
        yield from audit_row(row, cells, own)
        yield from probes.audit(row, cells)


def _test_evaluations(storage: Storage) -> dict[str, list[dict[str, Any]]]:
    return {name: StudyStore(storage, name).load_test_evaluations() for name in storage.names("studies")}
