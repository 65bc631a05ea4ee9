"""The Pareto front of a study, from its records alone: who is on it, how likely, and who goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmap_model.errors import InputError
from orchestrator.statistics.front_odds import Front, FrontCandidate, find_front
from orchestrator.statistics.objectives import EXACT, Aim, Objective, by_cell, measure
from orchestrator.statistics.preference import ChosenCandidate, choose, default_rule, demanded
from orchestrator.statistics.summary import seed_means

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.ledger import Ledger, StudyStore, TrialRecord

VIEWED = (Objective("accuracy", True), Objective("parameters", False))
"""What a study that searches for accuracy alone is looked at by."""


@dataclass(frozen=True, kw_only=True)
class Pareto:
    """Complete trials by several objectives.

    Attributes:
        aim: objectives and constraints.
        candidates: trials that meet every constraint, by number.
        front: of them.
        choice: the one that goes on; None if there is none.
        violated: of the other trials, by number, the constraints that they do not meet.
        unmeasured: numbers of complete trials of which an objective is not on record.
        same: trials that share all cells with an earlier one, which stands for both.
    """

    aim: Aim
    candidates: Sequence[FrontCandidate] = ()
    front: Front = field(default_factory=Front)
    choice: ChosenCandidate | None = None
    violated: Mapping[int, list[str]] = field(default_factory=dict)
    unmeasured: tuple[int, ...] = ()
    same: Mapping[int, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: ``objectives``, ``constraints``, ``trials``, ``chosen``, and what the front rests on.

        A trial is ``{number, values, on_front, probability}``; the probability that it is on the front is
        None where it is not known.
        """
        return {
            "objectives": [each.label for each in self.aim.objectives],
            "constraints": [each.label for each in self.aim.constraints],
            "trials": [
                {
                    "number": each.name,
                    "values": dict(each.values),
                    "on_front": each.name in self.front.measured,
                    "probability": self.front.probability.get(each.name),
                }
                for each in self.candidates
            ],
            "chosen": None if self.choice is None else self.choice.to_dict(),
            "draws": self.front.draws,
            "noisy": list(self.front.noisy),
            "reason": self.front.reason,
            "incomplete": list(self.front.incomplete),
            "violated": {str(number): labels for number, labels in self.violated.items()},
            "unmeasured": list(self.unmeasured),
            "same_cells": [[number, other] for number, other in self.same.items()],
        }


def find_pareto(store: StudyStore, ledger: Ledger, prefer: str | None = None) -> Pareto:
    """The front of a stored study; one that searches for accuracy alone is looked at by its size as well.

    Args:
        store, ledger: its records.
        prefer: which trial goes on, see ``.preference``; by default the most accurate.

    Raises:
        InputError: no such rule, or no trial that meets it.
    """
    aim = Aim.of_study(store.load_study() or {})
    if not aim.several:
        aim = Aim(VIEWED, aim.constraints)
    complete = [trial for trial in store.load_trials() if trial.state == "complete"]
    return weigh(complete, ledger.get_many(key for trial in complete for key in trial.keys), aim, prefer)


def preferred_trial(store: StudyStore, ledger: Ledger, prefer: str) -> ChosenCandidate:
    """The trial that goes on by a rule. Raises InputError where there is none."""
    found = find_pareto(store, ledger, prefer).choice
    if found is None:
        raise InputError(
            f"study {store.name!r} has no complete trial that meets its constraints",
            where="STUDY",
            fix=f"run it to its end: orchestrator sweep {store.name}",
        )
    return found


def weigh(
    trials: Iterable[TrialRecord],
    records: Mapping[str, Mapping[str, Any]],
    aim: Aim,
    prefer: str | None = None,
) -> Pareto:
    """The front of complete trials.

    Args:
        trials: complete ones.
        records: of their cells, by key.
        aim: two objectives or more.
        prefer: as of `find_pareto`.
    """
    rule = prefer or default_rule(aim.objectives)
    asked = demanded(rule)
    names = tuple(dict.fromkeys((*aim.names, *((asked.name,) if asked else ()))))
    candidates, violated, unmeasured = [], {}, []
    same: dict[int, int] = {}
    first: dict[tuple[str, ...], int] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        found = measure(names, trial.cells, records, trial.parameters)
        values = {name: value for name, value in found.items() if value is not None}
        if len(values) < len(names):
            unmeasured.append(trial.number)
            continue
        if missed := [c.label for c in aim.constraints if c.violation(values[c.name]) > 0]:
            violated[trial.number] = missed
            continue
        if (other := first.setdefault(tuple(trial.keys), trial.number)) != trial.number:
            same[trial.number] = other
            continue
        blocks = {
            each.name: seed_means(by_cell(each.name, trial.cells, records) or {})
            for each in aim.objectives
            if each.name not in EXACT
        }
        candidates.append(FrontCandidate(name=trial.number, values=values, blocks=blocks))
    front = find_front(candidates, aim.objectives)
    choice = choose(rule, candidates, front.measured, aim.objectives) if candidates else None
    return Pareto(
        aim=aim,
        candidates=candidates,
        front=front,
        choice=choice,
        violated=violated,
        unmeasured=tuple(unmeasured),
        same=same,
    )
