"""The page of a comparison of methods."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.page.make import check_page, make_comparison_page
from orchestrator.reports.page.methods import methods_page

MADE = "2026-05-04 13:00 UTC"


@pytest.fixture
def page(comparison: Comparison) -> str:
    return make_comparison_page(comparison, {"dataset": "symbols"}, made=MADE)


def no_study(name: str, storage: str) -> Any:
    raise AssertionError("a comparison is no study")


def test_it_has_the_verdict_every_method_and_the_papers_tables(comparison: Comparison) -> None:
    page = methods_page(comparison, made=MADE, software="1")
    names = [section.name for section in page.sections]
    assert names[:2] == ["verdict", "methods"] and names[-1] == "origin"
    assert "ablations" in names and len(set(names)) == len(names)


def test_every_method_has_its_average_and_the_cell_that_it_begins_with(
    page: str, comparison: Comparison
) -> None:
    for column in comparison.columns:
        if column.section == "table":
            shared = comparison.entry(column.name, "6-shot", "shared")
            entry = comparison.entry(column.name, "6-shot", "tuned") or shared
            assert entry is not None
            means = entry.seed_means().values()
            assert f"cells/{entry.cells['1']}" in page
            assert f"{100 * sum(means) / len(means):.1f} ±" in page


def test_a_check_finds_what_is_not_in_the_comparison(
    page: str, comparison: Comparison, make: Callable[..., Comparison]
) -> None:
    def find(arguments: Any) -> Comparison:
        assert arguments == {"dataset": "symbols"}
        return comparison

    assert check_page(page, no_study, "report.html", find) is None
    match = re.search(r'data-field="test.average"[^>]* data-value="(\d)', page)
    assert match is not None
    changed = page[: match.start(1)] + str((int(match[1]) + 1) % 10) + page[match.end(1) :]
    found = check_page(changed, no_study, "report.html", find)
    assert found is not None and found.record.startswith("cells/") and "methods" in found.place
    assert check_page(page, no_study, "report.html", lambda arguments: make(lift=0.01)) is not None


def test_a_comparison_of_which_nothing_is_trained_says_so(make: Callable[..., Comparison]) -> None:
    names = tuple(column.name for column in make().columns)
    page = make_comparison_page(make(missing=names), {}, made=MADE)
    assert "No method has been trained and scored yet" in page


def test_its_figures_are_painted(page: str, tmp_path: Path, open_page: Callable[..., Any]) -> None:
    (tmp_path / "report.html").write_text(page, "utf-8")
    found = open_page(tmp_path / "report.html", offline=True)
    for number in (0, 1):
        figure = found.page.locator(f"#tradeoff-{number}")
        figure.scroll_into_view_if_needed()
        figure.locator(".plot .main-svg").first.wait_for(state="visible")
        assert figure.locator(".plot .points path").count() > 8
    assert found.errors == [] and found.requests == []
