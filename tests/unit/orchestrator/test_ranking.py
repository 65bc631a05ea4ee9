"""Results of a study from its records alone."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmap_model.errors import InputError
from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.reports.ranking import ranked, report
from orchestrator.statistics.ranking import build_results, flat_config
from orchestrator.tables.terminal import render

POINT = {
    "method": "mmap",
    "settings": {"prompt_length": 4},
    "recipe": {"lr": 0.01},
    "grouping": {
        "mode": "gradient",
        "snapshot_every": 10,
        "probe": {"snapshot_every": 2, "recipe": {"lr": 0.1}},
    },
}


class Study:
    """Records written as a driver and its workers write them."""

    def __init__(self, root: Path) -> None:
        self.ledger = Ledger(root)
        self.store = StudyStore(root, "demo")
        self.store.save_study({"name": "demo"})

    def cells(self, name: str, accuracies: dict[str, list[float | None]]) -> list[dict[str, Any]]:
        """Cells by split; None leaves one unfinished. Task accuracies lie 0.1 on either side of the mean."""
        cells = []
        for split, values in accuracies.items():
            for seed, value in enumerate(values, start=1):
                key = f"{name}-{split}-{seed}"
                cells.append(
                    {"key": key, "split": split, "seed": str(seed), "partition": None, "parameters": 9}
                )
                if value is not None:
                    tasks = {"clipart": {"accuracy": value + 0.1}, "sketch": {"accuracy": value - 0.1}}
                    self.ledger.commit(key, {"metrics": {"accuracy": value, "tasks": tasks}}, {})
        return cells

    def trial(
        self, number: int, *accuracies: float | None, state: str = "complete", **fields: Any
    ) -> TrialRecord:
        cells = self.cells(f"t{number}", {"3-shot": list(accuracies)})
        given = {"number": number, "state": state, "point": POINT, "cells": cells, "parameters": 9}
        trial = TrialRecord.from_dict({**given, "share": 0.001, "device_seconds": 2.0, **fields})
        self.store.save_trial(trial)
        return trial

    def results(self) -> dict[str, Any]:
        results = build_results(StudyStore(self.store.storage, "demo"), Ledger(self.store.storage))
        json.dumps(results, allow_nan=False)
        return results


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_trials_are_ranked_by_validation_mean_over_seeds(study: Study) -> None:
    study.trial(0, 0.40, 0.50, 0.60)
    study.trial(1, 0.50, 0.60, 0.70)
    study.trial(2, 0.20, 0.30, 0.41)
    results = study.results()
    assert [row["number"] for row in results["trials"]] == [1, 0, 2] and results["winner"] == 1
    best = results["trials"][0]
    assert best["val"]["mean"] == pytest.approx(0.6) and best["val"]["std"] == pytest.approx(0.1)
    assert best["val"]["n"] == 3 and best["test"] is None
    assert best["config"]["prompt_length"] == 4 and best["device_seconds"] == 2.0
    assert best["tasks"]["clipart"]["mean"] == pytest.approx(0.7)


def test_rows_say_whether_they_are_significantly_worse_than_the_best(study: Study) -> None:
    study.trial(0, 0.50, 0.60, 0.70)
    study.trial(1, 0.10, 0.19, 0.31)
    study.trial(2, 0.48, 0.60, 0.69)
    study.trial(3, 0.49, 0.58, 0.69)
    study.trial(4, 0.99, 0.99, state="pruned")
    results = study.results()
    by_number = {row["number"]: row for row in results["trials"]}
    assert {n: row["separable_from_best"] for n, row in by_number.items()} == {
        0: None, 1: True, 2: False, 3: False, 4: None
    }  # fmt: skip
    assert by_number[1]["difference_from_best"]["mean"] == pytest.approx(-0.4)
    found = results["comparison"]
    assert (found["rows"], found["blocks"], found["nu"], found["reason"]) == (4, 3, 6, None)
    assert found["threshold"] == pytest.approx(found["q"] * found["s"] / 3**0.5)


def test_marks_among_equal_trials_account_for_the_selection_of_the_best(tmp_path: Path) -> None:
    rng = random.Random(0)
    marked = 0
    for i in range(12):
        study = Study(tmp_path / str(i))
        for number in range(20):
            study.trial(number, *(0.5 + rng.gauss(0, 0.01) for _ in range(3)))
        marked += any(row["separable_from_best"] for row in study.results()["trials"])
    assert marked <= 3, "one in twenty such studies should have a mark"


def test_seeds_at_several_splits_are_the_blocks_of_the_comparison(study: Study) -> None:
    errors = [(0.01, -0.01, -0.01, 0.012), (-0.01, 0.01, 0.011, -0.01), (0.003, 0.0, 0.001, -0.002)]
    for number, (level, error) in enumerate(zip((0.6, 0.59, 0.2), errors, strict=True)):
        values = [level + e for e in error]
        cells = study.cells(f"t{number}", {"3-shot": values[:2], "6-shot": values[2:]})
        study.store.save_trial(TrialRecord(number=number, state="complete", point=POINT, cells=cells))
    results = study.results()
    found = results["comparison"]
    assert (found["unit"], found["blocks"], found["nu"]) == ("seed × split", 4, 6)
    assert [row["separable_from_best"] for row in results["trials"]] == [None, False, True]


def test_trials_of_the_same_cells_are_compared_once_and_named(study: Study) -> None:
    first = study.trial(0, 0.60, 0.61, 0.59)
    study.trial(1, 0.58, 0.6, 0.6)
    study.store.save_trial(TrialRecord.from_dict({**first.to_dict(), "number": 2}))
    results = study.results()
    assert results["comparison"]["rows"] == 2 and results["comparison"]["same_cells"] == [[2, 0]]
    text = shown(results)
    assert "Compared once, because they share all cells: trial 2 with 0" in text


def test_reference_rows_are_not_marked(study: Study) -> None:
    study.trial(0, 0.5, 0.6)
    study.trial(1, 0.4, 0.6)
    cells = study.cells("zero", {"3-shot": [0.1, 0.1]})
    study.store.save_baseline("zero_shot", {"state": "complete", "point": {}, "cells": cells})
    (baseline,) = study.results()["baselines"]
    assert baseline["separable_from_best"] is None and baseline["difference_from_best"]["mean"] < 0


def test_the_ranking_says_what_its_marks_rest_on_or_why_there_are_none(study: Study) -> None:
    study.trial(0, 0.60, 0.61, 0.59)
    assert "rank 1 (" not in shown(study.results())
    for number in range(1, 7):
        study.trial(number, 0.58 + 0.001 * number, 0.6, 0.6 - 0.002 * number)
    study.trial(7, 0.1, 0.3, 0.8)
    text = shown(study.results())
    assert "≈ not significantly different from rank 1 (Tukey's test at 95 %, 7 complete trials" in text
    assert "? not compared with rank 1: the variance over the seeds is an outlier" in text
    assert "Trial: 7" in text and "8? " in text


def test_one_seed_says_that_nothing_can_be_compared(study: Study) -> None:
    study.trial(0, 0.60)
    study.trial(1, 0.20)
    results = study.results()
    assert results["trials"][1]["separable_from_best"] is None
    assert "No trial can be called worse than rank 1: with one seed there is no spread" in shown(results)


def shown(results: dict[str, Any]) -> str:
    console = Console(width=110, record=True)
    console.print(render(report(results), 110))
    return " ".join(console.export_text().replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.mark.parametrize("state", ["running", "pruned", "failed"])
def test_only_complete_trials_have_a_mean(study: Study, state: str) -> None:
    study.trial(0, 0.3, 0.3)
    epochs = [{"epoch": 1, "mean": 0.9, "values": [0.9, 0.9]}]
    study.trial(1, 0.9, 0.9, state=state, epochs=epochs, error="diverged" if state == "failed" else None)
    results = study.results()
    assert [row["number"] for row in results["trials"]] == [0, 1] and results["winner"] == 0
    other = results["trials"][1]
    assert other["val"] is None and other["separable_from_best"] is None and other["last_epoch"] == epochs[0]


def test_a_lost_replicate_takes_the_mean_away(study: Study) -> None:
    study.trial(0, 0.5, 0.5)
    study.trial(1, 0.9, 0.9)
    study.ledger.storage.write("cells/t1-3-shot-2/record.json", b"{")
    study.ledger.storage.write("cells/t1-3-shot-2/record.copy.json", b"{")
    results = study.results()
    assert results["winner"] == 0 and results["trials"][1]["val"] is None
    assert results["damaged"] and results["cells"]["finished"] == 3


def test_splits_are_averaged_before_seeds(study: Study) -> None:
    cells = study.cells("t0", {"3-shot": [0.2, 0.4], "6-shot": [0.4, 0.8]})
    study.store.save_trial(TrialRecord(number=0, state="complete", point=POINT, cells=cells))
    row = study.results()["trials"][0]
    assert row["val"]["mean"] == pytest.approx(0.45) and row["val"]["n"] == 2
    assert row["val"]["std"] == pytest.approx(0.3 / 2**0.5)
    assert {s: v["mean"] for s, v in row["per_split"].items()} == pytest.approx(
        {"3-shot": 0.3, "6-shot": 0.6}
    )


def test_reference_rows_and_the_gain_over_zero_shot(study: Study) -> None:
    study.trial(0, 0.5, 0.7)
    cells = study.cells("zero", {"3-shot": [0.4, 0.5]})
    study.store.save_baseline(
        "zero_shot", {"state": "complete", "point": {"method": "zero_shot"}, "cells": cells}
    )
    study.store.save_baseline("zero_step", {"state": "running", "point": POINT, "cells": []})
    results = study.results()
    assert [(b["name"], b["val"] and b["val"]["mean"]) for b in results["baselines"]] == [
        ("zero_shot", pytest.approx(0.45)), ("zero_step", None)
    ]  # fmt: skip
    gain = results["trials"][0]["gain"]
    assert gain["mean"] == pytest.approx(0.15) and gain["worst_task_gain"] == pytest.approx(0.15)
    assert gain["delta_m"] == pytest.approx(100 * (0.15 / 0.55 + 0.15 / 0.35) / 2)


def test_test_numbers_come_only_from_looks_that_cover_all_seeds(study: Study) -> None:
    first, second = study.trial(0, 0.5, 0.7), study.trial(1, 0.4, 0.6)
    for key in first.keys:
        study.ledger.commit_test(key, {"metrics": {"accuracy": 0.45}}, {})
    study.ledger.commit_test(second.keys[0], {"metrics": {"accuracy": 0.99}}, {})
    assert study.results()["trials"][0]["test"] is None, "no look is on record"
    study.store.record_test_evaluation(reason="end of sweep", keys=[*first.keys, *second.keys])
    results = study.results()
    assert results["trials"][0]["test"] == {"mean": 0.45, "std": 0.0, "n": 2, "low": 0.45, "high": 0.45}
    assert results["trials"][1]["test"] is None
    assert results["looks"][0]["reason"] == "end of sweep" and not results["extended_after_look"]
    study.trial(2, 0.1, 0.1)
    assert study.results()["extended_after_look"]


def test_gains_of_the_winner_on_test_are_paired_by_seed_and_only_over_its_own_start(study: Study) -> None:
    best = study.trial(0, 0.5, 0.7)
    zero_shot = study.cells("zero", {"3-shot": [0.4, 0.5]})
    start = study.cells("start", {"3-shot": [0.4, 0.5]})
    study.store.save_baseline("zero_shot", {"state": "complete", "point": {}, "cells": zero_shot})
    study.store.save_baseline("zero_step", {"state": "complete", "point": POINT, "cells": start})
    scores = dict(
        zip(
            [*best.keys, *(c["key"] for c in [*zero_shot, *start])],
            (0.6, 0.8, 0.5, 0.6, 0.5, 0.5),
            strict=True,
        )
    )
    for key, accuracy in scores.items():
        study.ledger.commit_test(key, {"metrics": {"accuracy": accuracy}}, {})
    study.store.record_test_evaluation(reason="end of sweep", keys=list(scores))
    gains = study.results()["test_gains"]
    assert gains["zero_shot"]["mean"] == pytest.approx(0.15) and gains["zero_shot"]["n"] == 2
    assert gains["zero_step"]["mean"] == pytest.approx(0.2)
    other = {**POINT, "recipe": {"lr": 0.5}}
    study.store.save_baseline("zero_step", {"state": "complete", "point": other, "cells": start})
    assert set(study.results()["test_gains"]) == {"zero_shot"}, "the start of another trial"


def test_counts_and_timing_of_the_last_invocation(study: Study) -> None:
    trial = study.trial(0, 0.5, None, state="failed")
    study.ledger.record_failure(trial.keys[1], "diverged")
    study.store.save_invocation(Invocation(id="1", trained=["a", "b"], timing={"training": 9.0}))
    study.store.save_invocation(Invocation(id="2", trained=trial.keys[:1], timing={"training": 1.0}))
    results = study.results()
    assert results["cells"] == {"finished": 1, "failed": 1, "trained_now": 1}
    assert results["timing"] == {"training": 1.0} and results["device_seconds"] == 2.0


def test_a_study_without_trials_has_results(study: Study) -> None:
    results = study.results()
    assert results["trials"] == [] and results["winner"] is None and results["cells"]["trained_now"] == 0


def test_an_unknown_study_is_an_input_error(study: Study) -> None:
    with pytest.raises(InputError, match="studies there: demo"):
        build_results(StudyStore(study.store.storage, "dmeo"), study.ledger)


def test_settings_stand_under_their_own_names() -> None:
    assert flat_config(POINT) == {
        "method": "mmap",
        "prompt_length": 4,
        "mode": "gradient",
        "snapshot_every": 10,
        "lr": 0.01,
        "probe.snapshot_every": 2,
        "probe.recipe.lr": 0.1,
    }


def test_reading_results_imports_nothing_heavy(study: Study) -> None:
    for number, lift in enumerate((0.0, 0.01, 0.03)):
        study.trial(number, 0.5 + lift, 0.7, 0.6 - lift)
    program = (
        "import sys\nfrom orchestrator.ledger import Ledger, StudyStore\n"
        "from orchestrator.statistics.ranking import build_results\n"
        "build_results(StudyStore(sys.argv[1], 'demo'), Ledger(sys.argv[1]))\nprint(*sys.modules)"
    )
    command = [sys.executable, "-c", program, study.store.storage.root]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "mlflow", "optuna", "scipy", "pyarrow"} & set(done.stdout.split())


def test_without_validation_images_there_are_test_numbers_only(study: Study) -> None:
    keys = ["paper-1", "paper-2"]
    tasks = {"clipart": {"loss": 0.1}, "sketch": {"loss": 0.2}}
    for key in keys:
        study.ledger.commit(key, {"metrics": {"accuracy": None, "tasks": tasks}}, {})
        study.ledger.commit_test(key, {"metrics": {"accuracy": 0.5}}, {})
    cells = [
        {"key": key, "split": "3-shot", "seed": key[-1], "partition": None, "parameters": 9} for key in keys
    ]
    study.store.save_trial(TrialRecord(number=0, state="complete", point=POINT, cells=cells))
    study.store.record_test_evaluation(reason="end", keys=keys, invocation="1")
    found = study.results()
    (trial,) = found["trials"]
    assert (found["winner"], trial["val"], trial["tasks"]) == (None, None, {})
    assert trial["test"]["mean"] == 0.5 and trial["test"]["n"] == 2
    assert [row["number"] for row in ranked(found)] == [0]
    console = Console(width=110, record=True)
    console.print(render(report(found), 110))
    text = console.export_text()
    assert "no validation images" in text and "50.0" in text and "rank 1 by validation" not in text
