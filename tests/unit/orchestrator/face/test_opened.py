"""A study opened in Python: complete tables, equal to what the records say."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import orchestrator as mo
from mmap_model.errors import InputError
from orchestrator.face.frames import frame
from orchestrator.ledger import Ledger, StudyStore, TrialRecord


@pytest.fixture
def runs(first_records: Path) -> Path:
    return first_records / "runs"


def test_trials_and_ranking_are_those_of_the_results(runs: Path) -> None:
    opened = mo.open("drawn", storage=str(runs))
    results = opened.results
    ranking, trials = opened.ranking(), opened.trials()
    complete = [row for row in results["trials"] if row["val"]]
    assert ranking["row"].tolist() == [f"trial {row['number']}" for row in complete] + [
        row["name"] for row in results["baselines"]
    ]
    assert ranking["validation_mean"].tolist()[: len(complete)] == [row["val"]["mean"] for row in complete]
    assert trials["trial"].tolist() == sorted(row["number"] for row in results["trials"])
    best = trials[trials["rank"] == 1].iloc[0]
    assert (best["trial"], best["config/lr"]) == (opened.best.trial, opened.best.config["lr"])
    assert opened.best.validation_mean == best["validation_mean"] == max(trials["validation_mean"])


def test_every_cell_of_trials_and_reference_rows_has_a_row_with_its_numbers(runs: Path) -> None:
    opened = mo.open("drawn", storage=str(runs))
    store, ledger = StudyStore(runs, "drawn"), Ledger(runs)
    expected = [key for trial in store.load_trials() for key in trial.keys]
    expected += [cell["key"] for _, row in sorted(store.load_baselines().items()) for cell in row["cells"]]
    cells = opened.cells()
    assert cells["key"].tolist() == expected and set(cells["state"]) == {"finished"}
    for _, cell in cells.iterrows():
        metrics = ledger.get(cell["key"])["metrics"]  # type: ignore[index]
        assert cell["accuracy"] == metrics["accuracy"]
        assert {t: cell[f"accuracy/{t}"] for t in metrics["tasks"]} == {
            t: numbers["accuracy"] for t, numbers in metrics["tasks"].items()
        }


def test_curves_have_every_epoch_of_every_cell(runs: Path) -> None:
    opened = mo.open("drawn", storage=str(runs))
    curves, ledger = opened.curves("arrow"), Ledger(runs)
    rows = curves.to_pylist()
    for key in set(curves["key"].to_pylist()):
        told = [(row["epoch"], row["accuracy"]) for row in rows if row["key"] == key]
        assert told == [(report["epoch"], report["accuracy"]) for report in ledger.history(key)]


def test_the_curve_of_a_trial_that_was_stopped_early_is_what_its_record_has(tmp_path: Path) -> None:
    store = StudyStore(tmp_path, "demo")
    store.save_study({"name": "demo"})
    cells = [{"key": f"k{s}", "split": "1-shot", "seed": str(s), "partition": [[0, 1]]} for s in (1, 2)]
    epochs = [{"epoch": e, "mean": 0.5, "values": [0.4 + e / 10, 0.6 - e / 10]} for e in (1, 2)]
    point = {"method": "mmap", "settings": {"prompt_length": 4}, "recipe": {"lr": 0.01}}
    given = {"number": 0, "state": "pruned", "cells": cells, "epochs": epochs, "point": point}
    store.save_trial(TrialRecord.from_dict(given))
    opened = mo.OpenStudy(_stored(tmp_path))
    curves = opened.curves()
    assert list(zip(curves["key"], curves["epoch"], curves["accuracy"], strict=True)) == [
        (f"k{seed}", epoch["epoch"], epoch["values"][seed - 1]) for seed in (1, 2) for epoch in epochs
    ]
    found = opened.cells()
    assert found["state"].tolist() == ["unfinished"] * 2
    assert found["partition"].tolist() == ["[[0, 1]]"] * 2
    trials = opened.trials()
    assert trials["state"].tolist() == ["pruned"] and trials["rank"].isna().all()
    with pytest.raises(InputError, match="no complete trial"):
        _ = opened.best


def test_predictions_are_all_images_with_words_for_their_classes(runs: Path) -> None:
    opened = mo.open("drawn", storage=str(runs))
    key = opened.best.cells[0]
    stored = pq.read_table(io.BytesIO(Ledger(runs).read_file(key, "predictions.parquet")))
    found = opened.predictions(key, form="arrow")
    assert found["sample"].to_pylist() == stored["sample"].to_pylist()
    assert found["nll"].to_pylist() == stored["nll"].to_pylist()
    document = json.loads(Ledger(runs).read_file(key, "prompts.json"))
    classes = {task["name"]: task["classes"] for task in document["tasks"]}
    for row in found.to_pylist():
        assert row["label_name"] == classes[row["task"]][row["label"]]
        assert row["predicted"] == classes[row["task"]][row["top_classes"][0]]
    assert opened.predictions(key[:16])["sample"].tolist() == stored["sample"].to_pylist()


def test_predictions_on_test_images_come_from_their_own_record(runs: Path) -> None:
    ledger = Ledger(runs)
    opened = mo.open("drawn", storage=str(runs))
    cells = opened.cells()
    scored = [k for k in cells["key"] if ledger.test(k) is not None]
    unscored = [k for k in cells["key"] if k not in scored]
    for key in scored:
        test = ledger.test(key)
        found = opened.predictions(key, "test", form="arrow")
        assert test is not None and found.num_rows == sum(test["metrics"]["images"].values())
    for key in unscored:
        with pytest.raises(InputError, match="no predictions on test images"):
            opened.predictions(key, "test")
    assert scored or unscored


def test_a_key_that_no_cell_or_several_have_is_refused_in_words(runs: Path) -> None:
    opened = mo.open("drawn", storage=str(runs))
    with pytest.raises(InputError, match="no cell begins"):
        opened.predictions("zz")
    with pytest.raises(InputError, match=r"cells begin"):
        opened.predictions("")


def test_a_study_that_was_never_run_is_refused_with_the_nearest_name(runs: Path) -> None:
    with pytest.raises(InputError, match="never run") as caught:
        mo.open("drwn", storage=str(runs))
    assert "drawn" in str(caught.value)


def test_columns_of_mixed_kinds_become_text_and_nulls_stay_nulls() -> None:
    rows = [{"a": 1, "b": "x"}, {"a": None, "b": 2}, {"b": [1]}]
    table = frame(rows, ("a", "b", "c"), "arrow")
    assert table.column_names == ["a", "b", "c"]
    assert table["a"].type == pa.int64() and table["a"].to_pylist() == [1, None, None]
    assert table["b"].to_pylist() == ['"x"', "2", "[1]"]
    pandas = frame(rows, ("a", "b"), "pandas")
    assert str(pandas["a"].dtype) == "Int64" and pandas["a"].isna().tolist() == [False, True, True]
    with pytest.raises(ValueError, match="'pandas' or 'arrow'"):
        frame(rows, (), "polars")  # type: ignore[call-overload]


def test_importing_the_packages_imports_nothing_heavy() -> None:
    code = (
        "import sys, orchestrator, mmap_model; "
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'numpy', 'pydantic', 'rich'}; "
        "print(sorted(heavy & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_opening_a_study_imports_neither_torch_nor_ray(runs: Path) -> None:
    code = (
        "import sys, orchestrator as mo; "
        f"found = mo.open('drawn', storage={str(runs)!r}); found.ranking(); found.cells(); found.curves(); "
        "print(found, sorted({'torch', 'ray', 'mlflow', 'open_clip'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().endswith(": 2 complete> []")


def _stored(root: Path):  # type: ignore[no-untyped-def]
    from orchestrator.face.stored import Stored

    return Stored(None, StudyStore(root, "demo"), Ledger(root))  # type: ignore[arg-type]
