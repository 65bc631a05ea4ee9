"""Which cell is exported follows from validation alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmap_model.errors import InputError
from orchestrator.exporting.choice import choose
from orchestrator.ledger import Ledger, StudyStore, TrialRecord

POINT = {"method": "mmap", "settings": {"prompt_length": 4}, "recipe": {"lr": 0.01}}


class Study:
    """Records of trials at two splits, with test numbers that contradict the validation's."""

    def __init__(self, root: Path) -> None:
        self.ledger, self.store = Ledger(root), StudyStore(root, "demo")
        self.store.save_study({"name": "demo"})

    def trial(self, number: int, values: dict[str, list[float | None]], state: str = "complete") -> None:
        cells: list[dict[str, Any]] = []
        for split, numbers in values.items():
            for seed, value in enumerate(numbers, start=1):
                key = f"t{number}-{split}-{seed}"
                cells.append({"key": key, "split": split, "seed": str(seed), "parameters": 9})
                self.ledger.commit(key, {"metrics": {"accuracy": value, "tasks": {}}}, {})
                self.ledger.commit_test(key, {"metrics": {"accuracy": 1 - (value or 0)}}, {})
        given = {"number": number, "state": state, "point": POINT, "cells": cells, "parameters": 9}
        self.store.save_trial(TrialRecord.from_dict(given))

    def choose(self, **options: Any) -> list[tuple[int, str, str]]:
        chosen = choose(self.store, self.ledger, **options)
        return [(one.trial, one.split, one.seed) for one in chosen]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    found = Study(tmp_path)
    found.trial(0, {"1-shot": [0.5, 0.6, 0.4], "3-shot": [0.6, 0.5, 0.7]})
    found.trial(1, {"1-shot": [0.6, 0.7, 0.5], "3-shot": [0.6, 0.9, 0.7]})
    found.trial(2, {"1-shot": [0.9, 0.9, 0.9], "3-shot": [0.9, 0.9, 0.9]}, state="pruned")
    return found


def test_the_winner_and_its_best_seed_by_validation_at_the_largest_split(study: Study) -> None:
    assert study.choose() == [(1, "3-shot", "2")]
    (chosen,) = choose(study.store, study.ledger)
    assert chosen.validation == 0.9 and chosen.over_seeds is not None
    assert chosen.over_seeds["mean"] == pytest.approx(2.2 / 3)
    assert chosen.reason == (
        "trial 1, the first of the ranking by validation; seed 2, the best of 3 on the validation images"
    )


def test_what_is_asked_for_is_taken(study: Study) -> None:
    assert study.choose(trial=0, seed="3", split="1-shot") == [(0, "1-shot", "3")]
    assert study.choose(all_seeds=True) == [(1, "3-shot", seed) for seed in ("1", "2", "3")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trial": 2}, "trial 2 is pruned"),
        ({"trial": 9}, "trial 9 is unknown"),
        ({"seed": "7"}, "no seed '7'"),
        ({"split": "6-shot"}, "no split '6-shot'"),
        ({"seed": "1", "all_seeds": True}, "exclude each other"),
    ],
)
def test_what_there_is_not_is_refused_in_words(study: Study, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        study.choose(**options)


def test_a_study_without_a_complete_trial_has_nothing_to_export(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.trial(0, {"1-shot": [0.5]}, state="failed")
    with pytest.raises(InputError, match="no complete trial"):
        study.choose()


def test_without_validation_images_a_trial_must_be_named_if_there_are_several(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.trial(0, {"1-shot": [None, None]})
    (chosen,) = choose(study.store, study.ledger)
    assert (chosen.trial, chosen.seed, chosen.over_seeds) == (0, "1", None)
    assert "no validation images to choose by" in chosen.reason
    study.trial(1, {"1-shot": [None, None]})
    with pytest.raises(InputError, match="none of its 2 trials is the best"):
        study.choose()
