"""What a study took from others when it began, as its record holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.search.proposals import Known

GENERATIONS = {"nsga2": "NSGAIISampler:generation", "nsga3": "NSGAIIISampler:generation"}
"""Attributes by which NSGA counts a trial among its first generation."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was taken from one study.

    Attributes:
        study: as the key gives it.
        enqueued: points to try, ``{trial, params}``, the best first.
        fed: trials that the sampler learns from, ``{trial, params, distributions, values, violations}``.
        notes: what was not taken, and why.
    """

    study: str
    enqueued: tuple[dict[str, Any], ...] = ()
    fed: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """``demo: 3 points to try, 20 trials to learn from; trial 4 is not tried: …``."""
        points, trials = len(self.enqueued), len(self.fed)
        said = (
            f"{points} point{'s' * (points != 1)} to try, {trials} trial{'s' * (trials != 1)} to learn from"
        )
        return f"{self.study}: {'; '.join((said, *self.notes))}"


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What was taken from all of them, in the order of the key."""

    sources: tuple[Taken, ...] = ()

    @property
    def first(self) -> tuple[dict[str, Any], ...]:
        """Parameters of the points to try after the study's own first ones."""
        return tuple(point["params"] for source in self.sources for point in source.enqueued)

    def known(self, sampler: str) -> tuple[Known, ...]:
        """Trials for the sampler, which sees them as if they came before the first of the study."""
        from orchestrator.search.proposals import Known

        attributes = {GENERATIONS[sampler]: 0} if sampler in GENERATIONS else {}
        return tuple(
            Known(
                params=trial["params"],
                distributions=trial["distributions"],
                values=trial["values"],
                violations=trial["violations"],
                attributes=attributes,
            )
            for source in self.sources
            for trial in source.fed
        )

    def to_dict(self) -> dict[str, Any]:
        return {"sources": [asdict(source) for source in self.sources]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WarmStart:
        """What ``to_dict`` gave."""
        return cls(
            sources=tuple(
                Taken(
                    study=source["study"],
                    enqueued=tuple(source["enqueued"]),
                    fed=tuple(source["fed"]),
                    notes=tuple(source["notes"]),
                )
                for source in data["sources"]
            )
        )
