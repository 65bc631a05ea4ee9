"""Events as JSON lines: complete, as the documentation says, and no danger to the run that writes them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from mmap_model.errors import InputError
from orchestrator.cli.main import execute
from orchestrator.terminal.lines import LineDisplay
from orchestrator.terminal.recorder import EventRecorder
from orchestrator.terminal.words import PHASES
from orchestrator.work.doing import STAGES, Doing
from orchestrator.work.shown import (
    BudgetShown,
    CellFailureShown,
    EpochShown,
    NoteShown,
    Phase,
    PhaseShown,
    Shown,
    SlotShown,
    SlotsShown,
    SweepShown,
    TrialShown,
    WorkShown,
)
from orchestrator.work.shown_json import EVENTS, from_plain, to_plain

BEST = TrialShown(
    number=2, state="complete", values={"lr": 0.1}, mean=0.5, low=0.4, high=0.6, n=3, violated=("a < 1",)
)
ALL: list[Shown] = [
    SweepShown(study="demo", trials=8, epochs=5, done=1, storage="runs", best=BEST),
    PhaseShown(name="search"),
    SlotsShown(count=2),
    SlotShown(slot="0", state="busy", trial=3),
    WorkShown(slot="0", doing=Doing(stage="training", epoch=1, epochs=5, step=2, steps=9, gpu_busy=0.5)),
    TrialShown(number=3, state="failed", values={"groups": None, "b": 4}, error="loss is NaN"),
    EpochShown(trial=3, epoch=1, mean=0.25),
    CellFailureShown(trial=3, key="ab" * 8, error="loss is NaN", failure="nan"),
    NoteShown(text="the server is away\nand slow"),
    BudgetShown(budget="search.hours = 2", running=1),
]
DOCS = Path(__file__).parents[4] / "docs" / "logs.md"


def record(path: Path, events: list[Shown]) -> list[dict[str, Any]]:
    shown: list[Shown] = []
    with EventRecorder(str(path)) as recorder:
        for event in events:
            recorder.beside(shown.append)(event)
    assert shown == events
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_event_comes_back_as_it_was(tmp_path: Path) -> None:
    lines = record(tmp_path / "events.jsonl", ALL)
    assert [from_plain(line) for line in lines] == ALL
    assert {type(event) for event in ALL} == set(EVENTS.values())
    assert all(line["at"].endswith("+00:00") for line in lines)


def test_a_second_run_appends_to_the_events_of_the_first(tmp_path: Path) -> None:
    record(tmp_path / "events.jsonl", ALL)
    assert len(record(tmp_path / "events.jsonl", ALL)) == 2 * len(ALL)


def test_numbers_that_are_none_are_null() -> None:
    assert to_plain(EpochShown(trial=0, epoch=1, mean=math.nan))["mean"] is None


def test_what_a_later_version_adds_is_left_out_and_other_things_are_refused() -> None:
    assert from_plain({"event": "note", "text": "x", "colour": "red"}) == NoteShown(text="x")
    for wrong in ({}, {"event": "party"}, {"event": "epoch", "trial": 1}):
        with pytest.raises(ValueError, match=r"event|missing"):
            from_plain(wrong)


def test_secrets_stay_out_of_the_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "tops3cret")
    lines = record(tmp_path / "events.jsonl", [NoteShown(text="refused: tops3cret")])
    assert lines[0]["text"] == "refused: ***"


def test_a_file_that_takes_no_more_is_told_of_once_and_stops_nothing(tmp_path: Path) -> None:
    shown: list[Shown] = []
    with EventRecorder("/dev/full") as recorder:
        for event in ALL:
            recorder.beside(shown.append)(event)
    notes = [event.text for event in shown if isinstance(event, NoteShown) and "no more events" in event.text]
    assert len(notes) == 1 and len(shown) == len(ALL) + 1


def test_a_file_that_cannot_be_written_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--events"):
        EventRecorder(str(tmp_path / "none" / "events.jsonl"))
    assert execute(["sweep", "demo", "--events", "none/events.jsonl"]) == 2
    assert "none/events.jsonl" in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_the_documentation_lists_every_event_and_field() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (`.*) \|$", DOCS.read_text().split("## Events")[1], re.MULTILINE))
    assert rows.keys() == EVENTS.keys()
    for word, kind in EVENTS.items():
        named = re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", rows[word]))
        expected = [field.name for field in dataclasses.fields(kind)]
        if kind is WorkShown:
            expected += [field.name for field in dataclasses.fields(Doing)]
        assert named == expected, word


def test_every_phase_has_words_and_is_documented() -> None:
    row = next(line for line in DOCS.read_text().splitlines() if line.startswith("| `phase` | `phase`:"))
    documented = re.findall(r"`(\w+)`", row.split("|")[2].split(":")[1])
    assert set(documented) == set(get_args(Phase)) == PHASES.keys() - {"starting"}


def test_the_documentation_lists_every_word_and_key_of_the_lines() -> None:
    from orchestrator.terminal.stamped import StampedLines

    said: list[str] = []
    table = DOCS.read_text().split("## Lines")[1].split("## Events")[0]
    events = [*ALL, *(WorkShown(slot="1", doing=Doing(stage=stage)) for stage in STAGES)]
    events += [BEST, SlotShown(slot="1", state="silent", what="not responding")]
    display = LineDisplay(None)  # type: ignore[arg-type]
    display.lines.say = said.append  # type: ignore[method-assign]
    for event in events:
        display.apply(event)
    said.append(display._still())
    assert isinstance(display.lines, StampedLines) and len(said) > 9
    for line in said:
        word, _, rest = line.partition(" ")
        word = word.rstrip(":")
        row = "\n".join(r for r in table.splitlines() if r.startswith(f"| `{word}` "))
        assert row, line
        for key in re.findall(r"(\w+)=", rest.partition(": ")[0]):
            assert re.search(rf"`{key}\b", row), (line, key)
