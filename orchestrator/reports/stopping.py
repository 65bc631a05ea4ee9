"""What stopping trials early has saved in a study, and what it would have lost on the trials that finished.

Saved is what stopped trials were not trained for, of cells and of their epochs; in seconds at the rate of the
trials that were complete. What it may have cost cannot be known of trials that were stopped. So the rule is
replayed on the complete ones, in many orders: how far the configuration that it would have chosen lies behind
the one that all of them choose, by the same numbers. The rule let these pass; what it stopped is not among
them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.ledger import TrialRecord
from orchestrator.search.stop_rule import StopRule, stop_rule
from orchestrator.statistics.stages import STAGES, by_seed, seeds_in_work, stopped_where
from orchestrator.study import Study
from orchestrator.tables.words import duration, enumeration

ORDERS = 200
"""Orders in which the finished trials are replayed."""

Curve = Mapping[int, Sequence[float]]
"""Of a complete trial: values by seed, by epoch."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """The rule on finished trials.

    Attributes:
        trials: how many there are.
        orders: in which they were replayed.
        trained: share of their epochs that would have been trained, on average.
        regret: mean distance of what would have been chosen to the best of all, a fraction of 1.
        worst: the same in the worst order.
    """

    trials: int
    orders: int
    trained: float
    regret: float
    worst: float


def stopping(study: Study, trials: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """What stopping saved and might have lost, JSON-able; None where nothing stops trials.

    ``scheduler``, ``stopped`` (trials by where they were stopped, in words), ``cells``, ``cell_epochs`` and
    ``device_seconds`` as ``{trained, saved}``, ``replayed`` (see `Replayed`; None where Ray Tune's schedulers
    decide, or fewer than three trials are complete).
    """
    name = study.search.scheduler.name
    if name == "none" or study.protocol != "search":
        return None
    ended = [trial for trial in trials if trial.state in ("complete", "pruned")]
    by_rule = [trial for trial in ended if trial.attributes.get("stopped_by") != "user"]
    whole = len(study.splits) * len(study.seeds)
    trained = [_trained(trial, study) for trial in by_rule]
    cells = sum(cells for cells, _ in trained)
    epochs = sum(epochs for _, epochs in trained)
    complete = [trial for trial in by_rule if trial.state == "complete"]
    spent = math.fsum(trial.device_seconds for trial in complete)
    took = len(complete) * whole * study.recipe.epochs
    unspent = len(by_rule) * whole * study.recipe.epochs - epochs
    replayed = _replayed(study, complete)
    return {
        "scheduler": name,
        "stopped": stopped_where(by_rule, len(study.seeds)),
        "cells": {"trained": cells, "saved": len(by_rule) * whole - cells},
        "cell_epochs": {"trained": epochs, "saved": unspent},
        "device_seconds": {
            "trained": round(math.fsum(trial.device_seconds for trial in by_rule), 1),
            "saved": round(unspent * spent / took, 1) if took else None,
        },
        "replayed": None if replayed is None else asdict(replayed),
    }


def in_words(found: Mapping[str, Any] | None) -> list[str]:
    """Lines for the page of results; none where no trial was stopped."""
    if not found or not found["stopped"]:
        return []
    where = enumeration([f"{count} {words}" for words, count in found["stopped"].items()])
    count = sum(found["stopped"].values())
    cells, epochs, seconds = (found[name] for name in ("cells", "cell_epochs", "device_seconds"))
    time = f", about {duration(seconds['saved'])} of a slot" if seconds["saved"] else ""
    lines = [
        f"{count} trial{'s' * (count != 1)} stopped: {where}. Not trained: {cells['saved']} of "
        f"{cells['saved'] + cells['trained']} cells, {epochs['saved']} of "
        f"{epochs['saved'] + epochs['trained']} epochs{time}"
    ]
    if replayed := found["replayed"]:
        lines.append(
            f"on the {replayed['trials']} complete trials in {replayed['orders']} orders the rule trains "
            f"{100 * replayed['trained']:.0f} % of the epochs and chooses a trial that is "
            f"{100 * replayed['regret']:.1f} points behind the best on average, "
            f"{100 * replayed['worst']:.1f} at worst"
        )
    return lines


def replay(
    make: Callable[[], StopRule], curves: Sequence[Curve], *, orders: int = ORDERS, seed: int = 0
) -> Replayed:
    """Apply a rule to finished trials, one after the other, in random orders.

    Args:
        make: the rule, as a study begins with it.
        curves: of the trials; one or more.
        orders: to be tried.
        seed: of the orders.
    """
    generator = random.Random(seed)
    rule = make()
    means = [_mean(curve[rule.epochs]) for curve in curves]
    best, all_epochs = max(means), len(curves) * rule.seeds * rule.epochs
    trained, regrets = 0, []
    for _ in range(orders):
        order = list(range(len(curves)))
        generator.shuffle(order)
        rule, kept = make(), []
        for number in order:
            epochs, complete = _run(rule, number, curves[number])
            trained += epochs
            if complete:
                kept.append(means[number])
        regrets.append(best - max(kept))
    return Replayed(
        trials=len(curves),
        orders=orders,
        trained=trained / (orders * all_epochs),
        regret=math.fsum(regrets) / orders,
        worst=max(regrets),
    )


def _run(rule: StopRule, number: int, curve: Curve) -> tuple[int, bool]:
    """Epochs of cells that the rule trains of a trial, and whether it lets it come to its end."""
    stage, before, trained = rule.first_stage(), 0, 0
    while True:
        for epoch in sorted(curve):
            trained += stage - before
            values = curve[epoch][:stage]
            rule.take(number, epoch, values)
            if rule.judge(epoch, values) is not None:
                return trained, False
        if stage == rule.seeds:
            rule.complete(curve[rule.epochs])
            return trained, True
        stage, before = rule.next_stage(stage), stage


def _replayed(study: Study, complete: Sequence[TrialRecord]) -> Replayed | None:
    rule, seeds = stop_rule(study), len(study.seeds)
    curves: list[Curve] = []
    for trial in complete:
        curve = {entry["epoch"]: by_seed(entry, seeds) for entry in trial.epochs}
        if len(curve) == study.recipe.epochs and all(map(math.isfinite, curve[study.recipe.epochs])):
            curves.append(curve)
    if rule is None or len(curves) < 3:
        return None

    def make() -> StopRule:
        made = stop_rule(study)
        assert made is not None, "it was one before"
        return made

    return replay(make, curves)


def _trained(trial: TrialRecord, study: Study) -> tuple[int, int]:
    """Cells of a trial that were trained to their end, and epochs of all its cells."""
    splits, last = len(study.splits), study.recipe.epochs
    reached = [(stage["seeds"], last) for stage in trial.attributes.get(STAGES, ())]
    epoch = trial.epochs[-1]["epoch"] if trial.epochs else 0
    reached.append((seeds_in_work(trial, len(study.seeds)), epoch))
    cells = epochs = before = 0
    for seeds, came in reached:
        new = (seeds - before) * splits
        cells += new * (came == last)
        epochs += new * came
        before = seeds
    return cells, epochs


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
