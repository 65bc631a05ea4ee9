"""The report of a study as a file, for whoever shows runs: one page with figures that needs no network."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyStore


def write_page(store: StudyStore, ledger: Ledger, path: Path) -> None:
    """Write what ``orchestrator report`` makes of a study, without images, in place of what is there.

    Raises:
        InputError: the study has no records, or the libraries that draw figures are not installed.
    """
    from orchestrator.reports.page.evidence import PageOptions
    from orchestrator.reports.page.make import make_page

    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = make_page([(store, ledger)], PageOptions(test=True, images=0), made=made, links=[{}])
    path.write_text(page.html, encoding="utf-8")
