"""A whole comparison on a real local Ray, with real training of a tiny CLIP, and a method from outside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compare.assemble import assemble
from orchestrator.compare.comparison import Comparison
from orchestrator.compare.plan import ComparePlan, plan_comparison
from orchestrator.driver import Options
from orchestrator.driver.compare import run_comparison
from orchestrator.driver.interrupt import Interrupt
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.reports.comparison import write_report
from orchestrator.work.shown import Shown, TrialShown

pytestmark = pytest.mark.ray

CUSTOM = f"{Path(__file__).parents[2] / 'docs' / 'examples' / 'feature_gain.py'}:FeatureGain"
COLUMNS = ["zero_shot", "coop_mt", "mmap", "feature_gain_stl", "feature_gain", "feature_gain_grouped"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty: Path) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    shutil.copy(empty, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def plan(folder: Path, tiny_study: Path) -> ComparePlan:
    overrides = [
        f"storage={folder / 'runs'}",
        f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
        "recipe.epochs=2",
        "settings={prompt_length: 2, source_rows: 2, source_cols: 4}",
        "compare={lr_low: 0.001, lr_high: 0.1, methods: {coop: {settings: {prompt_length: 2}}}}",
    ]
    return plan_comparison(str(tiny_study), overrides, methods=[*COLUMNS[:3], CUSTOM], tune=2)


def run(plan: ComparePlan, **options: Any) -> Any:
    return run_comparison(plan, options=Options(command="compare tiny", **options))


def result(plan: ComparePlan) -> Comparison:
    study = plan.base.study
    return assemble(plan, StudyStore(study.storage, study.name), Ledger(study.storage))


@pytest.mark.usefixtures("in_process")
def test_it_goes_on_where_it_was_stopped_and_trains_nothing_twice(
    shared_ray: Path, plan: ComparePlan, folder: Path
) -> None:
    interrupt = Interrupt()

    def stop_after_two(event: Shown, ended: list[int] = []) -> None:  # noqa: B006
        if isinstance(event, TrialShown) and event.state == "complete":
            ended.append(event.number)
            if len(ended) == 2:
                interrupt.requested.set()

    first = run_comparison(plan, stop_after_two, options=Options(command="compare", interrupt=interrupt))
    assert first.state == "interrupted" and first.trained > 0
    second = run(plan)
    assert (second.state, second.failed, second.lost) == ("complete", (), ())
    store = StudyStore(plan.base.study.storage, plan.base.study.name)
    trained = [key for invocation in store.load_invocations() for key in invocation.trained]
    assert len(trained) == len(set(trained)), "no cell was trained twice"
    again = run(plan)
    assert (again.state, again.trained) == ("complete", 0)
    assert len(store.load_invocations()[-1].trained) == 0


def test_every_column_has_numbers_for_every_task_and_seed_under_both_recipes(
    shared_ray: Path, plan: ComparePlan
) -> None:
    found = result(plan)
    for name in COLUMNS:
        for recipe in ("shared", "tuned"):
            entry = found.entry(name, "2-shot", recipe)  # type: ignore[arg-type]
            assert entry is not None, (name, recipe)
            assert set(entry.tasks) == {"noisy", "plain"}
            assert all(set(seeds) == {"1", "2"} for seeds in entry.tasks.values())
            assert all(0 <= value <= 1 for seeds in entry.tasks.values() for value in seeds.values())
    assert found.column("feature_gain_stl").parameters == 2 * found.column("feature_gain").parameters
    tuned = found.entry("mmap", "2-shot", "tuned")
    assert tuned is not None and [trial.lr for trial in tuned.trials] == [0.001, 0.1]
    best = max(tuned.trials, key=lambda trial: (sum(trial.validation.values()), -trial.lr))
    assert tuned.lr == best.lr


def test_its_runs_are_found_in_mlflow_by_column(shared_ray: Path, plan: ComparePlan) -> None:
    import mlflow

    client = mlflow.MlflowClient(plan.base.study.tracking.resolved_uri)
    experiment = client.get_experiment_by_name(plan.base.study.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'column'")
    assert {run.data.tags["column"] for run in runs} == set(COLUMNS)
    names = [run.info.run_name for run in runs]
    assert len(names) == len(set(names)), "one run per column and rate"
    tested = [run for run in runs if "test_accuracy_mean" in run.data.metrics]
    assert tested and all(run.data.metrics["test_accuracy_n"] == 2 for run in tested)


def test_the_report_is_written(shared_ray: Path, plan: ComparePlan, tmp_path: Path) -> None:
    written = {path.suffix for path in write_report(result(plan), tmp_path)}
    assert {".json", ".csv", ".md", ".tex", ".png"} <= written
