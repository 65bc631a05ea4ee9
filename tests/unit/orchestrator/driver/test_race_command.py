"""The command line of races: what is refused, what a dry run shows, how a race is told."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from racing import Workers, searched
from rich.console import Console

from orchestrator.cli.main import execute
from orchestrator.ledger import StudyStore
from orchestrator.reports.race import race_blocks, race_sentences
from orchestrator.statistics.evidence import Differences, log_evidence
from orchestrator.statistics.noise import ResidualNoise
from orchestrator.statistics.optimism import optimism
from orchestrator.statistics.race import decide
from orchestrator.statistics.race_records import Terms, course_of
from orchestrator.study import estimate
from orchestrator.tables import Section
from orchestrator.tables.terminal import render

LEVELS = {0: 0.60, 1: 0.62, 2: 0.61}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "30"], "add --race"),
        (["--alpha", "0.1"], "add --race"),
        (["--dry-run"], "add --race"),
        (["--race", "--seeds", "4,5"], "chooses its seeds by itself"),
        (["--race", "--retrain"], "trains what it scores"),
        (["--race", "--top", "1"], "needs two finalists"),
        (["--race", "--alpha", "2"], "2 is not between 0 and 1"),
        (["--race", "--budget", "1"], "are too few for one fresh seed"),
    ],
)
def test_options_that_make_no_race_are_bad_input(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, store, _ = searched(tmp_path, Workers(LEVELS))
    assert execute(["confirm", "unit", *options, "--storage", str(store.storage.root)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_dry_run_shows_what_would_be_trained_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "estimate", lambda plan, cells: (cells / 100, "cells"))
    _, store, ledger = searched(tmp_path, Workers(LEVELS))
    race = ["confirm", "unit", "--race", "--dry-run", "--within", "1.5", "--storage", str(store.storage.root)]
    assert execute([*race, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["finalists"], found["budget"], found["seeds_if_none_falls"]) == ([1, 2, 0], 30, 10)
    assert found["within"] == pytest.approx(0.015) and found["seeds"][:2] == ["4", "5"]
    assert found["device_hours"] == pytest.approx(0.3) and found["noise"]["nu"] == 4
    assert execute(race) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "trials 1, 2, 0 of unit" in shown and "those left differ by 1.5 points at most" in shown
    assert ledger.storage.names("studies") == ["unit"]


def test_a_study_names_its_races(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, store, _ = searched(tmp_path, Workers({0: 0.5}), states={0: "running"})
    StudyStore(store.storage, "unit-race-0-1").save_study({"name": "unit-race-0-1"})
    assert execute(["results", "unit", "--storage", str(store.storage.root)]) == 0
    assert "orchestrator results unit-race-0-1" in " ".join(capsys.readouterr().out.split())


def course(waves: list[dict[int, float | None]], **rules: Any) -> dict[str, Any]:
    """Of a race between trials 7 and 3, as results have it."""
    terms = Terms(
        study="unit",
        finalists=(7, 3),
        search={7: {"1": 0.6, "2": 0.62}, 3: {"1": 0.58, "2": 0.61}},
        splits=("6-shot",),
        seeds=("4", "5", "6", "7", "8", "9"),
        noise=ResidualNoise(s=0.01, nu=18),
        **{"alpha": 0.05, "within": None, "budget": 12, **rules},
    )
    race = decide(terms.finalists, waves, terms.rules)
    return course_of(terms, race, {}, {})


def told(found: dict[str, Any]) -> str:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        console.print(render(Section("", tuple(race_blocks(found))), 200))
    return " ".join(captured.get().split())


def test_a_race_is_told_while_it_goes_on_and_when_it_has_ended() -> None:
    even: dict[int, float | None] = {7: 0.6, 3: 0.599}
    apart: dict[int, float | None] = {7: 0.65, 3: 0.55}
    assert "The race goes on after 2 fresh seeds and 4 of 12 cells. Trials 7, 3 stand" in told(
        course([even, even])
    )
    ended = told(course([apart] * 6))
    assert "one finalist is left. Trial 7 stands" in ended and "fell after seed" in ended
    assert "the budget is too small for another seed. Trials 7, 3 stand" in told(course([even], budget=3))
    assert "No trial stands" in told(course([{7: None, 3: None}]))
    assert "left at seed 4: a cell failed" in told(course([{7: 0.6, 3: None}]))
    within = told(course([even] * 6, within=0.03))
    assert "those left differ by no more than was asked for" in within and "points at most" in within


def test_a_race_whose_terms_cannot_be_read_says_so() -> None:
    assert list(race_sentences({"problem": "torn"})) == ["The race cannot be shown: torn"]


def test_optimism_is_the_lead_in_the_search_less_the_lead_on_fresh_seeds() -> None:
    search = {1: {"1": 0.62, "2": 0.64}, 2: {"1": 0.60, "2": 0.60}, 3: {"1": 0.58, "2": 0.60}}
    fresh = {1: {"4": 0.6, "5": 0.61}, 2: {"4": 0.6, "5": 0.6}, 3: {"4": 0.59}}
    found = optimism([1, 2, 3], search, fresh, ResidualNoise(s=0.01, nu=30))
    assert found is not None
    assert found.search == pytest.approx((0.03 + 0.04) / 2)
    assert found.fresh == pytest.approx((0.005 + 0.01) / 2)
    # Weights: the winner's ½ and ½ in the search, ¾ and ¼ then; a rival's ¼, but ½ of the one with one seed.
    spread = 2 * 0.5**2 + 4 * 0.25**2 + 0.75**2 + 0.25**2 + 2 * 0.25**2 + 0.5**2
    half = 2.0422724563 * 0.01 * spread**0.5  # t at 97.5 %, 30 degrees of freedom
    assert found.low is not None and found.mean - found.low == pytest.approx(half, rel=1e-6)
    unknown = optimism([1, 2, 3], search, fresh, None)
    assert unknown is not None and unknown.mean == found.mean and unknown.low is None
    assert optimism([1, 2], search, {1: {"4": 0.6}}, None) is None


def test_evidence_needs_a_seed() -> None:
    with pytest.raises(AssertionError, match="one seed"):
        log_evidence(Differences.of([], None))
