"""A comparison: which columns, which cells, which rate, and what its records come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmap_model.configuration import Split
from mmap_model.errors import InputError
from orchestrator.cli.main import execute
from orchestrator.compare.assemble import assemble
from orchestrator.compare.columns import RANDOM, TABLE, pairings
from orchestrator.compare.comparison import Comparison
from orchestrator.compare.plan import ComparePlan, PlannedRow, plan_comparison
from orchestrator.compare.rates import best_rate, tried_rows
from orchestrator.compare.remaining import find_work, needless_weights
from orchestrator.compare.sets import choose_columns
from orchestrator.compare.spacing import rates
from orchestrator.driver import Outcome, compare
from orchestrator.driver.compare_agenda import CompareAgenda
from orchestrator.driver.session import Session, SessionFailed
from orchestrator.driver.surroundings import Surroundings
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.ledger.patient import StorageAway
from orchestrator.ledger.storage import LocalStorage
from orchestrator.work.events import CellsKnown, CellState, Done, Event
from orchestrator.work.item import WorkItem

TASKS = ("clipart", "painting", "photo", "sketch")


def plan(folder: Path, *overrides: str, **options: Any) -> ComparePlan:
    given = {"methods": ["zero_shot", "coop_mt", "mmap"], "shots": [6], "seeds": [1, 2], **options}
    return plan_comparison("symbols", [f"storage={folder}", *overrides], **given)


def test_the_table_is_the_papers_in_its_order() -> None:
    labels = [column.label for column in choose_columns(["table"], TASKS)]
    multi = ["Full FT", "CLIP-Adapter", "BitFit", "CoOp-MT", "VPT-MT", "MaPLe-MT", "MmAP"]
    assert labels == ["ZeroShot", "Full FT", "CoOp", "VPT", "MaPLe", *multi]


def test_the_ablation_trains_every_pairing_and_the_framework_itself() -> None:
    columns = {column.name: column for column in choose_columns(["ablation"], TASKS)}
    assert [c.partition for c in columns.values() if c.grouping == "fixed"] == [
        ((0, 1), (2, 3)),
        ((0, 2), (1, 3)),
        ((0, 3), (1, 2)),
    ]
    assert {
        "mmap",
        "task_only",
        "task_only_2b",
        "group_only",
        "group_only_2b",
        "one_group",
        "joint",
        "mlp",
    } < set(columns)


@pytest.mark.parametrize(("tasks", "number"), [(2, 1), (3, 1), (4, 3), (5, 10), (6, 15), (7, 105)])
def test_pairings_are_all_partitions_into_pairs_and_one_triple(tasks: int, number: int) -> None:
    found = list(pairings(tasks))
    assert len(set(found)) == len(found) == number
    for partition in found:
        assert sorted(task for group in partition for task in group) == list(range(tasks))
        assert sorted(map(len, partition)) == [2] * (tasks // 2 - tasks % 2) + [3] * (tasks % 2)


def test_many_pairings_are_stood_for_by_a_random_one() -> None:
    names = [column.name for column in choose_columns(["ablation"], [str(t) for t in range(8)])]
    assert RANDOM in names and not any(name.startswith("groups_") for name in names)


def test_an_unknown_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="coop_mtt") as caught:
        choose_columns(["coop_mtt"], TASKS)
    assert "coop_mt" in (caught.value.fix or "")


def test_a_custom_method_has_a_column_for_every_regime(tmp_path: Path) -> None:
    file = Path(__file__).parents[3] / "docs" / "examples" / "feature_gain.py"
    found = plan(tmp_path, methods=["zero_shot", f"{file}:FeatureGain"])
    columns = {c.name: found.column(c) for c in found.columns}
    assert list(columns) == ["zero_shot", "feature_gain_stl", "feature_gain", "feature_gain_grouped"]
    assert columns["feature_gain_stl"].parameters == 4 * columns["feature_gain"].parameters > 0
    moved = tmp_path / "elsewhere.py"
    moved.write_text(file.read_text())
    again = plan(tmp_path, methods=[f"{moved}:FeatureGain"])
    keys = {row.key for row in found.first_rows()}
    assert {row.key for row in again.first_rows()} < keys, "the file's place does not matter"


def test_columns_without_one_kind_of_module_have_twice_the_length(tmp_path: Path) -> None:
    columns = plan(tmp_path, methods=["task_only", "task_only_2b", "mmap"]).points
    assert columns["task_only_2b"].settings.prompt_length == 2 * columns["mmap"].settings.prompt_length
    assert columns["task_only_2b"].settings.source_rows == 2 * columns["mmap"].settings.source_rows
    assert columns["task_only"].settings == replace(columns["mmap"].settings, modules="task")


def test_rates_are_evenly_spaced_and_what_people_write() -> None:
    assert rates(5, 3.5e-5, 0.35) == (3.5e-5, 3.5e-4, 0.0035, 0.035, 0.35)
    assert rates(0, 3.5e-5, 0.35) == ()


def test_full_fine_tuning_starts_lower_unless_the_study_says_otherwise(tmp_path: Path) -> None:
    found = plan(tmp_path, methods=["full_ft", "mmap"])
    assert (found.points["full_ft"].recipe.lr, found.points["mmap"].recipe.lr) == (0.00035, 0.0035)
    own = plan(tmp_path, "compare.methods.full_ft={recipe: {lr: 0.01}}", methods=["full_ft"])
    assert own.points["full_ft"].recipe.lr == 0.01


def test_settings_that_do_not_fit_name_the_key_of_the_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="source_cols") as caught:
        plan(tmp_path, "settings.source_cols=5")
    assert "settings.source_cols" in (caught.value.where or "")


def test_a_protocol_without_validation_images_cannot_tune(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="validation"):
        plan(tmp_path, "protocol=paper", tune=3)
    assert plan(tmp_path, "protocol=paper").rates == ()


def test_a_rate_equal_to_the_shared_one_is_not_trained_twice(tmp_path: Path) -> None:
    found = plan(tmp_path, tune=5)
    rows = [(row.column, row.lr) for row in found.first_rows()]
    assert len(rows) == len(set(rows)) == 1 + 2 * 5


def test_rates_are_chosen_on_the_first_three_seeds(tmp_path: Path) -> None:
    found = plan(tmp_path, seeds=[1, 2, 3, 4, 5], tune=2, methods=["mmap"])
    (tried, _) = tried_rows(found, {}, "mmap", Split(shots=6))
    assert [seed.label for seed in tried.seeds] == ["1", "2", "3"]
    assert len(found.chosen("mmap", Split(shots=6), found.rates[0]).seeds) == 5


def finish(
    found: ComparePlan,
    row: PlannedRow,
    value: float,
    *,
    tested: bool = True,
    by_seed: Mapping[str, float] | None = None,
    **fields: Any,
) -> TrialRecord:
    """Records of a row as its driver and its workers leave them: accuracy ``value``, or a seed's own."""
    study = found.base.study
    store, ledger = StudyStore(study.storage, study.name), Ledger(study.storage)
    cells = []
    for seeds in row.seeds:
        key = f"{row.key}-{seeds.label}"
        own = (by_seed or {}).get(seeds.label, value)
        partition = [[0, 1], [2, 3]] if row.point.grouping else None
        measured: Mapping[str, Any] = {"partition": partition, "similarity": [[1.0] * 4] * 4, "margin": 0.5}
        ledger.commit(
            key,
            {
                "metrics": {"accuracy": own},
                "seconds": {"train": 2.0},
                "grouping": measured if row.column == "mmap" else None,
            },
            {},
        )
        if tested:
            tasks = {task: {"accuracy": own + 0.01 * i} for i, task in enumerate(TASKS)}
            ledger.commit_test(key, {"metrics": {"accuracy": own, "ece": 0.1, "tasks": tasks}}, {})
        where = {"split": row.split.label, "seed": seeds.label, "partition": partition}
        cells.append({"key": key, "parameters": 7, **where})
    given = {"state": "complete", "value": None if "error" in fields else value, **fields}
    record = TrialRecord(number=0, point=row.point.to_dict(), cells=cells, parameters=7, **given)
    store.save_row(row.key, record)
    return record


def work(found: ComparePlan) -> tuple[list[tuple[str, float | None]], int]:
    study = found.base.study
    todo = find_work(found, StudyStore(study.storage, study.name), Ledger(study.storage))
    return [(row.column, row.lr) for row in todo.rows], len(tuple(todo.unscored))


def test_only_what_is_missing_is_trained_then_scored(tmp_path: Path) -> None:
    found = plan(tmp_path)
    rows = {row.column: row for row in found.first_rows()}
    assert len(work(found)[0]) == 3
    finish(found, rows["mmap"], 0.5)
    finish(found, rows["coop_mt"], 0.4, tested=False)
    assert work(found) == ([("zero_shot", None)], 0)
    finish(found, rows["zero_shot"], 0.3)
    assert work(found) == ([], 1)
    finish(found, rows["coop_mt"], 0.4)
    assert work(found) == ([], 0)
    (tmp_path / "cells" / f"{rows['mmap'].key}-2" / "record.json").unlink()
    assert work(found) == ([("mmap", 0.0035)], 0)


class Instant:
    """A pool whose items are done as soon as they are queued."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.take: Callable[[list[Event]], None] = lambda events: None

    fault = None

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
        cells = []
        for seeds in item.seeds:
            key = f"{item.item_id}-{seeds}"
            self._ledger.commit(key, {"metrics": {"accuracy": 0.5}}, {})
            self._ledger.commit_test(key, {"metrics": {"accuracy": 0.5}}, {})
            cells.append(CellState(key=key, split="6-shot", seed=str(seeds), parameters=7))
        about = item.item_id
        self.take([CellsKnown(item_id=about, cells=cells), Done(item_id=about, state="complete")])

    def forget(self, item_id: str) -> None: ...


@pytest.fixture
def comparison(surroundings: Callable[..., Surroundings], tmp_path: Path) -> tuple[Session, CompareAgenda]:
    """A comparison with one row to train, and a pool that does it."""
    found = plan(tmp_path / "runs", methods=["zero_shot"])
    store = StudyStore(str(tmp_path / "runs"), found.base.study.name)
    ledger = Ledger(store.storage)
    todo = find_work(found, store, ledger)
    agendas: list[CompareAgenda] = []

    def agenda(session: Session) -> CompareAgenda:
        agendas.append(CompareAgenda(session, found, todo))
        return agendas[0]

    session = Session(surroundings(found.base, store), agenda)
    pool = Instant(ledger)
    pool.take = session.take
    session.serve(pool)  # type: ignore[arg-type]
    return session, agendas[0]


def test_a_storage_that_is_away_for_a_moment_is_waited_for(
    comparison: tuple[Session, CompareAgenda], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, agenda = comparison
    asked: set[tuple[str, str]] = set()

    def failing_first(name: str) -> Callable[..., Any]:
        operation = getattr(LocalStorage, name)

        def attempt(self: LocalStorage, path: str, *arguments: Any) -> Any:
            if "rows" in path and (name, path) not in asked:
                asked.add((name, path))
                raise OSError("the storage is away")
            return operation(self, path, *arguments)

        return attempt

    for name in ("read", "write", "names"):
        monkeypatch.setattr(LocalStorage, name, failing_first(name))
    agenda.work()
    assert {name for name, _ in asked} == {"read", "write", "names"}
    assert [row.state for row in session.around.store.load_rows().values()] == ["complete"]


def test_a_row_that_cannot_be_recorded_ends_the_comparison(
    comparison: tuple[Session, CompareAgenda], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, agenda = comparison

    def away(*_: object) -> None:
        raise StorageAway(5, "the storage is away")

    monkeypatch.setattr(StudyStore, "save_row", away)
    with pytest.raises(SessionFailed, match="the storage is away"):
        agenda.work()
    assert session.rows.live == 0


def test_the_best_rate_on_validation_is_trained_on_all_seeds(tmp_path: Path) -> None:
    found = plan(tmp_path, methods=["mmap"], seeds=[1, 2, 3, 4], tune=3)
    for row in found.first_rows():
        tried = len(row.seeds) == 3
        finish(found, row, {0.35: 0.6, 3.5e-5: 0.6}.get(row.lr or 0, 0.5), tested=not tried)
    known = StudyStore(str(tmp_path), found.base.study.name).load_rows()
    assert best_rate(found, known, "mmap", Split(shots=6)) == 3.5e-5, "the lowest of equals"
    assert work(found) == ([("mmap", 3.5e-5)], 0)


def test_weights_of_whole_backbones_stay_until_they_are_scored_or_their_rate_lost(tmp_path: Path) -> None:
    found = plan(tmp_path, "recipe.lr=0.035", methods=["full_ft", "mmap"], tune=3)
    assert found.points["full_ft"].recipe.lr == 0.0035 == found.rates[1]
    store, ledger = StudyStore(str(tmp_path), found.base.study.name), Ledger(tmp_path)

    def needless() -> set[float | None]:
        """Rates of full fine-tuning whose weights may go."""
        keys = needless_weights(found, store.load_rows(), ledger)
        rows = [*found.first_rows(), *tried_rows(found, {}, "mmap", Split(shots=6))]
        assert keys <= {f"{row.key}-{s.label}" for row in rows if row.column == "full_ft" for s in row.seeds}
        return {row.lr for row in rows if f"{row.key}-1" in keys}

    for row in tried_rows(found, {}, "mmap", Split(shots=6)):
        finish(found, row, 0.9, tested=False)
    low, middle, high = tried_rows(found, {}, "full_ft", Split(shots=6))
    finish(found, high, 0.5, tested=False)
    assert needless() == set(), "the best so far"
    finish(found, low, 0.6, tested=False)
    assert needless() == {high.lr}
    finish(found, middle, 0.4, tested=False)
    assert needless() == {high.lr}, "the shared recipe is to be scored"
    for row in (middle, low):
        finish(found, row, 0.5, tested=True)
    assert needless() == {low.lr, middle.lr, high.lr}


def test_a_rate_that_failed_is_never_chosen(tmp_path: Path) -> None:
    found = plan(tmp_path, methods=["mmap"], tune=2)
    low, high = tried_rows(found, {}, "mmap", Split(shots=6))
    finish(found, low, 0.4)
    finish(found, high, 0.9, state="failed", error="training diverged")
    known = StudyStore(str(tmp_path), found.base.study.name).load_rows()
    assert best_rate(found, known, "mmap", Split(shots=6)) == low.lr


def assembled(found: ComparePlan) -> Comparison:
    study = found.base.study
    return assemble(found, StudyStore(study.storage, study.name), Ledger(study.storage))


def test_records_become_a_comparison_that_survives_json(tmp_path: Path) -> None:
    found = plan(tmp_path, tune=2)
    for row in found.first_rows():
        finish(found, row, 0.3 if row.column == "zero_shot" else 0.5 + (row.lr or 0))
    result = assembled(found)
    assert Comparison.from_json(result.to_json()).to_json() == result.to_json()
    shared = result.entry("mmap", "6-shot", "shared")
    assert shared is not None and shared.lr == 0.0035
    assert shared.tasks["sketch"] == {"1": pytest.approx(0.5335), "2": pytest.approx(0.5335)}
    assert shared.seconds == 4.0 and shared.partitions["1"] == ((0, 1), (2, 3))
    tuned = result.entry("mmap", "6-shot", "tuned")
    assert tuned is not None and (tuned.lr, tuned.edge) == (0.35, "high")
    assert [trial.lr for trial in tuned.trials] == [3.5e-5, 0.35]
    zero = result.entry("zero_shot", "6-shot", "tuned")
    assert zero is not None and zero.lr is None and zero.trials == ()
    assert [a.seed for a in result.affinities] == ["1", "2"]
    assert result.column("mmap").parameters == 7, "as counted in its cells"


def test_what_is_missing_or_failed_has_a_reason_instead_of_numbers(tmp_path: Path) -> None:
    found = plan(tmp_path)
    rows = {row.column: row for row in found.first_rows()}
    finish(found, rows["mmap"], 0.5, tested=False)
    finish(found, rows["coop_mt"], 0.5, state="failed", error="training diverged")
    errors = {entry.column: entry.error for entry in assembled(found).entries}
    assert errors == {
        "zero_shot": "not trained yet",
        "coop_mt": "training diverged",
        "mmap": "not scored on the test images yet",
    }


def test_random_grouping_averages_the_pairings_that_were_not_chosen(tmp_path: Path) -> None:
    found = plan(tmp_path, methods=["ablation"])
    values = {"groups_01_23": 0.9, "groups_02_13": 0.5, "groups_03_12": 0.3}
    for row in found.first_rows():
        finish(found, row, values.get(row.column, 0.7))
    entry = assembled(found).entry(RANDOM, "6-shot", "shared")
    assert entry is not None and entry.tasks["clipart"] == {"1": pytest.approx(0.4), "2": pytest.approx(0.4)}
    assert entry.derived_from == ("groups_01_23", "groups_02_13", "groups_03_12")


def test_every_table_column_says_what_the_paper_prints() -> None:
    assert [column.printed for column in TABLE if column.name != "zero_shot"].count(None) == 0


def test_a_comparison_with_a_column_without_numbers_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["compare", "symbols", "--methods", "zero_shot", "mmap", "--shots", "6", "--seeds", "1", "2"]
    line += [f"storage={tmp_path}", "--output", "reports"]
    found = plan(tmp_path, methods=["zero_shot", "mmap"])
    rows = {row.column: row for row in found.first_rows()}
    unscored: dict[str, str] = {}

    def run(found: ComparePlan, *_: Any, **__: Any) -> Outcome:
        return Outcome(unscored=unscored)

    monkeypatch.setattr(compare, "run_comparison", run)
    finish(found, rows["zero_shot"], 0.3)
    finish(found, rows["mmap"], 0.5)
    assert execute(line) == 0
    unscored["MmAP"] = "torn prompts"
    assert execute(line) == 1
    unscored.clear()
    store = StudyStore(tmp_path, found.base.study.name)
    record = TrialRecord(number=1, state="failed", error="the loss was not finite")
    store.save_row(rows["mmap"].key, record)
    capsys.readouterr()
    assert execute(line) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "No result: mmap, 6-shot: the loss was not finite" in said and "--retry-failed" in said
