"""All that a report says of one comparison, in its order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison.ablation import Ablation, ablation
from orchestrator.reports.comparison.claims import Claim, claims
from orchestrator.reports.comparison.method_table import MethodTable, method_table
from orchestrator.reports.comparison.paper import Beside, beside_paper
from orchestrator.reports.comparison.roles import RECIPES, recipes_of


@dataclass(frozen=True)
class Contents:
    """Numbers of the tables, ablations and claims of a comparison, computed once."""

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
    def claims(self) -> list[Claim]:
        return claims(self.comparison)

    @cached_property
    def beside(self) -> list[tuple[MethodTable, list[Beside]]]:
        """Tables of which the paper prints numbers, with those."""
        pairs = [(table, beside_paper(table)) for table in self.tables]
        return [(table, found) for table, found in pairs if found]
