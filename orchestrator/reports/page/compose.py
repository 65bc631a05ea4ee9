"""From studies to a page: its sections in the order in which they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.sections.cost import cost
from orchestrator.reports.page.sections.curves import curves
from orchestrator.reports.page.sections.errors import Images, errors
from orchestrator.reports.page.sections.grouping import grouping
from orchestrator.reports.page.sections.origin import origin
from orchestrator.reports.page.sections.ranking import ranking
from orchestrator.reports.page.sections.search import search
from orchestrator.reports.page.sections.side_by_side import side_by_side
from orchestrator.reports.page.sections.verdict import verdict
from orchestrator.reports.page.values import Code, PageSection, StudyPage

T = TypeVar("T")

Links = Mapping[str, str]
"""Addresses of runs by number of the trial or name of the reference row."""


def compose(
    studies: Sequence[Evidence],
    *,
    made: str,
    software: str,
    images: Sequence[Images] = (),
    links: Sequence[Links] = (),
) -> StudyPage:
    """The page of one study, or of several beside each other and then one by one.

    Args:
        studies: in the order of the page.
        made: when, for people.
        software: its version.
        images, links: of each study.
    """
    found = [
        sections(
            study,
            images[number] if images else {},
            links[number] if links else {},
        )
        for number, study in enumerate(studies)
    ]
    subtitle = (
        f"Made {made} from the records of ",
        Code(", ".join(s.name for s in studies)),
        f" by version {software}.",
    )
    if len(studies) == 1:
        return StudyPage(title=f"Study {studies[0].name}", subtitle=subtitle, sections=tuple(found[0]))
    parts = [side_by_side(studies)]
    for number, (study, own) in enumerate(zip(studies, found, strict=True), start=1):
        prefix = f"study-{number}"
        blocks = tuple(_prefixed(section, prefix) for section in own)
        parts.append(PageSection(name=prefix, title=f"Study {study.name}", blocks=blocks))
    return StudyPage(title=f"{len(studies)} studies", subtitle=subtitle, sections=tuple(parts))


def sections(study: Evidence, images: Images, links: Links) -> list[PageSection]:
    """All sections of one study."""
    return [
        verdict(study),
        ranking(study, links),
        search(study),
        curves(study),
        grouping(study),
        errors(study, images),
        cost(study),
        origin(study),
    ]


def _prefixed(part: T, prefix: str) -> T:
    """A section whose names, and those of what is in it, begin with ``prefix``: they are unique on a page."""
    changes: dict[str, Any] = {}
    if isinstance(getattr(part, "name", None), str) and re.fullmatch(r"[a-z0-9-]+", part.name):  # type: ignore[attr-defined]
        changes["name"] = f"{prefix}-{part.name}"  # type: ignore[attr-defined]
    if isinstance(part, PageSection):
        changes["blocks"] = tuple(_prefixed(block, prefix) for block in part.blocks)
    if not changes or not is_dataclass(part):
        return part
    assert {field.name for field in fields(part)} >= changes.keys(), "names and blocks are fields"
    return replace(part, **changes)  # type: ignore[type-var]
