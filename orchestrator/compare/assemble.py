"""From the records of a comparison to what its report shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mmap_model.cells import Configuration
from mmap_model.configuration import Partition, Split
from mmap_model.grouping import probe_configuration
from mmap_model.plain import to_plain
from orchestrator.compare.columns import RANDOM, ColumnSpec
from orchestrator.compare.comparison import (
    Affinity,
    Column,
    ColumnResult,
    Comparison,
    RateTrial,
    RecipeChoice,
)
from orchestrator.compare.failed_starts import count_failed_starts
from orchestrator.compare.plan import RECIPES, ComparePlan, PlannedRow
from orchestrator.compare.rates import best_rate, is_settled, tried_rows
from orchestrator.compare.remaining import chosen_rows
from orchestrator.compare.spacing import edge
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.study import COMPARISON

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
        entries = count_failed_starts(entry for found in self._entries() for entry in found)
        entries += self._random(entries)
        invocations = self._store.load_invocations()
        return Comparison(
            name=study.name.removeprefix(COMPARISON),
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
            around=self._plan.around,
            columns=tuple(self._columns(entries)),
            entries=tuple(entries),
            affinities=tuple(self._affinities()),
            looks=tuple(self._store.load_test_evaluations()),
            provenance=invocations[-1].provenance if invocations else {},
            commands=tuple(dict.fromkeys(i.command for i in invocations if i.command)),
        )

    def _columns(self, entries: Iterable[ColumnResult]) -> Iterable[Column]:
        counted: dict[str, int] = {}
        rows = [*self._plan.fixed(), *chosen_rows(self._plan, self._rows)]
        for spec in self._plan.columns:
            for row in rows:
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

    def _entries(self) -> Iterable[list[ColumnResult]]:
        for split in self._plan.base.study.splits:
            for spec in self._plan.columns:
                recipes = self._plan.recipes
                if self._plan.trains(spec.name):
                    found = [self._entry(spec, self._plan.row(spec.name, split, r), r) for r in recipes]
                    yield [*found, *self._tuned(spec, split)]
                    continue
                # Nothing is trained: the same numbers stand in all tables.
                only = self._entry(spec, self._plan.row(spec.name, split, "shared"), "shared")
                tuned: tuple[RecipeChoice, ...] = ("tuned",) if self._plan.tunes else ()
                yield [replace(only, recipe=recipe) for recipe in (*recipes, *tuned)]

    def _tuned(self, spec: ColumnSpec, split: Split) -> Iterable[ColumnResult]:
        """The entry of the chosen rate, with all that were tried."""
        plan, rows = self._plan, tried_rows(self._plan, self._rows, spec.name, split)
        if not rows:
            return
        trials = tuple(self._tried(row) for row in rows)
        rate = best_rate(plan, self._rows, spec.name, split)
        if rate is None or (plan.around is not None and not is_settled(plan, self._rows, spec.name, split)):
            failed = next((t.error for t in trials if t.error), "no rate has been tried to the end")
            yield replace(_empty(spec, rows[0], "tuned", failed), trials=trials)
            return
        tuned = self._entry(spec, plan.chosen(spec.name, split, rate), "tuned")
        others = [row for row in rows if row.lr != rate]
        seconds = math.fsum(self._seconds_of(row) for row in others)
        at = edge([trial.lr for trial in trials], rate)
        yield replace(tuned, trials=trials, edge=at, search_seconds=seconds)

    def _entry(self, spec: ColumnSpec, row: PlannedRow, recipe: RecipeChoice) -> ColumnResult:
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
        return ColumnResult(
            column=spec.name,
            split=row.split.label,
            recipe=recipe,
            lr=row.lr,
            **_trained_by(row),
            calibration={
                seed: float(error)
                for seed, key in cells.items()
                if (error := self._tests[key]["metrics"].get("ece")) is not None
            },
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

    def _seconds_of(self, row: PlannedRow) -> float:
        record = self._rows.get(row.key)
        keys = () if record is None else record.keys
        return math.fsum(_seconds(self._records[key]) for key in keys if key in self._records)

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
        seen: set[tuple[str, str]] = set()
        for row in (*self._plan.fixed(), *chosen_rows(self._plan, self._rows)):
            record = self._rows.get(row.key)
            if row.column != FRAMEWORK or record is None:
                continue
            for cell in record.cells:
                found = self._records.get(cell["key"], {}).get("grouping") or {}
                where = (cell["split"], cell["seed"])
                if found.get("similarity") is not None and where not in seen:
                    seen.add(where)
                    yield _affinity(cell, found)

    def _random(self, entries: Iterable[ColumnResult]) -> Iterable[ColumnResult]:
        """Per seed the mean over the pairings that the gradients did not choose (methods of Table 3)."""
        known = {(entry.column, entry.split, entry.recipe): entry for entry in entries if entry.tasks}
        pairings = {spec.name: spec.partition for spec in self._plan.columns if spec.partition is not None}
        for split in (s.label for s in self._plan.base.study.splits):
            for recipe in RECIPES:
                framework = known.get((FRAMEWORK, split, recipe))
                others = {name: known.get((name, split, recipe)) for name in pairings}
                if framework is None or len(others) < 2 or None in others.values():
                    continue
                yield _average(framework, {n: e for n, e in others.items() if e is not None}, pairings)


def _average(
    framework: ColumnResult, others: Mapping[str, ColumnResult], pairings: Mapping[str, Partition | None]
) -> ColumnResult:
    def rest(task: str, seed: str) -> list[float]:
        """Without the pairing that was chosen, and without failed starts."""
        unchosen = [entry for n, entry in others.items() if pairings[n] != framework.partitions[seed]]
        return [entry.tasks[task][seed] for entry in unchosen if seed in entry.tasks[task]]

    tasks = {
        task: {seed: math.fsum(own) / len(own) for seed in seeds if (own := rest(task, seed))}
        for task, seeds in framework.tasks.items()
    }
    return ColumnResult(
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


def _trained_by(row: PlannedRow) -> dict[str, Any]:
    recipe = row.point.recipe
    if row.lr is None:
        return {"loss_reduction": recipe.loss_reduction}
    names = ("loss_reduction", "optimiser", "epochs", "batch_size")
    return {**{name: getattr(recipe, name) for name in names}, "steps": recipe.for_split(row.split).steps}


def _empty(spec: ColumnSpec, row: PlannedRow, recipe: RecipeChoice, error: str) -> ColumnResult:
    reduction = row.point.recipe.loss_reduction
    lr = None if recipe == "tuned" else row.lr
    return ColumnResult(
        column=spec.name, split=row.split.label, recipe=recipe, lr=lr, loss_reduction=reduction, error=error
    )


def _seconds(record: Mapping[str, Any]) -> float:
    return math.fsum((record.get("seconds") or {}).values())
