"""Trainings that failed from their start on: they are counted, and not averaged with those that worked.

A prompt that starts at random may begin far below the plain CLIP and never come back: CoOp's averages on
`symbols` were 60, 56 and 4 % for three seeds, and their mean says nothing of the method. What is left out is
decided on validation images alone, by a rule that was fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator.compare.comparison import ColumnResult

FAILED_SHARE = 0.5
"""A start failed if training ended below this share of zero-shot's validation accuracy at the same seed."""

REFERENCE = "zero_shot"
"""The column that starts are compared with; without it, or without validation images, none is counted."""


def count_failed_starts(entries: Iterable[ColumnResult]) -> list[ColumnResult]:
    """The entries, with the seeds whose start failed moved from ``tasks`` to ``failed_starts``.

    They count in no mean: nor in the calibration's.
    """
    entries = list(entries)
    plain = {entry.split: entry.validation for entry in entries if entry.column == REFERENCE}
    return [
        entry if entry.column == REFERENCE else _counted(entry, plain.get(entry.split, {}))
        for entry in entries
    ]


def _counted(entry: ColumnResult, plain: Mapping[str, float]) -> ColumnResult:
    failed = {
        seed
        for seed, accuracy in entry.validation.items()
        if seed in plain and accuracy < FAILED_SHARE * plain[seed]
    }
    if not failed or not entry.tasks:
        return entry
    starts = {seed: {task: own[seed] for task, own in entry.tasks.items()} for seed in sorted(failed)}
    kept = {
        task: {seed: accuracy for seed, accuracy in own.items() if seed not in failed}
        for task, own in entry.tasks.items()
    }
    everything = len(failed) == len(next(iter(entry.tasks.values())))
    return replace(
        entry,
        tasks={} if everything else kept,
        failed_starts=starts,
        calibration={seed: value for seed, value in entry.calibration.items() if seed not in failed},
        error="every start failed: training ended below half of zero-shot's validation accuracy"
        if everything
        else entry.error,
    )
