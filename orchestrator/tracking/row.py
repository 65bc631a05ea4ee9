"""What is known of one trial or reference row: enough to tell all of it again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmap_model.plain import content_key
from orchestrator.tracking.operations import Trial

Reports = Mapping[str, Mapping[str, Any]]
"""Of one epoch, by cell key."""

ZERO_STEP = "zero_step"

ENDED = ("complete", "pruned", "failed", "cancelled", "interrupted")


@dataclass(kw_only=True)
class RowEnd:
    """How a row ended.

    Attributes:
        state: one of ``ENDED``.
        at: UTC ISO time.
        device_seconds: over all attempts.
        attempts: how often the row was handed out.
        parameters, share: trained parameters of one replicate, and over those of the backbone.
        error: without secrets.
    """

    state: str
    at: str
    device_seconds: float | None = None
    attempts: int = 1
    parameters: int | None = None
    share: float | None = None
    error: str | None = None


@dataclass(kw_only=True)
class TrackedRow:
    """A trial or reference row, as far as it is known.

    Attributes:
        trial: its number or name.
        point: ``Point.to_dict()``.
        started_at: UTC ISO time.
        tags: of its run, beside those that all have.
        cells: ``CellState`` of each as a dictionary.
        epochs: number of each epoch that all cells have reached, and its reports, packed.
        finished: per key of a cell that this row trained ``{seconds, at}``.
        failed: per key ``{error, at}``.
        end: None while it runs.
        tests: per key the record of its score on the test images.
        stage: further seeds may follow those that it has.
    """

    trial: Trial
    point: dict[str, Any] = field(default_factory=dict)
    started_at: str
    tags: dict[str, Any] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    epochs: dict[int, bytes] = field(default_factory=dict)
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)
    end: RowEnd | None = None
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    stage: bool = False

    @property
    def keys(self) -> list[str]:
        return [cell["key"] for cell in self.cells]

    @property
    def name(self) -> str:
        """Tells it from other rows of its study: ``trial 3``, ``zero_shot``."""
        return f"trial {self.trial}" if isinstance(self.trial, int) else self.trial

    def add_epoch(self, epoch: int, reports: Reports) -> None:
        """Keep an epoch's reports; packed, because a study has as many rows in work as slots."""
        self.epochs[epoch] = zlib.compress(json.dumps(reports).encode(), 1)

    def reports(self) -> Iterator[tuple[int, dict[str, dict[str, Any]]]]:
        """Epochs in order, with their reports."""
        for epoch in sorted(self.epochs):
            yield epoch, json.loads(zlib.decompress(self.epochs[epoch]))

    def set_status(self, key: str, status: str) -> None:
        for cell in self.cells:
            if cell["key"] == key:
                cell["status"] = status

    def to_dict(self) -> dict[str, Any]:
        """For the records."""
        return {
            **{name: value for name, value in vars(self).items() if name != "tests"},
            "epochs": [[epoch, reports] for epoch, reports in self.reports()],
            "end": None if self.end is None else vars(self.end),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrackedRow:
        """Of ``to_dict``."""
        names = ("trial", "point", "started_at", "tags", "cells", "finished", "failed")
        row = cls(**{name: data[name] for name in names})
        for epoch, reports in data["epochs"]:
            row.add_epoch(epoch, reports)
        row.end = None if data["end"] is None else RowEnd(**data["end"])
        return row


def row_name(name: Trial, point: Mapping[str, Any]) -> Trial:
    """A row's name in tracking: MLflow keeps parameters for good, and another best trial has others."""
    return f"{name}-{content_key(point)[:8]}" if name == ZERO_STEP else name
