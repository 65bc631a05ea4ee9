"""How sections call trials, and the numbers of a trial with the record they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.reports.page.evidence import Evidence, Line
from orchestrator.reports.page.values import Number, PageSentence, points
from orchestrator.reports.ranking import BASELINES
from orchestrator.tables.words import MINUS, configuration

STATES = ("complete", "pruned", "failed", "running")
"""In the order in which they are told of."""


def trial_record(evidence: Evidence, number: int) -> str:
    """Place of a trial's record."""
    return f"{evidence.record}/trials/{number}"


def baseline_record(evidence: Evidence, name: str) -> str:
    """Place of a reference row's record."""
    return f"{evidence.record}/baselines/{name}"


def baseline_name(name: str) -> str:
    """A reference row as people call it."""
    return BASELINES.get(name, name.replace("_", " "))


def trial(evidence: Evidence, number: int) -> PageSentence:
    """``trial 3``."""
    return ("trial ", Number(str(number), trial_record(evidence, number), "number"))


def settings(evidence: Evidence, config: Mapping[str, Any]) -> str:
    """What varies in the study, of one trial: ``b4 m2 n16, lr 0.023``."""
    return configuration({name: value for name, value in config.items() if name in evidence.varied})


def mean(evidence: Evidence, row: Line, name: str) -> Number:
    """The mean of a row's ``val`` or ``test``, in per cent."""
    return points(row[name]["mean"], trial_record(evidence, row["number"]), f"{name}.mean")


def difference(found: Line | None, record: str, name: str) -> PageSentence:
    """``8.8 points (95 % interval +5.4 to +12.2)`` of a paired difference; the interval if there is one."""
    if found is None:
        return ()
    number = Number(signed(found["mean"]), record, f"{name}.mean")
    if found.get("low") is None:
        return (number, " points")
    return (
        *(number, " points (95 % interval "),
        *(Number(signed(found["low"]), record, f"{name}.low"), " to "),
        *(Number(signed(found["high"]), record, f"{name}.high"), ")"),
    )


def signed(fraction: float) -> str:
    """``+0.3``, ``−1.2`` points."""
    return f"{100 * fraction:+.1f}".replace("-", MINUS)
