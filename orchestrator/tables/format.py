"""What a format of reports is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from orchestrator.tables.document import Section

TableLayout = Literal["page", "paper", "records"]
"""How a report is laid out: ``page`` says everything; ``paper`` is the tables that a publication prints;
``records`` is numbers alone, a document per table, for programs."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffix: of its files, and its name.
        layout: which documents of a report it writes.
        write: a document as text. All escaping happens here.
    """

    suffix: str
    layout: TableLayout
    write: Callable[[Section], str]
