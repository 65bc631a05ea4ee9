"""Claims as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison.claims import Claim, ClaimVerdict
from orchestrator.reports.comparison.evidence import interval
from orchestrator.reports.comparison.sides import Side
from orchestrator.tables import Table, TableCell, TableColumn, label, number, words
from orchestrator.tables.model import NONE, Content, Field, Look

LOOKS: dict[ClaimVerdict, Look] = {
    "holds": "good",
    "reversed": "bad",
    "undecided": "open",
    "no data": "faint",
}

RECORDS = {
    "topic": "topic",
    "claim": "statement",
    "split": "split",
    "recipe": "recipe",
    "verdict": "verdict",
    "better": "better.label",
    "worse": "worse.label",
}
"""Columns of the claims as records, and where a claim has them."""


def counted(found: Sequence[Claim]) -> str:
    """``11 undecided, 2 holds``."""
    verdicts = [claim.words for claim in found]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))


def claim_table(found: Sequence[Claim]) -> Table:
    """All that is known of each claim, one line per claim and split."""
    return Table.of(
        [
            (label("Claim"), lambda claim: claim.statement),
            (label("Split"), lambda claim: claim.split),
            *_decision(digits=2),
            (number("n"), lambda claim: claim.difference.n if claim.difference else None),
            (label("Rates"), _rates),
            (label("Recipe"), lambda claim: claim.recipe),
            (label("In the paper"), _paper_range),
            (label("Notes"), lambda claim: "; ".join(claim.notes)),
        ],
        found,
    )


def brief_claims(found: Sequence[Claim], title: str) -> Table:
    """The columns that a screen has room for, a block per topic."""
    return Table.of(
        [(label("Claim"), lambda claim: claim.statement), *_decision(digits=1), (label("Rates"), _rates)],
        *(list(claims) for _, claims in groupby(found, key=lambda claim: claim.topic)),
        title=title,
    )


def glance(found: Sequence[Claim], comparison: Comparison) -> Table:
    """Every claim's verdict and difference, splits side by side."""
    by_place = {(claim.statement, claim.split): claim for claim in found}

    def verdict(split: str) -> Callable[[str], Content]:
        def said(statement: str) -> Content:
            claim = by_place.get((statement, split))
            if claim is None:
                return None
            points = f" {words.signed(claim.difference.mean)}" if claim.difference else ""
            mark = "*" if claim.recipe == "shared" else ""
            return TableCell(f"{claim.verdict}{mark}{points}", look=LOOKS[claim.verdict])

        return said

    shared = any(claim.recipe == "shared" for claim in found)
    statements: list[Field[str]] = [(label("Claim"), str)]
    return Table.of(
        statements + [(label(split), verdict(split)) for split in comparison.splits],
        dict.fromkeys(claim.statement for claim in found),
        title=f"{comparison.dataset}: the paper's claims, differences in points",
        notes=["* at the shared rate: one of the two was not tuned."] if shared else (),
    )


def claim_records(found: Sequence[Claim]) -> Table:
    """The claims as numbers, differences as fractions."""

    def difference(name: str) -> Field[Claim]:
        heading = "difference" if name == "mean" else name
        return label(heading), lambda claim: getattr(claim.difference, name) if claim.difference else None

    return Table.of(
        [
            *((label(name), attrgetter(path)) for name, path in RECORDS.items()),
            (label("lr_better"), lambda claim: claim.better.lr or None),
            (label("lr_worse"), lambda claim: claim.worse.lr or None),
            *map(difference, ("mean", "low", "high", "n")),
            (label("threshold"), lambda claim: claim.threshold),
            (label("notes"), lambda claim: "; ".join(claim.notes)),
        ],
        found,
    )


def _decision(digits: int) -> list[tuple[TableColumn, Callable[[Claim], Content]]]:
    return [
        (label("Verdict"), lambda claim: TableCell(claim.words, look=LOOKS[claim.verdict])),
        (number("Difference"), lambda claim: _points(claim, digits)),
        (number("95 % interval"), lambda claim: interval(claim.difference, digits)),
    ]


def _points(claim: Claim, digits: int) -> Content:
    found = claim.difference
    return None if found is None else TableCell(words.signed(found.mean, digits), value=found.mean)


def _rates(claim: Claim) -> str:
    def side(side: Side) -> str:
        return words.rate(side.lr, side.edge)

    return f"{side(claim.better)} / {side(claim.worse)}"


def _paper_range(claim: Claim) -> str:
    """The paper's own differences on its benchmarks: ``+0.8 to +1.4``."""
    values = sorted(claim.paper.values())
    ends = dict.fromkeys(map(words.signed, (values[0], values[-1]))) if values else [NONE]
    return " to ".join(ends)
