"""A search for two objectives whose driver is killed twice tries what it would have tried."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SHAPE = "  - name: mmap_shape\n    prompt_length: [2, 4]\n"
FIXED = "  - {name: choice, key: recipe.momentum, choices: [0.0, 0.5, 0.9]}\n"
SEARCH = """search:
  trials: 7
  sampler: nsga2
  sampler_options: {population_size: 2}
  objectives: [accuracy, nll]
  constraints: ["parameters<=100000"]
fuse: "off"
settings: {prompt_length: 2, source_rows: 2, source_cols: 4}
"""


def test_a_killed_search_for_two_objectives_tries_the_same_trials(
    importable: None, tiny_study: Path, tmp_path: Path
) -> None:
    from driver import Driver

    study = tmp_path / "tiny.yaml"
    text = tiny_study.read_text().replace(SHAPE, FIXED).replace("search: {trials: 4}\n", SEARCH)
    study.write_text(text)
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    whole, killed = (Driver(study, folder, folder / "epochs.log") for folder in folders)
    whole.finish()
    for done in (2, 4):
        code, _ = killed.end(
            signal.SIGKILL,
            lambda done=done: killed.states()[:done] == ["complete"] * done and len(killed.states()) > done,
        )
        assert code == -signal.SIGKILL
    killed.finish()
    expected, found = whole.store.load_trials(), killed.store.load_trials()
    assert [trial.params for trial in found] == [trial.params for trial in expected]
    assert [trial.value for trial in found] == [trial.value for trial in expected]
    assert all(isinstance(trial.value, list) and len(trial.value) == 2 for trial in found)
    chosen = [trial.attributes["sampler"]["trial"] for trial in found[1:]]  # the first is the preset
    generations = [attributes["NSGAIISampler:generation"] for attributes in chosen]
    assert generations == sorted(generations) and generations[-1] == 2
