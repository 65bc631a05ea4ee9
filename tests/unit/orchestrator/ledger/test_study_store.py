"""Trials, looks, baselines and invocations of a study come back as they were kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept_cell import KEY

from mmap_model.errors import InputError
from orchestrator.ledger import (
    Invocation,
    StudyStore,
    TrialRecord,
)


def test_trials_come_back_by_number(root: str) -> None:
    store = StudyStore(root, "demo")
    for number in (10, 9, 0):
        store.save_trial(TrialRecord(number=number, params={"lr": 0.1 * number}, fence=1))
    store.save_trial(TrialRecord(number=9, state="complete", fence=1, value=0.5))
    trials = StudyStore(root, "demo").load_trials()
    assert [t.number for t in trials] == [0, 9, 10]
    assert (trials[1].state, trials[1].value) == ("complete", 0.5)
    assert store.trial_numbers() == [0, 9, 10]


def test_a_damaged_trial_is_left_out_and_reported(root: str) -> None:
    store = StudyStore(root, "demo")
    store.save_trial(TrialRecord(number=0))
    store.save_trial(TrialRecord(number=1))
    store.storage.write("studies/demo/trials/0.json", b'{"number"')
    assert [t.number for t in store.load_trials()] == [1]
    assert "trials/0.json" in store.damaged[0]


def test_study_file_looks_baselines_and_invocations(root: str) -> None:
    store = StudyStore(root, "demo")
    assert not store.exists() and store.load_test_evaluations() == []
    store.save_study({"name": "demo", "seeds": [1, 2]})
    store.record_test_evaluation(reason="end of sweep", keys=[KEY])
    store.record_test_evaluation(reason="confirm", keys=[])
    store.save_baseline("zero_shot", {"cells": []})
    store.save_baseline("zero_step", {"cells": []})
    first = Invocation(id="20260101000000-0001", trained=[KEY], timing={"training": 1.5})
    store.save_invocation(Invocation(id="20260101000001-0000"))
    store.save_invocation(first)
    assert store.load_study() == {"name": "demo", "seeds": [1, 2]}
    assert [look["reason"] for look in store.load_test_evaluations()] == ["end of sweep", "confirm"]
    assert set(store.load_baselines()) == {"zero_shot", "zero_step"}
    assert [i.id for i in store.load_invocations()] == ["20260101000000-0001", "20260101000001-0000"]
    assert store.load_invocations()[0] == first


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a study"):
        StudyStore(tmp_path, name)
