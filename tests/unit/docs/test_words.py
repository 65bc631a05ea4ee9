"""Sentences that people read are plain English; see ``docs/words.py``."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

WORDS = runpy.run_path(str(Path(__file__).parents[3] / "docs" / "words.py"), run_name="words")


def test_no_sentence_shows_a_pattern_to_leave() -> None:
    wrong = [f"{found.place}: {found.text!r}: {advice}" for found, advice in WORDS["findings"]()]
    assert not wrong


def test_errors_help_and_pages_are_among_the_strings() -> None:
    places = {found.place.partition(":")[0] for found in WORDS["strings"]()}
    assert {"README.md", "docs/weights.md", "orchestrator/study/model.py"} <= places
    assert "orchestrator sweep --help" in places and len(places) > 150


def test_texts_that_no_call_shows_at_once_are_read_too() -> None:
    """Lines that are gathered, yielded or returned, and only then printed."""
    found = {
        text for place, text in WORDS["strings"]() if place.startswith("orchestrator/reports/ranking.py")
    }
    assert "No trial is complete yet." in found


@pytest.mark.parametrize(
    "text",
    [
        "'x' is no value",
        "Nobody drives it",
        "its last words: out of memory",
        "their work goes elsewhere",
        "every look is recorded",
        "Ray ends it the hard way",
        "# A method of your own",
        "Slot 3 has not been heard of for 25 s",
        "the workbench goes on",
        "Variable that the job gets sealed",
        "Ended at once. The same command goes on",
    ],
)
def test_what_was_once_written_is_found(text: str) -> None:
    assert any(re.search(pattern, text) for pattern in WORDS["PATTERNS"])


def test_messages_that_are_explained_exist() -> None:
    """Every message of the page on troubles is one that the software has, in these words."""
    page = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    said = [found.text for found in WORDS["strings"]() if found.place.partition(":")[0].endswith(".py")]
    explained = re.findall(r"^\| (`[^|]*`[^|]*) \|", page, re.M)
    assert len(explained) > 10
    for cell in explained:
        for message in re.findall(r"`([^`]*…[^`]*)`", cell):
            parts = [part.strip() for part in message.split("…") if len(part.strip()) > 3]
            assert any(all(part in text for part in parts) for text in said), message
