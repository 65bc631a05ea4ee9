"""All that a report says of one comparison, in its order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison import grids
from orchestrator.reports.comparison.ablation import Ablation, ablation
from orchestrator.reports.comparison.claims import Claim, claims
from orchestrator.reports.comparison.evidence_grids import beside
from orchestrator.reports.comparison.grid import Grid
from orchestrator.reports.comparison.method_table import MethodTable, method_table
from orchestrator.reports.comparison.pairings import Pairings
from orchestrator.reports.comparison.paper import Beside, beside_paper
from orchestrator.reports.comparison.roles import RECIPES, recipes_of


@dataclass(frozen=True)
class Contents:
    """Tables, ablations and claims of a comparison, computed once."""

    comparison: Comparison

    @cached_property
    def tables(self) -> list[MethodTable]:
        """By split, the shared recipe before the tuned one."""
        return [
            method_table(self.comparison, split, recipe)
            for split in self.comparison.splits
            for recipe in recipes_of(self.comparison, split, "table")
        ]

    @cached_property
    def ablations(self) -> list[Ablation]:
        """By split; tuned ones before shared ones, which say less."""
        found = (
            ablation(self.comparison, split, recipe)
            for split in self.comparison.splits
            for recipe in reversed(RECIPES)
        )
        return [a for a in found if a is not None]

    @cached_property
    def pairings(self) -> list[Pairings]:
        return [a.pairings for a in self.ablations if a.pairings is not None]

    @cached_property
    def claims(self) -> list[Claim]:
        return claims(self.comparison)

    @cached_property
    def beside(self) -> list[tuple[MethodTable, list[Beside]]]:
        """Tables of which the paper prints numbers, with those."""
        pairs = [(table, beside_paper(table)) for table in self.tables]
        return [(table, found) for table, found in pairs if found]

    def verdicts(self) -> dict[str, int]:
        """How many claims have each verdict."""
        counts: dict[str, int] = {}
        for claim in self.claims:
            counts[claim.words] = counts.get(claim.words, 0) + 1
        return counts

    def grids(self) -> Iterable[tuple[str, list[Grid]]]:
        """Chapters: a title and its tables."""
        for split in self.comparison.splits:
            tables = [grids.methods(table) for table in self.tables if table.split == split]
            if tables:
                yield f"Methods at {split}", tables
        if self.beside:
            yield "Beside the paper", [beside(found, table) for table, found in self.beside]
        if self.ablation_grids():
            yield "Ablations", self.ablation_grids()
        if self.comparison.affinities:
            yield "Task affinity", [grids.affinities(self.comparison.affinities, self.comparison)]

    def ablation_grids(self, *, brief: bool = False) -> list[Grid]:
        """Table 3, figure 4 and the partitions of every ablation; in brief, the better recipe's averages."""
        found = []
        splits = set()
        for item in self.ablations:
            if brief and item.split in splits:
                continue
            splits.add(item.split)
            if item.framework:
                found.append(grids.framework(item, tasks=not brief))
            if item.generators:
                found.append(grids.generators(item, tasks=not brief))
            if item.pairings is not None:
                found.append(grids.partitions(item.pairings, self.comparison))
        return found
