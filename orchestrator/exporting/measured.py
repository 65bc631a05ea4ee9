"""What is known of an exported cell: its own numbers and those over the seeds, apart, from the records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.statistics.summary import summarize

if TYPE_CHECKING:
    from orchestrator.exporting.winner import Winner

METRICS = ("accuracy", "nll", "ece", "macro_f1")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """On one part of the images.

    Attributes:
        part: ``validation`` or ``test``.
        metrics: of this cell, means over tasks: ``accuracy`` in 0 … 1, ``nll``, ``ece``, ``macro_f1``.
        tasks: accuracy of this cell by exported task.
        over_seeds: accuracy over the trial's seeds of this split: ``mean``, ``std`` (None of one seed) and
            ``n``; empty where not all of them were measured.
    """

    part: str
    metrics: Mapping[str, float]
    tasks: Mapping[str, float]
    over_seeds: Mapping[str, Any] = field(default_factory=dict)

    def named(self) -> dict[str, float]:
        """By name, as metrics of a run are called: ``test_accuracy``, ``test_accuracy_mean``, …"""
        found = {f"{self.part}_{name}": value for name, value in self.metrics.items()}
        found |= {f"{self.part}_accuracy/{task}": value for task, value in self.tasks.items()}
        names = {"mean": "accuracy_mean", "std": "accuracy_std", "n": "accuracy_n"}
        known = ((name, self.over_seeds.get(key)) for key, name in names.items())
        return found | {f"{self.part}_{name}": value for name, value in known if value is not None}


def measured(winner: Winner) -> list[Measured]:
    """Validation numbers, and test numbers if the study scored this cell; nothing is scored for it."""
    return [*_validation(winner), *_test(winner)]


def _validation(winner: Winner) -> Iterator[Measured]:
    metrics = winner.chosen.record["metrics"]
    if metrics.get("accuracy") is not None:
        yield _of("validation", winner, metrics, winner.chosen.over_seeds or {})


def _test(winner: Winner) -> Iterator[Measured]:
    store, chosen = winner.stored.store, winner.chosen
    evaluated = {key for one in store.load_test_evaluations() for key in one["keys"]}
    trial = next(trial for trial in store.load_trials() if trial.number == chosen.trial)
    cells = [cell["key"] for cell in trial.cells if cell["split"] == chosen.split]
    tests = winner.stored.ledger.tests(key for key in cells if key in evaluated)
    if chosen.key in tests:
        values = [float(test["metrics"]["accuracy"]) for test in tests.values()]
        over = summarize(values).to_dict() if len(values) == len(cells) else {}
        yield _of("test", winner, tests[chosen.key]["metrics"], over)


def _of(part: str, winner: Winner, metrics: Mapping[str, Any], over_seeds: Mapping[str, Any]) -> Measured:
    tasks = task_accuracies(metrics)
    return Measured(
        part=part,
        metrics={name: float(metrics[name]) for name in METRICS if metrics.get(name) is not None},
        tasks={name: tasks[name] for name in winner.trained.task_names if name in tasks},
        over_seeds=over_seeds,
    )


def task_accuracies(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy by task, of those that have one."""
    tasks = (metrics.get("tasks") or {}).items()
    return {name: float(own["accuracy"]) for name, own in tasks if (own or {}).get("accuracy") is not None}


def validation_numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What an artefact says of its cell: ``accuracy``, ``nll``, ``ece``, ``macro_f1`` and ``tasks``.

    Empty where there are no validation images.

    Args:
        metrics: of the cell's record.
    """
    if metrics.get("accuracy") is None:
        return {}
    return {**{name: metrics.get(name) for name in METRICS}, "tasks": task_accuracies(metrics)}
