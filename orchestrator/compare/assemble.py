"""From the records of a comparison to what its report shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mmap_model.cells import Configuration
from mmap_model.configuration import Partition
from mmap_model.grouping import probe_configuration
from mmap_model.plain import to_plain
from orchestrator.compare.columns import RANDOM, ColumnSpec
from orchestrator.compare.comparison import Affinity, Column, Comparison, Edge, Entry, RateTrial, Recipe
from orchestrator.compare.plan import ComparePlan, PlannedRow
from orchestrator.compare.remaining import best_rate
from orchestrator.ledger import Ledger, StudyStore

FRAMEWORK = "mmap"
"""The column that ablations take apart."""

Records = Mapping[str, Mapping[str, Any]]


def assemble(plan: ComparePlan, store: StudyStore, ledger: Ledger) -> Comparison:
    """What is known of a comparison, finished or not. Reads only."""
    return _Assembly(plan, store, ledger).comparison()


class _Assembly:
    def __init__(self, plan: ComparePlan, store: StudyStore, ledger: Ledger) -> None:
        self._plan, self._store, self._ledger = plan, store, ledger
        self._rows = store.load_rows()
        keys = [key for row in self._rows.values() for key in row.keys]
        self._records: Records = ledger.get_many(keys)
        self._tests: Records = ledger.tests(keys)

    def comparison(self) -> Comparison:
        study, base = self._plan.base.study, self._plan.base
        entries = [entry for pair in self._entries() for entry in pair]
        entries += self._random(entries)
        invocations = self._store.load_invocations()
        return Comparison(
            name=study.name.removeprefix("compare-"),
            dataset=study.dataset.name,
            manifest=base.data.manifest,
            backbone=study.backbone.model,
            fingerprint=base.fingerprint,
            backbone_parameters=base.backbone_parameters,
            protocol=study.protocol,
            precision=study.precision,
            seeds=tuple(seeds.label for seeds in study.seeds),
            splits=tuple(split.label for split in study.splits),
            tasks=self._plan.tasks,
            label_budget=study.label_budget(),
            recipe=to_plain(study.recipe),
            rates=self._plan.rates,
            columns=tuple(self._columns(entries)),
            entries=tuple(entries),
            affinities=tuple(self._affinities()),
            looks=tuple(self._store.load_looks()),
            provenance=invocations[-1].provenance if invocations else {},
            commands=tuple(dict.fromkeys(i.command for i in invocations if i.command)),
        )

    def _columns(self, entries: Iterable[Entry]) -> Iterable[Column]:
        counted: dict[str, int] = {}
        for spec in self._plan.columns:
            for row in self._plan.shared():
                record = self._rows.get(row.key)
                if row.column == spec.name and record is not None and record.parameters is not None:
                    counted[spec.name] = max(counted.get(spec.name, 0), record.parameters)
            yield self._plan.column(spec, counted.get(spec.name))
        if any(entry.column == RANDOM and entry.derived_from for entry in entries):
            framework = next(spec for spec in self._plan.columns if spec.name == FRAMEWORK)
            column = self._plan.column(framework, counted.get(FRAMEWORK))
            yield replace(
                column,
                name=RANDOM,
                label="random grouping",
                section="ablation",
                grouping="random",
                printed=None,
            )

    def _entries(self) -> Iterable[tuple[Entry, ...]]:
        shared = {(row.column, row.split): row for row in self._plan.shared()}
        for split in self._plan.base.study.splits:
            for spec in self._plan.columns:
                row = shared[spec.name, split]
                found = [self._entry(spec, row, "shared")]
                rate = best_rate(self._plan, self._rows, spec.name, split)
                trials = tuple(self._tried(row) for row in self._plan.tried(spec.name, split))
                if rate is not None:
                    tuned = self._entry(spec, self._plan.chosen(spec.name, split, rate), "tuned")
                    found.append(replace(tuned, trials=trials, edge=self._edge(rate)))
                elif trials:
                    failed = next((t.error for t in trials if t.error), "no rate has been tried to the end")
                    found.append(replace(_empty(spec, row, "tuned", failed), trials=trials))
                elif self._plan.rates:  # nothing to tune: the same numbers stand in both tables
                    found.append(replace(found[0], recipe="tuned"))
                yield tuple(found)

    def _entry(self, spec: ColumnSpec, row: PlannedRow, recipe: Recipe) -> Entry:
        record = self._rows.get(row.key)
        if record is None:
            return _empty(spec, row, recipe, "not trained yet")
        if record.state != "complete":
            return _empty(spec, row, recipe, record.error or record.state)
        missing = [key for key in record.keys if key not in self._records]
        if missing:
            return _empty(
                spec, row, recipe, f"cell {missing[0][:12]} cannot be read; the same command trains it"
            )
        if any(key not in self._tests for key in record.keys):
            return _empty(spec, row, recipe, "not scored on the test images yet")
        cells = {cell["seed"]: cell["key"] for cell in record.cells}
        values = {seed: self._records[key]["metrics"].get("accuracy") for seed, key in cells.items()}
        return Entry(
            column=spec.name,
            split=row.split.label,
            recipe=recipe,
            lr=row.lr,
            loss_reduction=row.point.recipe.loss_reduction,
            tasks={
                task: {
                    seed: float(self._tests[key]["metrics"]["tasks"][task]["accuracy"])
                    for seed, key in cells.items()
                }
                for task in self._plan.tasks
            },
            validation={seed: float(value) for seed, value in values.items() if value is not None},
            seconds=math.fsum(_seconds(self._records[key]) for key in cells.values()),
            probe_seconds=self._probe_seconds(row),
            partitions={
                cell["seed"]: tuple(tuple(group) for group in cell["partition"])
                for cell in record.cells
                if cell["partition"] is not None
            },
            cells=cells,
        )

    def _tried(self, row: PlannedRow) -> RateTrial:
        assert row.lr is not None, "a tried row has a rate"
        record = self._rows.get(row.key)
        if record is None:
            return RateTrial(lr=row.lr, error="not trained yet")
        values = {
            cell["seed"]: self._records[cell["key"]]["metrics"].get("accuracy")
            for cell in record.cells
            if cell["key"] in self._records
        }
        found = {seed: float(value) for seed, value in values.items() if value is not None}
        return RateTrial(lr=row.lr, validation=found, error=record.error)

    def _edge(self, rate: float) -> Edge:
        ends: dict[float, Edge] = {self._plan.rates[0]: "low", self._plan.rates[-1]: "high"}
        return ends.get(rate)

    def _probe_seconds(self, row: PlannedRow) -> float:
        """Of the probes that the row's grouping needed, shared with other rows or not."""
        grouping = row.point.grouping
        if grouping is None or grouping.mode != "gradient":
            return 0.0
        keys = [self._probe(row, seeds) for seeds in row.seeds]
        return math.fsum(_seconds(record) for record in self._ledger.get_many(keys).values())

    def _probe(self, row: PlannedRow, seeds: Any) -> str:
        grouping, base = row.point.grouping, self._plan.base
        assert grouping is not None, "a gradient-grouped row has a grouping"
        configuration: Configuration = probe_configuration(grouping, row.point, tasks=len(self._plan.tasks))
        return base.cell(
            configuration, row.split, seeds, kind="probe", snapshot_every=grouping.probe.snapshot_every
        ).key

    def _affinities(self) -> Iterable[Affinity]:
        """Of the framework's own cells, once per split and seed."""
        for row in self._plan.shared():
            record = self._rows.get(row.key)
            if row.column != FRAMEWORK or record is None:
                continue
            for cell in record.cells:
                found = self._records.get(cell["key"], {}).get("grouping") or {}
                if found.get("similarity") is not None:
                    yield _affinity(cell, found)

    def _random(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        """Per seed the mean over the pairings that the gradients did not choose (methods of Table 3)."""
        known = {(entry.column, entry.split, entry.recipe): entry for entry in entries if entry.tasks}
        pairings = {spec.name: spec.partition for spec in self._plan.columns if spec.partition is not None}
        for split in (s.label for s in self._plan.base.study.splits):
            for recipe in ("shared", "tuned"):
                framework = known.get((FRAMEWORK, split, recipe))
                others = {name: known.get((name, split, recipe)) for name in pairings}
                if framework is None or len(others) < 2 or None in others.values():
                    continue
                yield _average(framework, {n: e for n, e in others.items() if e is not None}, pairings)


def _average(
    framework: Entry, others: Mapping[str, Entry], pairings: Mapping[str, Partition | None]
) -> Entry:
    def mean(task: str, seed: str) -> float:
        rest = [n for n in others if pairings[n] != framework.partitions[seed]]
        return math.fsum(others[n].tasks[task][seed] for n in rest) / len(rest)

    tasks = {task: {seed: mean(task, seed) for seed in seeds} for task, seeds in framework.tasks.items()}
    return Entry(
        column=RANDOM,
        split=framework.split,
        recipe=framework.recipe,
        loss_reduction=framework.loss_reduction,
        tasks=tasks,
        seconds=math.fsum(entry.seconds for entry in others.values()) / len(others),
        derived_from=tuple(others),
    )


def _affinity(cell: Mapping[str, Any], found: Mapping[str, Any]) -> Affinity:
    second = found.get("second")
    return Affinity(
        split=cell["split"],
        seed=cell["seed"],
        similarity=tuple(tuple(float(v) for v in row) for row in found["similarity"]),
        partition=tuple(tuple(group) for group in found["partition"]),
        second=None if second is None else tuple(tuple(group) for group in second),
        notes=tuple(found.get("notes") or ()),
        **{name: found.get(name) for name in ("score", "second_score", "margin", "agreement", "bootstrap")},
    )


def _empty(spec: ColumnSpec, row: PlannedRow, recipe: Recipe, error: str) -> Entry:
    reduction = row.point.recipe.loss_reduction
    lr = row.lr if recipe == "shared" else None
    return Entry(
        column=spec.name, split=row.split.label, recipe=recipe, lr=lr, loss_reduction=reduction, error=error
    )


def _seconds(record: Mapping[str, Any]) -> float:
    return math.fsum((record.get("seconds") or {}).values())
