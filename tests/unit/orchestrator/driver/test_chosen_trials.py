"""Chosen trials as a study of their own: its record is what it is, whatever the search was."""

from __future__ import annotations

from pathlib import Path

import pytest
from racing import Workers, searched

from mmap_model.configuration import Seeds
from mmap_model.errors import InputError
from orchestrator.driver.chosen_trials import complete_trials, fitting, only_trials
from orchestrator.study import check_rerun, study_from_plain
from orchestrator.study.model import NAME_LENGTH

SEARCHES = {
    "asha": ["search.scheduler=asha"],
    "stages": ["search.scheduler=seeds"],
    "options": ["search.sampler=tpe", "search.sampler_options={n_startup_trials: 3}"],
    "objectives": ["search.objectives=[accuracy, -parameters]", "search.scheduler=none"],
    "constraints": ["search.constraints=['parameters<=20000']"],
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_study_of_chosen_trials_can_be_continued_whatever_was_searched(name: str, tmp_path: Path) -> None:
    plan, store, _ = searched(tmp_path, Workers({0: 0.5, 1: 0.6}), *SEARCHES[name])
    study = only_trials(plan, store.load_trials(), (Seeds.both(4),), "further").study
    assert not study.search.is_staged and study.search.scheduler.name == "none"
    stored = study_from_plain(study.to_plain(), "study.json")
    check_rerun(stored, study)
    assert stored.to_plain() == study.to_plain()


def test_trials_that_are_not_complete_are_refused(tmp_path: Path) -> None:
    _, store, _ = searched(tmp_path, Workers({0: 0.5, 1: 0.6}), states={1: "pruned"})
    trials = store.load_trials()
    assert [trial.number for trial in complete_trials(trials, [0, 0])] == [0]
    for number, said in ((1, "trial 1 is pruned"), (7, "trial 7 is unknown")):
        with pytest.raises(InputError, match=said):
            complete_trials(trials, [number])


def test_a_long_name_is_cut_to_the_same_one_each_time() -> None:
    long = "study-" * 30
    assert fitting("short") == "short"
    assert len(fitting(long)) <= NAME_LENGTH and fitting(long) == fitting(long) != fitting(long + "x")
