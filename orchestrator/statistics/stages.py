"""The stages of a trial that is trained at some of its seeds first, as its record has them.

A trial in stages keeps in ``attributes`` how many seeds are in work (``seeds``) and what the stages behind it
reached (``stages``: per stage ``{seeds, epochs}``, epochs as in the record); ``epochs`` and ``cells`` of the
record are those of the latest stage. ``stopped_at`` says where and by what it was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.ledger import TrialRecord

SEEDS, STAGES, STOPPED = "seeds", "stages", "stopped_at"
"""Names of attributes."""


def seeds_in_work(record: TrialRecord, seeds: int) -> int:
    """Seeds that the latest stage of a trial has, of the study's ``seeds``."""
    return int(record.attributes.get(SEEDS, seeds))


def go_on(record: TrialRecord, seeds: int, further: int) -> None:
    """Begin the stage of a trial that has ``further`` seeds, after one that had ``seeds``."""
    stages = [*record.attributes.get(STAGES, ()), {"seeds": seeds, "epochs": record.epochs}]
    record.attributes |= {STAGES: stages, SEEDS: further}
    record.epochs = []


def reached(record: TrialRecord, seeds: int) -> Iterator[tuple[int, list[float]]]:
    """Epochs that a trial has reached, stage by stage, with its values by seed.

    Args:
        record: of the trial.
        seeds: of the study.
    """
    latest = {"seeds": seeds_in_work(record, seeds), "epochs": record.epochs}
    for stage in (*record.attributes.get(STAGES, ()), latest):
        for epoch in stage["epochs"]:
            yield epoch["epoch"], by_seed(epoch, stage["seeds"])


def stopped_where(trials: Iterable[TrialRecord], seeds: int) -> dict[str, int]:
    """Count the trials that were stopped early by where that was, in words; those of a user are left out."""
    found: dict[str, int] = {}
    for trial in trials:
        if trial.state == "pruned" and trial.attributes.get("stopped_by") != "user":
            where = stopped_in_words(trial, seeds)
            found[where] = found.get(where, 0) + 1
    return found


def stopped_in_words(trial: TrialRecord, seeds: int) -> str:
    """Say where a trial was stopped: ``after 1 of 3 seeds``, ``after epoch 3``."""
    at = trial.attributes.get(STOPPED) or {}
    epoch = at.get("epoch", trial.epochs[-1]["epoch"] if trial.epochs else 0)
    had = at.get("seeds", seeds_in_work(trial, seeds))
    if had == seeds:
        return f"after epoch {epoch}"
    last = trial.point.get("recipe", {}).get("epochs")
    at_epoch = "" if epoch == last else f", in epoch {epoch}"
    return f"after {had} of {seeds} seeds{at_epoch}"


def by_seed(epoch: Mapping[str, Any], seeds: int) -> list[float]:
    """A value per seed: the mean over splits; NaN where one is missing.

    Args:
        epoch: of a record; its values are by split first, then by seed.
        seeds: of each split.
    """
    values: Sequence[float | None] = epoch.get("values") or ()
    found = [math.nan if value is None else value for value in values]
    if not found or len(found) % seeds:
        return [math.nan] * seeds
    return [math.fsum(found[seed::seeds]) * seeds / len(found) for seed in range(seeds)]
