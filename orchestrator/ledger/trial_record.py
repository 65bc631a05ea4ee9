"""The record of one configuration under search."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from orchestrator.ledger.documents import CorruptError, now

TrialState = Literal["running", "complete", "pruned", "failed"]


@dataclass(kw_only=True)
class TrialRecord:
    """One configuration under search.

    Attributes:
        number: 0-based, as Optuna counts.
        state: ``running`` trials are taken up again by the next invocation.
        params: what Optuna suggested, internal names.
        distributions: the same names, as ``optuna.distributions.distribution_to_json`` writes them.
        point: ``Point.to_dict()``.
        cells: per cell ``{key, split, seed, partition, parameters}``, splits first; known once a worker
            resolved the partitions.
        epochs: per epoch ``{epoch, mean, values}``: accuracies of the cells and their replicate mean.
        value: the objective of a complete trial; where there are several, the list of them.
        parameters: trained parameters of one replicate, the largest if the cells differ.
        share: ``parameters`` over those of the backbone.
        error: why it failed.
        device_seconds: summed over all attempts.
        attempts: how often it was handed out.
        fence, invocation: of the driver that wrote this.
        attributes: anything else a driver wants to find again, JSON-able.
            ``held``: when which slot was at work on it, ``{item, slot, start, end}`` each.
    """

    number: int
    state: TrialState = "running"
    params: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, str] = field(default_factory=dict)
    point: dict[str, Any] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    value: float | list[float] | None = None
    parameters: int | None = None
    share: float | None = None
    error: str | None = None
    device_seconds: float = 0.0
    attempts: int = 0
    created_at: str = field(default_factory=now)
    started_at: str | None = None
    ended_at: str | None = None
    fence: int = 0
    invocation: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return [cell["key"] for cell in self.cells]

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @property
    def accuracy(self) -> float | None:
        """By which complete trials are ranked: the mean over splits of the mean over seeds, on validation."""
        if isinstance(self.value, list):
            means = [epoch["mean"] for epoch in self.epochs if epoch["mean"] is not None]
            return float(means[-1]) if means else None
        return self.value

    @property
    def violated(self) -> list[str]:
        """Constraints of the study that a complete trial does not meet: it cannot be the winner."""
        return [label for label, by in self.attributes.get(CONSTRAINTS, {}).items() if by > 0]

    def proposal(self) -> dict[str, Any]:
        """What the trial is, apart from what became of it: enough to run it again."""
        found = {name: getattr(self, name) for name in PROPOSED}
        if SAMPLER in self.attributes:
            found["attributes"] = {SAMPLER: self.attributes[SAMPLER]}
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrialRecord:
        """What was given to ``to_dict``; fields of other versions are left out.

        Raises:
            CorruptError: it is no record of a trial.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        found = {name: value for name, value in data.items() if name in known}
        for name, kind in KINDS.items():
            if name in found and not isinstance(found[name], kind):
                raise CorruptError(f"its field {name} is {found[name]!r:.40}")
        if "number" not in found:
            raise CorruptError("it has no number")
        if found.get("state", "running") not in get_args(TrialState):
            raise CorruptError(f"its state is {found['state']!r:.40}")
        if not all(_has(cell, "key") for cell in found.get("cells", ())):
            raise CorruptError("its cells are not as they were written")
        if not all(_has(epoch, "epoch", "mean") for epoch in found.get("epochs", ())):
            raise CorruptError("its epochs are not as they were written")
        if not all(isinstance(part, NUMBER) for part in _values(found.get("value"))):
            raise CorruptError(f"its field value is {found['value']!r:.40}")
        return cls(**found)


SAMPLER, CONSTRAINTS = "sampler", "constraints"
"""Attributes: what the sampler keeps of the trial (`orchestrator.search.memory`), and by how much each
constraint of the study is violated, where it has any."""

PROPOSED = ("number", "params", "distributions", "point", "created_at")

NUMBER = int | float

KINDS: dict[str, Any] = {
    "number": int,
    "params": dict,
    "distributions": dict,
    "point": dict,
    "cells": list,
    "epochs": list,
    "value": NUMBER | list | None,
    "parameters": int | None,
    "share": NUMBER | None,
    "error": str | None,
    "device_seconds": NUMBER,
    "attempts": int,
    "created_at": str,
    "fence": int,
    "invocation": str,
    "attributes": dict,
}


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _has(value: Any, *names: str) -> bool:
    return isinstance(value, dict) and all(name in value for name in names)
