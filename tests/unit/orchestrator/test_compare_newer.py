"""Newer methods and groups in a comparison: columns, recipes, rates around their own, failed starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from mmap_model.configuration import Split
from mmap_model.errors import InputError
from mmap_model.methods import get_method, method_names
from mmap_model.plain import content_key
from orchestrator.compare.assemble import assemble
from orchestrator.compare.columns import RANDOM, TABLE
from orchestrator.compare.comparison import Around, ColumnResult, Comparison
from orchestrator.compare.failed_starts import count_failed_starts
from orchestrator.compare.plan import ComparePlan, plan_comparison
from orchestrator.compare.rates import best_rate, tried_rows
from orchestrator.compare.remaining import find_work
from orchestrator.compare.sets import choose_columns
from orchestrator.compare.spacing import beyond, centred
from orchestrator.driver.compare_agenda import Columns
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.reports.comparison.claims import GROUPS, NEWER, claims
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.method_table import method_table
from orchestrator.reports.comparison.write import texts
from tests.unit.orchestrator.test_compare import finish

TASKS = ("clipart", "painting", "photo", "sketch")
SPLIT = Split(shots=6)


def plan(folder: Path, *overrides: str, **options: Any) -> ComparePlan:
    given = {"methods": ["zero_shot", "clip_lora", "mmap"], "shots": [6], "seeds": [1, 2, 3], **options}
    return plan_comparison("symbols", [f"storage={folder}", *overrides], **given)


def around(folder: Path, *overrides: str, **options: Any) -> ComparePlan:
    return plan(folder, *overrides, **{"tune": 3, "rates": "own", "recipes": ["tuned"], **options})


def assembled(found: ComparePlan) -> Comparison:
    study = found.base.study
    return assemble(found, StudyStore(study.storage, study.name), Ledger(study.storage))


def test_2026_has_every_method_that_the_paper_lacks_in_single_and_multi() -> None:
    columns = choose_columns(["2026"], TASKS)
    newer = set(method_names()) - {c.method for c in TABLE} - {"joint", "mlp"}
    assert {"clip_lora", "two_stage", "zs_lp", "clap", "promptsrc"} <= newer
    for name in newer:
        regimes = sorted(str(c.settings.get("regime", "multi")) for c in columns if c.method == name)
        assert regimes == ["multi", "single"], name
    names = [column.name for column in columns]
    assert {"zero_shot", "mmap", "maple_mt", "full_ft_stl"} < {*names}
    assert all(column.regime != "grouped" for column in columns)


def test_the_cache_of_every_column_has_weights_that_the_labelled_images_chose(tmp_path: Path) -> None:
    name = "tip_adapter"
    found = plan(tmp_path, methods=[name], tune=3, rates="own", recipes=["shared", "published"])
    every = (found.points, found.published_points, found.searched_points)
    settings = [points[column.name].settings for points in every for column in found.columns]
    assert [(s.regime, s.blend) for s in settings] == 3 * [("single", "support"), ("multi", "support")]
    own = plan(
        tmp_path, f"compare.methods={{{name}: {{settings: {{blend: given, alpha: 8.0}}}}}}", methods=[name]
    )
    assert {(p.settings.blend, p.settings.alpha) for p in own.points.values()} == {("given", 8.0)}
    assert get_method(name).Settings().blend == "given", "a study has what it says"


def test_grouped_methods_stand_beside_one_model_and_one_group_for_all() -> None:
    columns = choose_columns(["grouped"], TASKS)
    for name in method_names():
        if any(budget.regime == "grouped" for budget in get_method(name).budgets):
            found = [(c.regime, c.grouping) for c in columns if c.method == name]
            assert sorted(found, key=str) == [("grouped", "single"), ("grouped", None), ("multi", None)], name
    shared = next(c for c in columns if c.name == "clip_adapter_shared")
    assert shared.settings == {"shared": True}, "the paper's column has a copy for each task"


def test_a_column_of_a_newer_method_may_be_named_alone() -> None:
    assert [c.name for c in choose_columns(["clip_lora_stl"], TASKS)] == ["clip_lora_stl"]
    assert [c.name for c in choose_columns(["clip_lora_multi"], TASKS)] == ["clip_lora"]
    assert [c.name for c in choose_columns(["tip_adapter_multi"], TASKS)] == ["tip_adapter"]
    everyone = [c.name for c in choose_columns(["clip_lora"], TASKS)]
    assert everyone == ["clip_lora_stl", "clip_lora", "clip_lora_grouped"]
    assert [c.name for c in choose_columns(["vpt"], TASKS)] == ["vpt"], "the paper's column goes first"


def test_rates_lie_around_each_methods_own_with_its_optimiser_and_the_studys_amounts(tmp_path: Path) -> None:
    found = around(tmp_path)
    assert found.first_rates("clip_lora") == (6.32456e-05, 2e-4, 6.32456e-04)
    assert found.first_rates("mmap") == (0.00110680, 0.0035, 0.0110680), "the study's, which is the paper's"
    assert found.first_rates("zero_shot") == ()
    recipe = found.searched_points["clip_lora"].recipe
    assert (recipe.optimiser, recipe.weight_decay, recipe.lr_moves) == ("adamw", 1e-2, "step")
    assert (recipe.epochs, recipe.batch_size, recipe.steps_per_shot) == (5, 16, None)
    assert found.published_points["clip_lora"].recipe.steps_per_shot == 500
    filled = around(tmp_path, methods=["tip_adapter_f_stl"])
    assert filled.published_points["tip_adapter_f_stl"].recipe.last_batch == "fill"
    assert filled.searched_points["tip_adapter_f_stl"].recipe.last_batch == "drop", "an amount: the study's"
    assert recipe.warmup_epochs == 0
    assert found.published_points["mmap"] == found.points["mmap"]


def test_what_authors_count_in_epochs_keeps_its_share_of_the_training(tmp_path: Path) -> None:
    found = around(tmp_path, methods=["zs_lp_multi", "promptsrc_multi", "ivlp_multi", "mmap"])
    recipes = {name: point.recipe for name, point in found.searched_points.items()}
    warm = {name: recipe.warmup_epochs for name, recipe in recipes.items()}
    assert warm == {"zs_lp": 0, "promptsrc": 0, "ivlp": 1, "mmap": 1}, "1 of 300, of 50, of 5 and of 5 epochs"
    averaged = recipes["promptsrc"]
    assert (averaged.average, averaged.average_mean, averaged.average_std) == ("gaussian", 3.0, 3.0)
    assert recipes["ivlp"].average == "last" and recipes["ivlp"].average_mean is None
    longer = around(tmp_path, "recipe.epochs=10", methods=["ivlp_multi", "zs_lp_multi"]).searched_points
    assert {name: point.recipe.warmup_epochs for name, point in longer.items()} == {"ivlp": 2, "zs_lp": 0}


def test_the_sets_of_newer_methods_search_around_their_own_rates(tmp_path: Path) -> None:
    assert plan(tmp_path, methods=["grouped"], tune=3).around == Around()
    assert plan(tmp_path, methods=["grouped"], tune=3, rates="same").around is None
    assert plan(tmp_path, methods=["table"], tune=3).around is None
    assert plan(tmp_path, "compare.most_rates=5", methods=["2026"], tune=3).around == Around(most=5)


def test_one_more_rate_lies_beyond_the_end_of_the_best() -> None:
    three = Around(first=3, most=5, factor=10.0)
    assert centred(three, 0.01) == (0.001, 0.01, 0.1)
    assert beyond(three, [0.001, 0.01, 0.1], 0.1) == 1.0
    assert beyond(three, [0.001, 0.01, 0.1], 0.001) == 0.0001
    assert beyond(three, [0.001, 0.01, 0.1], 0.01) is None


def search(found: ComparePlan, values: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Train all that is asked for, round by round; what came after the first round."""
    study = found.base.study
    store, ledger = StudyStore(study.storage, study.name), Ledger(study.storage)
    later = []
    for turn in range(20):
        rows = find_work(found, store, ledger).rows
        if not rows:
            return later
        for row in rows:
            finish(found, row, values[row.column](row.lr or 0))
        later += [(row.column, row.lr) for row in rows] if turn else []
    raise AssertionError("it never ends")


def test_the_search_goes_on_while_the_best_lies_at_an_end_and_no_further_than_the_budget(
    tmp_path: Path,
) -> None:
    found = around(tmp_path, "compare.most_rates=5", methods=["zero_shot", "clip_lora_stl", "mmap"])
    values = {
        "zero_shot": lambda _: 0.3,
        "clip_lora_stl": lambda lr: 0.4 + min(lr, 0.1),  # the higher the better, as far as is tried
        "mmap": lambda lr: 0.5 if lr == 0.0035 else 0.4,
    }
    assert search(found, values) == [("clip_lora_stl", 2e-3), ("clip_lora_stl", 6.32456e-3)]
    result = assembled(found)
    lora, own = (result.entry(name, "6-shot", "tuned") for name in ("clip_lora_stl", "mmap"))
    assert lora is not None and own is not None
    assert (lora.edge, len(lora.trials), own.edge, len(own.trials)) == ("high", 5, None, 3)
    assert result.entry("clip_lora_stl", "6-shot", "shared") is None, "only the tuned recipe was asked for"
    assert lora.search_seconds == 4 * 3 * 2.0 and lora.optimiser == "adamw"
    table = method_table(result, "6-shot", "tuned")
    methods = {m.column.name: m for m in table.methods}
    assert methods["clip_lora_stl"].unranked and not methods["mmap"].unranked
    assert "clip_lora_stl" not in table.places("Average") and table.places("Average")["mmap"] == 1
    page = texts(Contents(result))["README.md"]
    assert "unranked" in page and "Equal budgets: for every column 3 rates" in page and "up to 5" in page


def test_no_rate_is_tried_beyond_one_that_failed(tmp_path: Path) -> None:
    found = around(tmp_path, methods=["mmap"])
    low, middle, high = tried_rows(found, {}, "mmap", SPLIT)
    finish(found, low, 0.2)
    finish(found, middle, 0.4)
    finish(found, high, 0.9, state="failed", error="training diverged")
    known = StudyStore(str(tmp_path), found.base.study.name).load_rows()
    assert len(tried_rows(found, known, "mmap", SPLIT)) == 3
    assert best_rate(found, known, "mmap", SPLIT) == middle.lr


def test_recipes_of_the_same_rate_have_runs_of_their_own(tmp_path: Path) -> None:
    methods = ["maple_mt", "mmap", "zs_lp_multi", "zero_shot"]
    found = plan(tmp_path, methods=methods, recipes=["shared", "published"])
    tuned = around(tmp_path, methods=methods)
    names: dict[str, set[Any]] = {}
    for made in (found, tuned):
        columns = Columns(made, Mock(), Mock())
        for row in made.first_rows():
            names.setdefault(columns.tracked_as(row), set()).add(content_key(row.point.to_dict()))
    assert all(len(points) == 1 for points in names.values()), names
    assert {"MaPLe-MT · 6-shot · lr 0.0035", "MaPLe-MT · 6-shot · lr 0.0035 · published"} <= names.keys()
    assert {"ZS-LP · 6-shot · lr 0.1 · published", "ZS-LP · 6-shot · lr 0.1 · tuned"} <= names.keys()
    assert "MmAP · 6-shot · lr 0.0035" in names and "ZeroShot · 6-shot" in names


def test_published_recipes_are_columns_of_their_own(tmp_path: Path) -> None:
    found = plan(tmp_path, recipes=["shared", "published"])
    rows = [(row.column, row.point.recipe.optimiser) for row in found.first_rows()]
    assert rows.count(("clip_lora", "adamw")) == 1 and rows.count(("clip_lora", "sgd")) == 1
    assert rows.count(("mmap", "sgd")) == 1, "its authors' recipe is the study's"
    for row in found.first_rows():
        finish(found, row, 0.5)
    result = assembled(found)
    published = result.entry("clip_lora", "6-shot", "published")
    assert published is not None and (published.optimiser, published.lr) == ("adamw", 2e-4)
    assert [t.recipe for t in Contents(result).tables] == ["shared", "published"]
    assert (published.epochs, published.steps, published.batch_size) == (10, 3000, 32)
    page = texts(Contents(result))["README.md"]
    assert "by its authors' recipe" in page
    assert "| 3,000 steps × 32 |" in page and "10 × 32" not in page


def test_without_validation_settings_are_fixed_beforehand_and_nothing_is_tuned(tmp_path: Path) -> None:
    found = plan(tmp_path, "protocol=clap", recipes=["published"])
    assert {row.point.recipe.lr for row in found.first_rows() if row.column == "clip_lora"} == {2e-4}
    searched = {row.key for row in plan(tmp_path, recipes=["published"]).first_rows()}
    assert searched.isdisjoint(row.key for row in found.first_rows()), "other label budget, other cells"
    for row in found.first_rows():
        finish(found, row, 0.5)
    result = assembled(found)
    assert result.label_budget == {"6-shot": (6, 0)} and result.protocol == "clap"
    page = texts(Contents(result))["README.md"]
    assert "6 training + 0 validation; protocol clap: nothing was chosen" in page
    with pytest.raises(InputError, match="protocol clap has no validation images"):
        plan(tmp_path, "protocol=clap", tune=3)


def test_numbers_for_every_class_and_image_are_counted_before_anything_is_trained(tmp_path: Path) -> None:
    found = plan(tmp_path, methods=["zs_lp", "tip_adapter_f"])
    counted = {column.name: found.column(column).parameters for column in found.columns}
    assert counted["zs_lp"] == 65 * 128 and counted["zs_lp_stl"] == 4 * 65 * 128
    assert counted["tip_adapter_f"] == 4 * 65 * 6 * 128
    assert {c.name for c in assembled(found).columns} == {*counted}, "a report before the first cell"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipes": ["publised"]}, "publised"),
        ({"recipes": ["tuned"]}, "nothing is tuned"),
    ],
)
def test_recipes_that_cannot_be_are_refused(tmp_path: Path, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        plan(tmp_path, **options)
    assert "--recipes" in str(raised.value.where)


def test_a_grouped_column_is_charged_with_the_probe_that_found_its_groups(tmp_path: Path) -> None:
    found = plan(tmp_path, methods=["zero_shot", "clip_lora_grouped", "clip_lora_one_group"])
    ledger = Ledger(tmp_path)
    for row in found.first_rows():
        finish(found, row, 0.5)
        if row.point.grouping is not None and row.point.grouping.mode == "gradient":
            from mmap_model.grouping import probe_configuration

            probe = probe_configuration(row.point.grouping, row.point, tasks=4)
            every = row.point.grouping.probe.snapshot_every
            for seeds in row.seeds:
                cell = found.base.cell(probe, SPLIT, seeds, kind="probe", snapshot_every=every)
                ledger.commit(cell.key, {"metrics": {}, "seconds": {"train": 11.0}}, {})
    methods = {m.column.name: m for m in method_table(assembled(found), "6-shot", "shared").methods}
    assert methods["clip_lora_grouped"].probe_seconds == 33.0
    assert methods["clip_lora_grouped"].device_seconds == 33.0 + 3 * 2.0
    assert methods["clip_lora_one_group"].probe_seconds == 0.0


def entry(column: str, values: dict[str, float]) -> ColumnResult:
    tasks = {task: {seed: value / 100 + 0.01 for seed, value in values.items()} for task in ("a", "b")}
    validation = {seed: value / 100 for seed, value in values.items()}
    return ColumnResult(column=column, split="6-shot", recipe="shared", tasks=tasks, validation=validation)


def test_failed_starts_are_counted_and_in_no_mean() -> None:
    plain = entry("zero_shot", {"1": 48, "2": 48, "3": 48})
    lottery = entry("coop", {"1": 60, "2": 56, "3": 4})
    _, counted = count_failed_starts([plain, lottery])
    assert counted.failed_starts == {"3": {"a": pytest.approx(0.05), "b": pytest.approx(0.05)}}
    assert counted.seed_means() == {"1": pytest.approx(0.61), "2": pytest.approx(0.57)}
    _, none = count_failed_starts([plain, entry("coop", {"1": 2, "2": 3, "3": 4})])
    assert none.tasks == {} and none.error is not None and len(none.failed_starts) == 3
    charged = replace(lottery, calibration={"1": 0.05, "2": 0.05, "3": 0.65})
    assert count_failed_starts([plain, charged])[1].calibration == {"1": 0.05, "2": 0.05}
    assert count_failed_starts([lottery]) == [lottery], "without zero-shot there is nothing to judge by"


def test_a_column_with_a_failed_start_says_so_and_is_not_compared(tmp_path: Path) -> None:
    found = plan(tmp_path, methods=["zero_shot", "coop_mt", "mmap"])
    for row in found.first_rows():
        by_seed = {"3": 0.04} if row.column == "coop_mt" else {}
        finish(found, row, {"zero_shot": 0.48, "mmap": 0.6}.get(row.column, 0.55), by_seed=by_seed)
    result = assembled(found)
    coop = next(m for m in method_table(result, "6-shot", "shared").methods if m.column.name == "coop_mt")
    assert coop.failed == ("3",) and coop.average is not None and coop.average.n == 2 and coop.left_out
    page = texts(Contents(result))["README.md"]
    assert coop.calibration == pytest.approx(0.1) and "ECE" in page
    assert "1 of 3" in page and "the start failed under seed 3" in page


@pytest.mark.parametrize(("starter", "verdict"), [("mmap", "undecided"), ("coop_mt", "holds")])
def test_a_side_that_loses_starts_wins_nothing(tmp_path: Path, starter: str, verdict: str) -> None:
    found = plan(tmp_path, methods=["zero_shot", "coop_mt", "mmap"])
    for row in found.first_rows():
        value = {"zero_shot": 0.48, "mmap": 0.6}.get(row.column, 0.5)
        by_seed = {"1": value + 0.001, "3": 0.04} if row.column == starter else {}
        finish(found, row, value, by_seed=by_seed)
    claim = next(c for c in claims(assembled(found)) if c.statement == "MmAP beats CoOp-MT")
    assert claim.difference is not None and claim.difference.low is not None and claim.difference.low > 0
    assert (claim.verdict, claim.difference.n) == (verdict, 2)
    assert any("failed under seed 3" in note for note in claim.notes)


def test_random_grouping_averages_the_starts_that_did_not_fail(tmp_path: Path) -> None:
    found = plan(tmp_path, methods=["zero_shot", "ablation"])
    for row in found.first_rows():
        value = {"groups_02_13": 0.5, "groups_03_12": 0.3}.get(row.column, 0.4)
        by_seed = {"2": 0.1} if row.column == "groups_03_12" else {}
        finish(found, row, value, by_seed=by_seed)
    entry = assembled(found).entry(RANDOM, "6-shot", "shared")
    assert entry is not None
    assert entry.tasks["clipart"] == {
        "1": pytest.approx(0.4),
        "2": pytest.approx(0.5),
        "3": pytest.approx(0.4),
    }


def test_claims_beyond_the_paper_put_mmap_beside_newer_methods_and_groups_behind_them(tmp_path: Path) -> None:
    found = plan(tmp_path, methods=["zero_shot", "mmap", "clip_lora", "clip_lora_one_group"])
    for row in found.first_rows():
        finish(found, row, 0.5)
    made = [(claim.topic, claim.statement) for claim in claims(assembled(found))]
    assert (NEWER, "MmAP beats CLIP-LoRA (single-task)") in made
    assert (GROUPS, "CLIP-LoRA (grouped) beats CLIP-LoRA (multi-task)") in made
    assert sum(topic == GROUPS for topic, _ in made) == 2
