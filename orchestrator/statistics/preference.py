"""Which point of a Pareto front goes on: by a rule that a person gives, never by test images."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmap_model.errors import InputError, nearest
from orchestrator.statistics.front_odds import FrontCandidate
from orchestrator.statistics.objectives import Constraint, Objective, parse_constraint

KNEE = "knee"
WHERE = "--prefer"


@dataclass(frozen=True, kw_only=True)
class ChosenCandidate:
    """A candidate that goes on.

    Attributes:
        trial: its name.
        rule: by which it was chosen.
        why: the same in words.
    """

    trial: Any
    rule: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def default_rule(objectives: Sequence[Objective]) -> str:
    """``accuracy`` where it is an objective, else the first one."""
    names = [each.name for each in objectives]
    return "accuracy" if "accuracy" in names else names[0]


def demanded(rule: str | None) -> Constraint | None:
    """The constraint that a rule is; None if it is another rule. Raises InputError where it is neither."""
    return parse_constraint(rule, WHERE) if rule is not None and any(c in rule for c in "<>=") else None


def choose(
    rule: str, candidates: Sequence[FrontCandidate], front: Collection[Any], objectives: Sequence[Objective]
) -> ChosenCandidate:
    """Choose one of the candidates.

    ``knee`` is the point of the front nearest to the best of every objective, each scaled to 0 … 1 over the
    front. The name of an objective takes the best in it, and a constraint such as ``parameters<=20000`` the
    best accuracy (or first objective) of those that meet it. Of equals the earlier one goes on.

    Args:
        rule: as given.
        candidates: in the order of their numbers, with what the rule needs in ``values``.
        front: names of those on the front.
        objectives: of the study.

    Raises:
        InputError: no such rule, or no candidate that meets it.
    """
    there = [each for each in candidates if each.name in front]
    lead = next(each for each in objectives if each.name == default_rule(objectives))
    if (constraint := demanded(rule)) is not None:
        meeting = [c for c in candidates if constraint.violation(c.values[constraint.name]) <= 0]
        if not meeting:
            ends = [each.values[constraint.name] for each in candidates]
            nearest_one = min(ends) if constraint.at_most else max(ends)
            raise InputError(
                f"no complete trial has {constraint.label}",
                where=WHERE,
                fix=f"the nearest has {constraint.name} {nearest_one:.10g}",
            )
        found = _best(meeting, lead)
        return ChosenCandidate(trial=found.name, rule=rule, why=f"best {lead.name} with {constraint.label}")
    if rule == KNEE:
        found = min(there, key=lambda each: _distance(each, there, objectives))
        return ChosenCandidate(
            trial=found.name, rule=rule, why="nearest on the front to the best of every objective"
        )
    by_name = {each.name: each for each in objectives}
    if rule.lstrip("+-") not in by_name:
        raise InputError(
            f"unknown rule {rule!r}",
            where=WHERE,
            fix=f"{nearest(rule, [KNEE, *by_name])}; or a constraint such as 'parameters<=20000'",
        )
    own = by_name[rule.lstrip("+-")]
    return ChosenCandidate(trial=_best(there, own).name, rule=rule, why=f"best {own.name} on the front")


def _best(candidates: Sequence[FrontCandidate], objective: Objective) -> FrontCandidate:
    sign = 1 if objective.maximize else -1
    return max(candidates, key=lambda each: sign * each.values[objective.name])


def _distance(one: FrontCandidate, front: Sequence[FrontCandidate], objectives: Sequence[Objective]) -> float:
    """To the point that is best in everything, each objective scaled to 0 … 1 over the front."""
    parts = []
    for each in objectives:
        values = [other.values[each.name] for other in front]
        low, high = min(values), max(values)
        best = high if each.maximize else low
        parts.append(0.0 if high == low else (one.values[each.name] - best) / (high - low))
    return math.hypot(*parts)
