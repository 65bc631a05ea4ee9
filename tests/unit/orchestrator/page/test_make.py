"""A page says what the records say, and a check finds every number that does not."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mmap_model.errors import InputError
from orchestrator.ledger import Ledger
from orchestrator.ledger.documents import decode, encode
from orchestrator.reports.page.differences import first_difference
from orchestrator.reports.page.make import check_page, storage_of

CHANGES = 200


def without_library(page: str) -> str:
    return re.sub(r'(<script id="library">).*?(</script>)', r"\1\2", page, flags=re.S)


def test_a_fresh_page_holds_and_an_equal_one_is_made_of_equal_records(made: Any) -> None:
    page = made.page()
    assert page == made.page()
    assert check_page(page, made.open, "page.html") is None


def test_every_changed_digit_is_found_and_its_place_named(made: Any) -> None:
    """In text, tables, embedded CSV and the figures' own settings, wherever it stands."""
    page = without_library(made.page())
    inputs = page.index('<script type="application/json" id="inputs"')
    body = page.index("<body>")
    digits = [i for i in range(body, inputs) if page[i].isdigit() and page[i].isascii()]
    draw = random.Random(3)
    kinds = set()
    for at in draw.sample(digits, CHANGES):
        other = draw.choice([d for d in "0123456789" if d != page[at]])
        changed = page[:at] + other + page[at + 1 :]
        found = first_difference(changed, page)
        assert found is not None and found.page != found.records, page[at - 40 : at + 40]
        assert found.place.startswith(("section ", "head of the page"))
        kinds.add("CSV" if "CSV" in found.place else "figure" if "figure" in found.place else "text")
    assert kinds == {"CSV", "figure", "text"}


@pytest.mark.parametrize(
    ("pattern", "place", "record"),
    [
        (r'<data data-key="[^"]*trials/\d+" data-field="val.mean"[^>]*>(\d)', "verdict", "trials/"),
        (r'<td data-field="val" [^>]*>(?:<b>)?(\d)', "ranking", "trials/"),
        (r'id="csv-curves-trials"[^>]*>[^\n]*\n[^,]*,\d+,\d+,(\d)', "column mean", "trials/"),
        (r'class="spec">[^<]*"dtick": ?(\d)', "drawn", ""),
    ],
)
def test_a_difference_names_section_record_and_both_values(
    made: Any, pattern: str, place: str, record: str
) -> None:
    page = made.page()
    match = re.search(pattern, page)
    assert match is not None
    other = str((int(match[1]) + 1) % 10)
    changed = page[: match.start(1)] + other + page[match.end(1) :]
    found = check_page(changed, made.open, "page.html")
    assert found is not None and place in found.place and record in found.record
    assert "the page has" in found.in_words() and found.page != found.records


def test_what_a_page_was_made_of_and_its_script_cannot_be_changed_unseen(made: Any) -> None:
    page = made.page()
    start = page.index('id="inputs"')
    at = next(i for i in range(page.index(">", start), len(page)) if page[i].isdigit())
    found = check_page(page[:at] + "x" + page[at + 1 :], made.open, "page.html")
    assert found is not None and "made of" in found.place
    at = page.index('<script id="library">') + 5000
    found = check_page(page[:at] + "§" + page[at + 1 :], made.open, "page.html")
    assert found is not None and "script" in found.place


def test_a_record_that_changed_after_the_page_was_made_is_found(made: Any) -> None:
    page = made.page()
    key = next(iter(made.evidence().winner["cells"]))
    for name in ("record.json", "record.copy.json"):
        path = f"cells/{key}/{name}"
        record = decode(made.ledger.storage.read(path))
        record["metrics"]["accuracy"] += 0.01
        made.ledger.storage.write(path, encode(record, record_format=2))
    found = check_page(page, made.open, "page.html")
    assert found is not None and "verdict" in found.place


def test_a_trial_that_came_later_is_found(made: Any, make_study: Any) -> None:
    page = made.page()
    make_study(8)
    assert check_page(page, made.open, "page.html") is not None


def test_what_is_no_page_is_refused(made: Any) -> None:
    with pytest.raises(InputError, match="did not write it"):
        check_page("<html>55.3</html>", made.open, "other.html")


def test_storage_with_hidden_credentials_must_be_given() -> None:
    assert storage_of("runs", None, "page.html") == "runs"
    assert storage_of("s3://***@bucket", "s3://bucket", "page.html") == "s3://bucket"
    for hidden in ("s3://***@bucket", "s3://bucket/runs?***"):
        with pytest.raises(InputError, match="hides"):
            storage_of(hidden, None, "page.html")


def test_a_page_without_test_numbers_has_none(made: Any) -> None:
    page, best = made.page(test=False), made.evidence().winner
    assert best["test"] is not None
    with_test = made.page()
    for record in Ledger(made.ledger.storage).tests(best["cells"]).values():
        assert f"{record['metrics']['accuracy']:.6g}" not in page
    assert f"{100 * best['test']['mean']:.1f} ±" in with_test
    assert f"{100 * best['test']['mean']:.1f} ±" not in page
    assert check_page(page, made.open, "page.html") is None


def test_names_of_others_are_text(made: Any) -> None:
    """Names of tasks, classes, images and commands, which hold tags, quotes, commas and ends of lines."""
    page = made.page(images=3)
    assert "<script>alert" not in page and "<i>the sweep" not in page and "<b>set</b>" not in page
    for shown in (
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "photo &amp; film",
        "the end of &lt;i&gt;the sweep",
    ):
        assert shown in page
    specs = re.findall(r'class="spec">(.*?)</script>', page, re.S)
    assert specs and all(json.loads(spec)["traces"] for spec in specs)
    assert "secret" not in page


def test_a_study_without_any_trial_says_so_in_every_section(make_study: Any) -> None:
    study = make_study(0, looked=False)
    page = study.page()
    for name in ("verdict", "ranking", "search", "curves", "grouping", "errors", "cost", "origin"):
        section = page[page.index(f'<section id="{name}">') :]
        section = section[: section.index("</section>")]
        assert "<p" in section or "<table" in section
    assert "No trial has run yet" in page and "No trial is complete yet" in page
    assert check_page(page, study.open, "page.html") is None


def test_predictions_that_cannot_be_read_are_told_of_and_the_rest_is_shown(make_study: Any) -> None:
    study = make_study(predicted=False)
    page = study.page()
    assert "No predictions of the winner" in page and 'id="csv-curves-tasks"' in page
    assert check_page(page, study.open, "page.html") is None


def test_several_studies_are_beside_each_other_and_then_one_by_one(made: Any, make_study: Any) -> None:
    from orchestrator.reports.page.evidence import PageOptions
    from orchestrator.reports.page.make import make_page

    other = make_study(4, name="other")
    pair = [(made.store, made.ledger), (other.store, other.ledger)]
    page = make_page(pair, PageOptions(), made="2026-05-04 13:00 UTC").html
    ids = re.findall(r' id="([^"]+)"', without_library(page))
    assert len(ids) == len(set(ids)), "names are unique on a page"
    assert {"side-by-side", "study-1", "study-2", "study-1-verdict", "study-2-errors"} <= set(ids)
    assert check_page(page, made.open, "page.html") is None


def test_numbers_of_a_page_name_records_that_exist(made: Any) -> None:
    page = made.page()
    root = Path(made.store.storage.locate(""))
    named = set(re.findall(r'data-key="([^"]+)"', page))
    assert any(name.startswith("cells/") for name in named)
    assert any("/trials/" in name for name in named)
    for name in named:
        found = root / name
        assert found.exists() or list(found.parent.glob(f"{found.name}.*")), name
