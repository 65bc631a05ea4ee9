"""What a study means for whoever has to decide."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.reports.per_seed import seeds_of
from orchestrator.reports.ranking import report
from orchestrator.reports.verdict import Verdict, settings_in_words, verdict
from orchestrator.statistics.ranking import build_results
from orchestrator.tables import Section
from orchestrator.tables.registry import get_format
from orchestrator.tables.terminal import render

ROWS = {0: (0.560, 0.572, 0.565), 1: (0.566, 0.551, 0.560), 2: (0.538, 0.555, 0.563), 3: (0.40, 0.41, 0.40)}
TIMING = {"total": 400.0, "start_up": 30.0, "confirm": 10.0}


def point(lr: float) -> dict[str, Any]:
    return {
        "method": "mmap",
        "settings": {"prompt_length": 4, "source_rows": 4, "source_cols": 32},
        "recipe": {"lr": lr},
    }


def study(root: Path, rows: dict[int, tuple[float, ...]], *, runs: int = 1) -> dict[str, Any]:
    """Results of complete trials of these accuracies by seed, from records as a driver writes them."""
    store, ledger = StudyStore(root, "demo"), Ledger(root)
    store.save_study({"name": "demo"})
    for number, values in rows.items():
        cells = []
        for seed, value in enumerate(values, start=1):
            key = f"t{number}-{seed}"
            ledger.commit(key, {"metrics": {"accuracy": value, "tasks": {"sketch": {"accuracy": value}}}}, {})
            cells.append({"key": key, "split": "3-shot", "seed": str(seed)})
        store.save_trial(
            TrialRecord(
                number=number,
                state="complete",
                point=point(0.01 * (number + 1)),
                cells=cells,
                parameters=3240,
                share=0.0023,
            )
        )
    for number in range(runs):
        keys = [f"t{n}-{s}" for n, values in rows.items() for s in range(1, len(values) + 1)]
        store.save_invocation(Invocation(id=str(number), trained=keys, timing=TIMING))
    return build_results(store, ledger)


def said(found: Verdict) -> dict[str, str]:
    return {name.rstrip(":"): text.replace("\N{NO-BREAK SPACE}", " ") for name, text in found.facts}


def test_a_close_race_names_the_winner_how_sure_it_is_and_what_would_settle_it(tmp_path: Path) -> None:
    results = study(tmp_path, ROWS)
    found = verdict(results)
    lines = said(found)
    assert found.trial == 0 and found.probability == results["trials"][0]["estimate"]["best"]
    assert lines["Winner"].startswith("trial 0: learning rate 0.01; 3 240 trained parameters, 0.23 %")
    assert "56.6 % on validation over 3 seeds" in lines["Accuracy"] and "on these seeds" in lines["Accuracy"]
    assert (
        "best of the 4 complete trials with probability" in lines["Confidence"]
        and "trial 1" in lines["Confidence"]
    )
    assert lines["Undecided"].startswith("trials 1 and 2 cannot be told apart from it")
    assert "40 further seeds for 3 finalists" in lines["One hour"] and "more trials" in lines["One hour"]
    assert found.next is not None and found.next.startswith("orchestrator confirm demo --")
    assert found.next.endswith("--race")


def test_a_trial_that_violates_a_constraint_is_not_the_winner(tmp_path: Path) -> None:
    results = study(tmp_path, ROWS)
    results["trials"][0]["violated"] = ["parameters<=100"]
    found = verdict(results)
    assert found.trial == 1 and "3 complete trials" in said(found)["Confidence"]


def test_a_race_has_the_best_of_those_left_as_its_winner(tmp_path: Path) -> None:
    results = study(tmp_path, ROWS)
    race = {"standing": [1, 2], "of": {"study": "search"}, "end": "budget"}
    found = verdict({**results, "race": race})
    assert found.trial == 1 and found.next is not None
    assert found.next.startswith("orchestrator export search --") and "--trial 1" in found.next
    goes_on = verdict({**results, "race": {**race, "end": None}})
    assert goes_on.next is not None and goes_on.next.startswith("orchestrator confirm search --")


def test_a_clear_winner_is_to_be_exported(tmp_path: Path) -> None:
    found = verdict(study(tmp_path, {0: (0.80, 0.81, 0.80), 1: (0.40, 0.42, 0.41), 2: (0.41, 0.41, 0.40)}))
    lines = said(found)
    assert found.probability is not None and found.probability > 0.99
    assert lines["Undecided"].startswith("nothing: every other complete trial is significantly worse")
    assert found.next is not None and found.next.startswith("orchestrator export demo")
    assert lines["Seeds"] == "leaving out any one seed, the same trial is first"


def test_a_winner_that_hangs_on_one_seed_is_warned_of(tmp_path: Path) -> None:
    lines = said(verdict(study(tmp_path, {0: (0.50, 0.51, 0.60), 1: (0.53, 0.53, 0.53)})))
    assert lines["Seeds"] == "Warning: the choice hangs on seed 3: without seed 3 trial 1 is first"


def test_one_seed_one_trial_and_none_say_so(tmp_path: Path) -> None:
    one_seed = said(verdict(study(tmp_path / "seed", {0: (0.5,), 1: (0.4,)})))
    assert (
        "with one seed there is no spread" in one_seed["Confidence"]
        and "interval" not in one_seed["Accuracy"]
    )
    one_trial = verdict(study(tmp_path / "trial", {0: (0.5, 0.6)}))
    assert "it is the only complete trial" in one_trial.why and "Confidence" not in said(one_trial)
    none = verdict(study(tmp_path / "none", {}))
    assert none.trial is None and none.next == f"orchestrator status demo --storage {tmp_path / 'none'}"


def test_without_a_time_on_record_nothing_is_promised_of_an_hour(tmp_path: Path) -> None:
    assert "One hour" not in said(verdict(study(tmp_path, ROWS, runs=0)))


def test_many_trials_alike_are_counted_instead_of_named(tmp_path: Path) -> None:
    rows = {n: (0.5 + 0.0001 * n, 0.51 - 0.0001 * (n % 5), 0.505 + 0.0001 * (n % 3)) for n in range(30)}
    found = verdict(study(tmp_path, rows))
    assert "more cannot be told apart" in said(found)["Undecided"]
    assert max(map(len, said(found).values())) < 400


def test_page_ends_with_the_verdict_and_its_command_in_25_lines(tmp_path: Path) -> None:
    results = study(tmp_path, {n: tuple(v + 0.0003 * n for v in ROWS[n % 3]) for n in range(12)})
    found = verdict(results)
    target = io.StringIO()
    console = Console(file=target, width=100, force_terminal=False, color_system=None)
    console.print(render(report(results, conclusion=found, commands=found.commands), 100))
    lines = target.getvalue().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Verdict"))
    assert len(lines[start:]) <= 25 and lines[-1].startswith("Next: orchestrator confirm demo")
    assert all(len(line) <= 100 for line in lines[:-1])


def test_ranking_marks_what_could_be_the_best_apart_from_what_is_not_different(tmp_path: Path) -> None:
    results = study(tmp_path, {**ROWS, 4: (0.53, 0.54, 0.535)})
    by_number = {row["number"]: row for row in results["trials"]}
    assert by_number[1]["could_be_best"] and by_number[3]["could_be_best"] is False
    page = get_format("md").write(report(results))
    assert "2≈*" in page.replace("\\", "") and "one-sided Dunnett" in page and "Tukey's test" in page
    assert sum(row["estimate"]["best"] for row in results["trials"]) == pytest.approx(1)


def test_one_line_per_trial_and_seed(tmp_path: Path) -> None:
    text = get_format("csv").write(Section("", (seeds_of(study(tmp_path, ROWS)),)))
    lines = text.splitlines()
    assert lines[0].startswith("rank,trial,split,seed,validation,test,method,prompt_length")
    assert len(lines) == 1 + 12 and lines[1].startswith("1,0,3-shot,1,56.0") and lines[-1].endswith("t3-3")


def test_settings_are_named_in_words() -> None:
    words = settings_in_words(
        point(0.0035)["settings"] | {"lr": 0.0035, "scale_init": None, "own_choice": True}
    )
    assert words.replace("\N{NO-BREAK SPACE}", " ") == (
        "prompt length 4, source 4 × 32, initial size automatic, learning rate 0.0035, own choice on"
    )
