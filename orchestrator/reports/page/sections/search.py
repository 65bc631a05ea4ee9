"""What was searched: accuracy against size, what varied, what mattered, and where good values lie."""

from __future__ import annotations

from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.sections.importance import importance
from orchestrator.reports.page.sections.parallel import parallel
from orchestrator.reports.page.sections.slices import slices
from orchestrator.reports.page.sections.tradeoff import tradeoff
from orchestrator.reports.page.values import PageBlock, PageSection, Text


def search(evidence: Evidence) -> PageSection:
    """The third section of a page."""
    blocks: list[PageBlock] = []
    if not evidence.ranked:
        blocks.append(Text(("There is no complete trial whose accuracy could be set against anything.",)))
    else:
        blocks += [*tradeoff(evidence), *parallel(evidence), *importance(evidence), *slices(evidence)]
    return PageSection(name="search", title="What was searched", blocks=tuple(blocks))
