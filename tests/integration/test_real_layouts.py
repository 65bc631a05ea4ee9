"""The packaged studies on generated trees of their layouts, from `sweep` to ranking, with a random CLIP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmap_model.data.generated import write_mini_domainnet, write_office_home
from orchestrator.cli.main import execute
from orchestrator.driver.draws import keep_draws
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.ledger.cells import HISTORY
from orchestrator.ledger.documents import decode
from orchestrator.statistics.summary import seed_means

SMALL_CLIP = [
    "backbone.pretrained=null",
    "precision=fp32",
    "grouping.probe.source_cols=16",
    "grouping.probe.snapshot_every=1",
    "grouping.probe.recipe.epochs=2",
    "grouping.snapshot_every=1",
]
"""What does not fit a CLIP and shots so small: 16 bits on a CPU, 128 source columns, 10 steps a snapshot."""


Sweep = Callable[..., dict[str, Any]]


@pytest.fixture(
    params=[
        "in this process",
        # Quick: the same without Ray and without gradients of tasks, which test_executor takes.
        pytest.param("on Ray", marks=[pytest.mark.slow, pytest.mark.ray]),
    ]
)
def sweep(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Sweep:
    """Runs a packaged study with overrides to its end, and gives its results as people get them as JSON."""
    monkeypatch.chdir(tmp_path)

    def on_ray(study: str, *overrides: str) -> dict[str, Any]:
        request.getfixturevalue("shared_ray")
        assert execute(["sweep", study, *SMALL_CLIP, "slots.count=1", *overrides, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    def here(study: str, *overrides: str) -> dict[str, Any]:
        request.getfixturevalue("importable")
        request.getfixturevalue("in_process")
        from told_study import ToldStudy

        uri = request.getfixturevalue("database")(study)
        told = ToldStudy(Path("runs"), uri, *SMALL_CLIP, *overrides, name=study, study=study, small=())
        keep_draws(told.store, told.plan.study, told.plan.dataset)
        told.train()
        told.search(told.plan.study.search.trials)
        told.finish()
        assert told.close().note is None
        assert execute(["results", study, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return on_ray if request.param == "on Ray" else here


def test_the_packaged_studies_run_from_their_layouts_to_the_ranking(
    sweep: Sweep, tiny_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = f"backbone.model=local-dir:{tiny_study.parent / 'clip'}"
    home = [
        "dataset.tasks=[Art, Real World]",
        "dataset.classes=[TV, Mug]",
        f"dataset.root={tmp_path / 'home'}",
    ]
    write_office_home(
        tmp_path / "home", tasks=("art", "real_world"), classes=("Mug", "TV"), per_class=18, side=16
    )
    found = sweep("office_home", clip, *home, "search.trials=2")
    trials = found["trials"]
    assert [trial["state"] for trial in trials] == ["complete", "complete"]
    for trial in trials:
        assert len(trial["cells"]) == 6 and trial["val"]["n"] == 3 == trial["test"]["n"]
        assert set(trial["per_split"]) == {"6-shot", "12-shot"}
        means = [split["mean"] for split in trial["per_split"].values()]
        assert trial["val"]["mean"] == pytest.approx(sum(means) / 2), "the objective is the mean over splits"
        assert set(trial["tasks"]) == {"art", "real_world"}
    assert_epochs_are_interleaved(StudyStore("runs", "office_home"), Ledger("runs"))
    draw = StudyStore("runs", "office_home").load_draw("12-shot_seed2")
    assert draw is not None and len(draw["tasks"]["art"]["train"]) == 24

    net = ["dataset.tasks=[clipart, sketch]", f"dataset.root={tmp_path / 'net'}"]
    write_mini_domainnet(tmp_path / "net", tasks=("clipart", "sketch"), classes=("ant", "dog"), per_class=9)
    fixed = ["protocol=paper", "space=[]", "settings.source_cols=16", "search.max_params=null"]
    found = sweep("mini_domainnet", clip, *net, *fixed)
    (trial,) = found["trials"]
    assert trial["state"] == "complete" and trial["val"] is None and trial["test"]["n"] == 3
    tests = Ledger("runs").tests(trial["cells"])
    images = [tests[key]["metrics"]["images"] for key in trial["cells"]]
    assert images == [{"clipart": 12, "sketch": 12}] * 3 + [{"clipart": 6, "sketch": 6}] * 3
    assert execute(["results", "mini_domainnet", "--storage", "runs"]) == 0
    assert "no validation images" in capsys.readouterr().out


def assert_epochs_are_interleaved(store: StudyStore, ledger: Ledger) -> None:
    """No split is an epoch ahead of another, and what is reported of an epoch is their mean."""
    for trial in store.load_trials():
        assert [entry["epoch"] for entry in trial.epochs] == [1, 2, 3, 4, 5]
        for entry in trial.epochs:
            pairs = [(cell["split"], cell["seed"]) for cell in trial.cells]
            by_seed = seed_means(dict(zip(pairs, entry["values"], strict=True)))
            assert entry["mean"] == pytest.approx(sum(by_seed.values()) / len(by_seed))
        ended: dict[int, list[str]] = {}
        for cell in trial.cells:
            for report in decode(ledger.read_file(cell["key"], HISTORY))["epochs"]:
                ended.setdefault(report["epoch"], []).append(report["at"])
        for epoch in range(1, 5):
            assert max(ended[epoch]) <= min(ended[epoch + 1])
