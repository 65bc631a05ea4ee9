"""The comparison of newer methods: what its stages train, what the page says of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator.cli.main import execute
from orchestrator.compare.assemble import assemble
from orchestrator.compare.comparison import Comparison
from orchestrator.compare.plan import ComparePlan
from orchestrator.driver import Outcome, compare
from orchestrator.ledger import Ledger, StudyStore
from tests.unit.orchestrator.test_compare import finish

FOLDER = Path(__file__).parents[3] / "benchmarks" / "paper_tables" / "methods_2026"
MODULES = ("stages", "transfers", "profiles", "estimate", "page", "clips")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The scripts' modules, which are named like others elsewhere."""
    import importlib

    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name)
    return found


def test_a_stage_trains_what_its_plan_counts(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[ComparePlan] = []

    def run(plan: ComparePlan, *_: Any, **__: Any) -> Outcome:
        planned.append(plan)
        return Outcome()

    monkeypatch.setattr(compare, "run_comparison", run)
    monkeypatch.chdir(tmp_path)
    *_, left_out = bench["stages"].stages(("symbols",), ("without",), tiny=True)
    assert execute([*left_out.arguments(tmp_path), "--json"]) == 1, "nothing was trained"
    keys = [row.key for row in left_out.plan(tmp_path).first_rows()]
    assert [row.key for row in planned[0].first_rows()] == keys
    assert planned[0].tasks == ("clipart", "painting", "photo") and left_out.to == "sketch"


def test_ten_seeds_of_grouped_methods_train_no_rate_again(bench: dict[str, Any], tmp_path: Path) -> None:
    tuned, grouped = (s.plan(tmp_path) for s in bench["stages"].stages(("symbols",), ("tuned", "grouped")))
    assert tuned.base.study.name == grouped.base.study.name
    rates = [{row.key for row in plan.first_rows() if row.column == "clip_lora"} for plan in (tuned, grouped)]
    assert rates[0] == rates[1] and len(rates[0]) == 3
    assert len(grouped.base.study.seeds) == 10 and len(tuned.base.study.seeds) == 3


def test_all_stages_of_a_clip_stay_within_two_thousand_cells(bench: dict[str, Any], tmp_path: Path) -> None:
    cells = most = 0
    for stage in bench["stages"].stages(("symbols",)):
        rows, highest = bench["estimate"].planned(stage.plan(tmp_path))
        cells, most = cells + sum(len(row.seeds) for row in rows), most + highest
    assert 1000 < cells < 1500 and most < 2250


def made(stage: Any, storage: Path, level: float) -> Comparison:
    """Records of a stage in which MmAP is ahead of the others by what ``level`` says."""
    plan = stage.plan(storage)
    middle = {name: plan.first_rates(name)[1:2] or plan.first_rates(name) for name in plan.points}
    for column in plan.columns:
        for split in plan.base.study.splits:
            for row in plan.tried(column.name, split, plan.first_rates(column.name)):
                finish(plan, row, 0.5 if row.lr in middle[column.name] else 0.4)
            for rate in middle[column.name]:
                chosen = plan.chosen(column.name, split, rate)
                value = 0.5 + (level if column.name == "mmap" else 0.0)
                by_seed = {s.label: value + 0.001 * i for i, s in enumerate(chosen.seeds)}
                finish(plan, chosen, value, by_seed=by_seed)
    for row in plan.fixed():
        finish(plan, row, 0.48)
    store, ledger = StudyStore(str(storage), plan.base.study.name), Ledger(str(storage))
    return assemble(plan, store, ledger)


def test_the_page_says_what_holds_only_where_every_clip_agrees(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    one, base, *without = bench["stages"].stages(("symbols",), ("tuned", "base", "without"))
    one = replace(one, methods=("zero_shot", "mmap", "clip_lora_multi", "zs_lp_multi"))
    other = replace(one, clip="other", report="other/tuned")
    found = made(one, tmp_path, 0.1)
    flat = {e.column: e for e in found.entries}["zs_lp"]
    leveled = [replace(e, tasks=flat.tasks) if e.column in ("mmap", "zs_lp") else e for e in found.entries]
    for stage, comparison in ((one, found), (other, replace(found, entries=tuple(leveled)))):
        folder = tmp_path / "reports" / stage.report
        folder.mkdir(parents=True)
        (folder / "comparison.json").write_text(comparison.to_json())
    for stage, numbers in (
        (base, {"base": 0.6, "new": 0.4, "all": 0.3}),
        *((stage, {"accuracy": 0.5}) for stage in without),
    ):
        folder = tmp_path / "transfers" / stage.report
        folder.mkdir(parents=True)
        own = {"task": "photo", "tuned": numbers, "plain": dict.fromkeys(numbers, 0.2), "images": 9}
        for seed in (1, 2, 3):
            (folder / f"clip_lora@{seed}.json").write_text(json.dumps({"tasks": [own]}))
        (folder / "tip@1.json").write_text(json.dumps({"refused": "no new classes"}))
    page = tmp_path / "RESULTS.md"
    bench["page"].write([one, base, *without], tmp_path, page)
    holds = page.read_text().split("**Holds**")[1].split("**Reversed**")[0]
    assert "MmAP beats CLIP-LoRA (multi-task): symbols +" in holds
    bench["page"].write([one, other, base, *without], tmp_path, page)
    text = page.read_text()
    holds, rest = text.split("**Holds**")[1].split("**Reversed**")
    assert "MmAP beats ZS-LP" not in holds and "MmAP beats ZS-LP (multi-task): symbols" in rest
    assert "| clip_lora | 60.0 ± 0.0 | 40.0 ± 0.0 | 48.0 ± 0.0 | 30.0 ± 0.0 | 3 |" in text
    assert "| tip | refused | no new classes" in text
    assert "| clip_lora | 50.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 50.0 |" in text
    assert "Not run: symbols/base" in text
