"""``--pareto`` and ``--prefer`` from records: results, confirm and export agree on who goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmap_model.errors import InputError
from orchestrator.cli.main import execute
from orchestrator.exporting.choice import choose
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.rows.scoring import finalists
from orchestrator.study import load_study

SIZES = (8000, 2000, 1000, 9000)
LEVELS = (0.61, 0.59, 0.31, 0.21)


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A study with two objectives and a constraint, finished."""
    root = str(tmp_path / "runs")
    overrides = [
        f"storage={root}",
        "search={objectives: [accuracy, -parameters], constraints: ['accuracy>=0.25'], trials: 4}",
    ]
    study = load_study("demo", overrides)
    store, ledger = StudyStore(root, "demo"), Ledger(root)
    store.save_study(study.to_plain())
    for number, (size, level) in enumerate(zip(SIZES, LEVELS, strict=True)):
        cells = []
        for seed, offset in (("1", -0.01), ("2", 0.004), ("3", 0.006)):
            key = f"t{number}-{seed}"
            value = level + offset * (1 + number / 10)
            metrics = {"accuracy": value, "tasks": {"clipart": {"accuracy": value}}}
            cell = {"dataset": "d", "backbone": "b", "configuration": {"partition": None}}
            ledger.commit(key, {"metrics": metrics, "cell": cell, "grouping": None}, {})
            cells.append({"key": key, "split": "3-shot", "seed": seed, "partition": None, "parameters": size})
        store.save_trial(
            TrialRecord(
                number=number,
                state="complete",
                point={"method": "mmap", "settings": {"prompt_length": number}, "recipe": {}},
                cells=cells,
                parameters=size,
                epochs=[{"epoch": 5, "mean": level, "values": []}],
                value=[level, float(size)],
                attributes={"constraints": {"accuracy>=0.25": 0.25 - level}},
            )
        )
    return root


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, (out, err) = execute(arguments), capsys.readouterr()
    assert code == 0, err
    return out


def test_results_print_the_front_and_who_goes_on(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "results", "demo", "--storage", place, "--pareto", "--prefer", "knee")
    assert "Pareto front of accuracy, parameters" in text and "chosen" in text
    assert "Constraints not met: trial 3: accuracy>=0.25" in text
    found = json.loads(printed(capsys, "results", "demo", "--storage", place, "--pareto", "--json"))
    assert found["winner"] == 0 and found["trials"][-1]["violated"] == ["accuracy>=0.25"]
    front = found["pareto"]
    assert front["objectives"] == ["accuracy", "-parameters"] and front["chosen"]["trial"] == 0
    assert [(t["number"], t["on_front"]) for t in front["trials"]] == [(0, True), (1, True), (2, True)]
    assert all(0 <= t["probability"] <= 1 for t in front["trials"]) and front["violated"] == {
        "3": ["accuracy>=0.25"]
    }
    assert "pareto" not in json.loads(printed(capsys, "results", "demo", "--storage", place, "--json"))


def test_a_violator_is_marked_and_no_finalist(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "! does not meet the constraints" in printed(capsys, "results", "demo", "--storage", place)
    trials = StudyStore(place, "demo").load_trials()
    assert [trial.number for trial in finalists(trials, 9)] == [0, 1, 2]


def test_export_takes_the_preferred_trial(place: str) -> None:
    store, ledger = StudyStore(place, "demo"), Ledger(place)
    assert choose(store, ledger)[0].trial == 0
    chosen = choose(store, ledger, prefer="parameters<=1500")[0]
    assert chosen.trial == 2 and "best accuracy with parameters<=1500" in chosen.reason
    with pytest.raises(InputError, match="--trial and --prefer"):
        choose(store, ledger, trial=1, prefer="knee")


def test_a_stored_study_of_several_objectives_reads_back(place: str) -> None:
    stored = StudyStore(place, "demo").load_study()
    assert stored is not None and stored["search"]["objectives"] == ["accuracy", "-parameters"]
    plain = load_study("demo").to_plain()["search"]
    assert not {"objectives", "constraints", "sampler_options"} & set(plain), "records stay as they were"


def test_a_study_without_a_complete_trial_has_no_front(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path / "runs")
    StudyStore(root, "demo").save_study(load_study("demo", [f"storage={root}"]).to_plain())
    assert "No trial is complete yet" in printed(capsys, "results", "demo", "--storage", root, "--pareto")
