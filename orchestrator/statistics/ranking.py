"""What a study found, from its records alone: readable on any machine, without torch, Ray or MLflow.

A row's numbers come from the records of its cells. A complete trial of which a cell can no longer be read has
no mean: a missing replicate never raises one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmap_model.errors import InputError
from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.statistics.epochs import latest_scored
from orchestrator.statistics.estimates import estimate_rows
from orchestrator.statistics.mixed import mixed_origins
from orchestrator.statistics.pace import pace
from orchestrator.statistics.race_records import describe_race
from orchestrator.statistics.significance import Candidate, Significance, compare_with_best
from orchestrator.statistics.spending import budgets, spent_before
from orchestrator.statistics.stability import stability
from orchestrator.statistics.summary import (
    delta_m,
    objective,
    paired_difference,
    seed_means,
    summarize,
    worst_task_gain,
)

Records = Mapping[str, Mapping[str, Any]]

REFERENCE = "zero_shot"
"""The row that gains are measured against."""

OWN_START = "zero_step"
"""The best trial's configuration before its first step."""


def build_results(store: StudyStore, ledger: Ledger) -> dict[str, Any]:
    """The result object of a study, JSON-able; ``orchestrator results --json`` prints it.

    ``study``, ``storage``, ``winner`` (number of the first-ranked trial or None), ``trials`` (ranked:
    complete ones by validation mean, then the others by number), ``baselines``, ``comparison``, ``cells``
    ``{finished, failed, trained_now}``, ``timing`` of the last invocation, ``budgets`` (see ``.spending``),
    ``looks``, ``extended_after_look``, ``race`` (None but for a race, see ``.race_records``),
    ``transfers`` (what ``orchestrator transfer`` found, oldest first), ``damaged`` (one line per record),
    ``mixed`` (one line per origin of rows that do not compare, see ``.mixed``),
    ``damaged_trials`` (their numbers), ``late`` (records that count for nothing, see
    ``orchestrator.ledger.fences``). A trial is ``{number, state, config, point, parameters, share, val, test,
    per_split, tasks, cells, separable_from_best, difference_from_best, gain, device_seconds, last_epoch,
    error, failure, could_be_best, estimate, measurements}``; ``val``, ``test`` and differences are
    ``{mean, std, n, low, high}``, fractions of 1, over seeds. ``separable_from_best`` is True for trials that
    are significantly worse than rank 1 and False for those that are not significantly different from it,
    corrected for the selection of rank 1 among all complete trials; None for rank 1 itself, for trials that
    are not compared, and for reference rows. ``comparison`` has what this rests on, ``{confidence, rows,
    unit, blocks, s, nu, q, threshold, cochran_level, apart, incomplete, same_cells, reason}`` (see
    ``orchestrator.statistics.significance``; trials by number).

    ``could_be_best`` is False for trials that are ruled out as the best of all complete ones, by Dunnett's
    one-sided test. ``estimate`` is ``{mean, n, shrunk, error, low, high, best}`` of ``.shrinkage``: what is
    left of the mean once selection is accounted for, and the probability of being the best; ``estimation``
    has what it rests on, ``{noise, spread, reason}``. ``stability`` is ``{winner, without}``: which trial
    would be first without each seed; None of one seed. ``measurements`` are lists of
    ``{split, seed, cell, val, test}``. ``pace`` is ``{cells, trials}`` per hour of all runs so far, None
    where their times are not on record.

    Intervals of ``difference_from_best`` and ``gain`` are paired t-intervals of the pair alone; on
    validation they are not corrected for selection. ``test_gains`` are the winner's paired differences to
    the reference rows on the test images, by which nothing was selected: planned comparisons, whose
    t-intervals need no correction.

    Raises:
        InputError: the storage holds no such study.
    """
    if not store.exists():
        known = ", ".join(store.storage.names("studies")) or "none"
        raise InputError(
            f"there is no study {store.name!r} in {store.storage.locate('')}",
            where="study",
            fix=f"check --storage and the name; studies there: {known}",
        )
    trials, baselines, evaluations = (
        store.load_trials(),
        store.load_baselines(),
        store.load_test_evaluations(),
    )
    by_name = {name: TrialRecord.from_dict({"number": -1, **row}) for name, row in baselines.items()}
    keys = [key for trial in [*trials, *by_name.values()] for key in trial.keys]
    records = ledger.get_many(keys)
    tests = ledger.tests(key for evaluation in evaluations for key in evaluation["keys"])
    reference = MeasuredRow(by_name[REFERENCE], records, tests) if REFERENCE in by_name else None
    rows = ranked_rows(trials, records, tests)
    best = rows[0] if rows and rows[0].competes else None
    found = significance(rows)
    estimated = estimate_rows(rows, found)
    steady = stability(rows)
    failures = ledger.failures(key for key in keys if key not in records)
    invocations = store.load_invocations()
    last = invocations[-1] if invocations else Invocation()
    return {
        "study": store.name,
        "storage": store.storage.locate(""),
        "winner": None if best is None else best.trial.number,
        "test_gains": {} if best is None else _test_gains(best, by_name, records, tests),
        "trials": [
            {
                **row.to_dict(best, reference, found.worse.get(row.trial.number)),
                "could_be_best": found.possible.get(row.trial.number),
                "estimate": estimated.of(row.trial.number),
                "measurements": row.measurements,
            }
            for row in rows
        ],
        "comparison": found.to_dict(),
        "estimation": estimated.to_dict(),
        "stability": None if steady is None else steady.to_dict(),
        "baselines": [
            {"name": name, **MeasuredRow(trial, records, tests).to_dict(best, None, None)}
            for name, trial in sorted(by_name.items(), key=lambda pair: (pair[0] != REFERENCE, pair[0]))
        ],
        "cells": {"finished": len(records), "failed": len(failures), "trained_now": len(last.trained)},
        "timing": last.timing,
        "pace": pace(invocations, trials),
        "budgets": budgets(store.load_study() or {}, len(trials), spent_before(store)),
        "device_seconds": sum(trial.device_seconds for trial in [*trials, *by_name.values()]),
        "looks": evaluations,
        "extended_after_look": _extended(trials, evaluations),
        "race": describe_race(store, ledger, trials),
        "transfers": store.load_transfers(),
        "mixed": mixed_origins(_measured(rows, by_name), records),
        "damaged": [*store.damaged, *ledger.damaged],
        "damaged_trials": sorted(store.unreadable),
        "late": store.late,
    }


def _measured(
    rows: Sequence[MeasuredRow], baselines: Mapping[str, TrialRecord]
) -> Iterator[tuple[str, list[str]]]:
    """Complete trials and the reference rows, as they are called, with their cells."""
    for row in rows:
        if row.seeds:
            yield f"trial {row.trial.number}", row.trial.keys
    for name, trial in baselines.items():
        yield f"reference row {name}", trial.keys


def ranked_rows(trials: Iterable[TrialRecord], records: Records, tests: Records) -> list[MeasuredRow]:
    """Trials with the numbers of their cells, the best first."""
    return sorted((MeasuredRow(trial, records, tests) for trial in trials), key=lambda row: row.rank)


def significance(rows: Sequence[MeasuredRow]) -> Significance:
    """What can be said of the complete trials of a ranking beside its first, by trial number."""
    complete = [row for row in rows if row.competes]
    blocks = [b for b in complete[0].values if all(b in row.values for row in complete)] if complete else []
    candidates = [
        Candidate(
            name=row.trial.number,
            values=row.values,
            cells={(cell["split"], cell["seed"]): cell["key"] for cell in row.trial.cells},
        )
        for row in complete
    ]
    return compare_with_best(candidates, blocks, seed_of=lambda block: block[1])


class MeasuredRow:
    """A trial or reference row and the numbers of its cells."""

    def __init__(self, trial: TrialRecord, records: Records, tests: Records) -> None:
        self.trial = trial
        cells = trial.cells
        values = {(c["split"], c["seed"]): _accuracy(records.get(c["key"])) for c in cells}
        ended = trial.state == "complete" and all(key in records for key in trial.keys)
        measured = ended and objective(values) is not None
        self.values = {pair: v for pair, v in values.items() if v is not None} if measured else {}
        self.seeds = seed_means(self.values)
        self.scores = {(c["split"], c["seed"]): _accuracy(tests.get(c["key"])) for c in cells}
        tested = {pair: v for pair, v in self.scores.items() if v is not None}
        self.test_seeds = seed_means(tested) if ended and len(tested) == len(cells) else {}
        self.tasks = _by_task(cells, records) if ended else {}

    @property
    def rank(self) -> tuple[bool, bool, float, int, int]:
        """Sorts the best first: complete, within constraints, highest mean, fewest parameters, earliest."""
        mean = summarize(list(self.seeds.values())).mean if self.seeds else 0.0
        outside = bool(self.trial.violated)
        return not self.seeds, outside, -mean, self.trial.parameters or 0, self.trial.number

    @property
    def competes(self) -> bool:
        """Whether it can be the winner: it is complete and violates no constraint of the study."""
        return bool(self.seeds) and not self.trial.violated

    @property
    def measurements(self) -> list[dict[str, Any]]:
        """Its cells with their accuracies on validation and test images, where they count."""
        return [
            {
                "split": cell["split"],
                "seed": cell["seed"],
                "cell": cell["key"],
                "val": self.values.get((cell["split"], cell["seed"])),
                "test": self.scores.get((cell["split"], cell["seed"])),
            }
            for cell in self.trial.cells
        ]

    def to_dict(
        self, best: MeasuredRow | None, reference: MeasuredRow | None, worse: bool | None
    ) -> dict[str, Any]:
        """The row of ``build_results``; ``worse`` says whether it is significantly worse than ``best``."""
        trial = self.trial
        compared = best is not None and best is not self and bool(self.seeds)
        assert best is not None or not compared, "a row is compared with the best"
        difference = paired_difference(self.seeds, best.seeds) if compared and best else None
        return {
            "number": trial.number,
            "state": trial.state,
            "config": flat_config(trial.point),
            "point": trial.point,
            "parameters": trial.parameters,
            "share": trial.share,
            "val": _summary(self.seeds),
            "test": _summary(self.test_seeds),
            "per_split": self._per_split(),
            "tasks": {task: _summary(seeds) for task, seeds in self.tasks.items()},
            "cells": trial.keys,
            "separable_from_best": worse,
            "difference_from_best": None if difference is None else difference.to_dict(),
            "gain": self._gain(reference) if reference else None,
            "device_seconds": trial.device_seconds,
            "last_epoch": latest_scored(trial.epochs),
            "error": trial.error,
            "failure": trial.attributes.get("failure") if trial.state == "failed" else None,
            "violated": trial.violated,
        }

    def _per_split(self) -> dict[str, Any]:
        splits = dict.fromkeys(split for split, _ in self.values)
        return {
            split: _summary({s: v for (p, s), v in self.values.items() if p == split}) for split in splits
        }

    def _gain(self, reference: MeasuredRow) -> dict[str, Any] | None:
        """Paired gain over the reference, Δm in per cent, and the task that gains least; descriptive."""
        difference = paired_difference(self.seeds, reference.seeds)
        if difference is None or self.tasks.keys() != reference.tasks.keys():
            return None
        mine = {task: summarize(list(seeds.values())).mean for task, seeds in self.tasks.items()}
        theirs = {task: summarize(list(seeds.values())).mean for task, seeds in reference.tasks.items()}
        task, gain = worst_task_gain(mine, theirs)
        relative = delta_m(mine, theirs) if all(value > 0 for value in theirs.values()) else None
        return {
            "over": REFERENCE,
            **difference.to_dict(),
            "delta_m": relative,
            "worst_task": task,
            "worst_task_gain": gain,
        }


def _test_gains(
    best: MeasuredRow, baselines: Mapping[str, TrialRecord], records: Records, tests: Records
) -> dict[str, Any]:
    """The best trial's paired gain over each reference row on the test images, by the row's name.

    The zero-step row counts only where it belongs to this trial.
    """
    gains = {}
    for name, trial in baselines.items():
        if name == OWN_START and trial.point != best.trial.point:
            continue
        difference = paired_difference(best.test_seeds, MeasuredRow(trial, records, tests).test_seeds)
        if difference is not None:
            gains[name] = difference.to_dict()
    return gains


def flat_config(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point's settings under their own names: ``{method, prompt_length, lr, …}``; ``probe.`` stays."""
    flat: dict[str, Any] = {"method": point.get("method")}
    for part in ("settings", "grouping", "recipe"):
        for name, value in (point.get(part) or {}).items():
            if not isinstance(value, Mapping):
                flat[name] = value
    probe = (point.get("grouping") or {}).get("probe") or {}
    for name, value in probe.items():
        if isinstance(value, Mapping):
            flat.update({f"probe.{name}.{inner}": v for inner, v in value.items()})
        else:
            flat[f"probe.{name}"] = value
    return flat


def _by_task(cells: Sequence[Mapping[str, Any]], records: Records) -> dict[str, dict[Any, float]]:
    """Per task, one value per seed: the mean over splits. Without validation images there is none."""
    values: dict[str, dict[tuple[Any, Any], float]] = {}
    for cell in cells:
        for task, numbers in (records[cell["key"]]["metrics"].get("tasks") or {}).items():
            if numbers.get("accuracy") is not None:
                values.setdefault(task, {})[cell["split"], cell["seed"]] = float(numbers["accuracy"])
    return {task: seed_means(pairs) for task, pairs in values.items()}


def _accuracy(record: Mapping[str, Any] | None) -> float | None:
    value = None if record is None else record["metrics"].get("accuracy")
    return None if value is None else float(value)


def _summary(seeds: Mapping[Any, float]) -> dict[str, Any] | None:
    return summarize(list(seeds.values())).to_dict() if seeds else None


def _extended(trials: Sequence[TrialRecord], evaluations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether trials were added after the test images had been looked at."""
    first = min((evaluation["time"] for evaluation in evaluations), default=None)
    return first is not None and any(trial.created_at > first for trial in trials)
