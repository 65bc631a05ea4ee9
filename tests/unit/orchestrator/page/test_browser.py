"""A page in a real browser without a network: painted, sortable, brushed, legible on a phone."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SECTIONS = ["verdict", "ranking", "search", "curves", "grouping", "errors", "cost", "origin"]
FIGURES = [
    *("tradeoff", "parallel", "importance", "slices", "curves-trials", "curves-tasks", "foresight"),
    *("affinity", "classes", "reliability", "timeline"),
]
PAINTED = 0.004
"""Share of a figure's pixels that are not background: thin lines on white are a hundredth of it."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a study with enough complete trials for every figure."""
    from runpy import run_path

    build = run_path(str(Path(__file__).with_name("conftest.py")))["build"]
    folder = tmp_path_factory.mktemp("page")
    (folder / "made.html").write_text(build(folder / "runs", "made", 33).page(images=2), "utf-8")
    return folder / "made.html"


@pytest.fixture
def opened(page: Path, open_page: Callable[..., Any]) -> Callable[..., Any]:
    """The page in the browser, nothing to be fetched; a dialog is an error."""

    def open_(**options: Any) -> Any:
        found = open_page(page, offline=True, **options)
        found.page.on("dialog", lambda dialog: (found.errors.append(dialog.message), dialog.dismiss()))
        return found

    return open_


def colours(element: Any) -> tuple[float, int]:
    """The share of pixels that are not the background, and how many colours there are."""
    element.scroll_into_view_if_needed()
    image = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
    counted = image.getcolors(image.width * image.height) or []
    most = max(count for count, _ in counted)
    return 1 - most / (image.width * image.height), len(counted)


def test_every_section_is_there_and_every_figure_painted_without_a_request(opened: Any) -> None:
    found = opened()
    page = found.page
    assert page.locator("main > section").evaluate_all("all => all.map(one => one.id)") == SECTIONS
    assert page.locator("figure").evaluate_all("all => all.map(one => one.id)") == FIGURES
    for name in FIGURES:
        figure = page.locator(f"#{name}")
        figure.scroll_into_view_if_needed()
        drawing = figure.locator("svg" if name == "parallel" else ".plot .main-svg").first
        drawing.wait_for(state="visible")
        share, number = colours(figure.locator("svg" if name == "parallel" else ".plot").first)
        assert share > PAINTED and number > 10, name
    assert found.requests == [] and found.errors == []


def test_names_with_tags_are_read_as_text(opened: Any) -> None:
    found = opened()
    page = found.page
    assert "<script>alert(1)</script>" in page.locator("#errors").inner_text()
    assert "made <b>up</b> & never trained" in page.locator("#origin").text_content()
    page.locator("#classes").scroll_into_view_if_needed()
    page.locator("#classes .plot .main-svg").first.wait_for(state="visible")
    axis = page.locator("#classes .plot").text_content()
    assert "photo & film" in axis and "<script>alert('task')</script>" in axis
    assert found.errors == []


def test_a_table_is_sorted_by_its_headings(opened: Any) -> None:
    page = opened().page
    table = page.locator("#ranking-table")

    def values(column: str) -> list[float]:
        cells = table.locator(f"tbody:first-of-type td[data-field='{column}']")
        return list(map(float, cells.evaluate_all("all => all.map(one => one.dataset.value)")))

    ranked = values("rank")
    assert ranked == sorted(ranked)
    heading = table.get_by_role("button", name="validation")
    heading.click()
    assert values("val") == sorted(values("val")) and values("rank") == sorted(ranked, reverse=True)
    heading.click()
    assert values("val") == sorted(values("val"), reverse=True)
    table.get_by_role("button", name="size").click()
    assert values("parameters") == sorted(values("parameters"))
    assert table.locator("th[aria-sort]").inner_text().startswith("size")
    assert table.locator("tbody").last.locator("tr").count() == 1, "reference rows stay below"


def test_brushing_an_axis_leaves_only_the_lines_in_the_range(opened: Any) -> None:
    page = opened().page
    figure = page.locator("#parallel")
    figure.scroll_into_view_if_needed()
    lines, out = figure.locator(".lines path"), figure.locator(".lines path.out")
    whole = lines.count()
    box = figure.locator(".axis .handle").last.bounding_box()
    assert box is not None and out.count() == 0
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] / 3, steps=4)
    page.mouse.up()
    places = figure.locator(".lines path:not(.out)").evaluate_all(
        "all => all.map(one => Number(one.dataset.places.split(' ').pop()))"
    )
    assert 0 < len(places) < whole and min(places) > 0.5
    assert f"{len(places)} of {whole} lines" in figure.locator("output").inner_text()
    page.mouse.click(x, box["y"] + 5)
    assert out.count() == 0 and figure.locator("output").inner_text() == ""


def test_a_figure_shows_the_numbers_of_its_csv(opened: Any) -> None:
    page = opened().page
    page.locator("#tradeoff").scroll_into_view_if_needed()
    page.locator("#tradeoff .plot .main-svg").first.wait_for(state="visible")
    drawn = page.evaluate("document.querySelector('#tradeoff .plot').data.flatMap(trace => trace.y)")
    text = page.locator("#csv-tradeoff").text_content()
    head, *rows = [line.split(",") for line in text.strip().splitlines() if ",reference" not in line]
    assert sorted(drawn) == sorted(float(row[head.index("accuracy")]) for row in map(_fields, rows))


def _fields(row: list[str]) -> list[str]:
    """A row whose configuration, in quotes, has commas."""
    import csv

    return next(csv.reader([",".join(row)]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(opened: Any, scheme: str) -> None:
    found = opened(width=400, height=800, color_scheme=scheme)
    page = found.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    page.locator("#affinity").scroll_into_view_if_needed()
    page.locator("#affinity .plot .main-svg").first.wait_for(state="visible")
    box = page.locator("#affinity .plot").bounding_box()
    assert box is not None and box["width"] <= 400 < box["height"], "panels stand below one another"
    assert found.errors == []


def test_on_paper_every_figure_is_drawn_in_light_colours(opened: Any) -> None:
    page = opened(color_scheme="dark").page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function("document.querySelectorAll('.plot .main-svg').length >= 10")
    assert page.evaluate("document.body.offsetWidth") == 700
    ink = "getComputedStyle(document.documentElement).getPropertyValue('--paper').trim()"
    assert page.evaluate(ink) == "#ffffff"
    assert page.pdf().startswith(b"%PDF")


def test_without_scripts_tables_and_data_can_be_read(opened: Any) -> None:
    page = opened(java_script_enabled=False).page
    assert page.locator("noscript").inner_text().startswith("Scripts are off")
    assert page.locator("#ranking-table tbody tr").count() > 10
    assert page.locator("#csv-curves-trials").text_content().startswith("record,trial,epoch")
