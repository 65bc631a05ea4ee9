"""The comparison of newer methods: what its stages train, what the page says of it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
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
MODULES = (
    *("stages", "transfers", "profiles", "estimate", "tables", "unseen", "statements", "kept", "page"),
    *("clips", "run"),
)


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
    assert 1000 < cells < 1500 and most < 2600


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


def written(stage: Any, storage: Path, found: Comparison) -> Comparison:
    """A comparison where its stage keeps it."""
    folder = storage / "reports" / stage.report
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(found.to_json())
    return found


def changed(found: Comparison, column: str, **fields: Any) -> Comparison:
    """The same with other fields in a column's entries."""
    entries = tuple(replace(e, **fields) if e.column == column else e for e in found.entries)
    return replace(found, entries=entries)


def between(text: str, start: str, end: str) -> str:
    return text.split(start)[1].split(end)[0]


def test_the_page_says_what_holds_only_where_every_clip_agrees(bench: dict[str, Any], tmp_path: Path) -> None:
    (one,) = bench["stages"].stages(("symbols",), ("tuned",))
    one = replace(one, methods=("zero_shot", "mmap", "clip_lora_multi", "zs_lp_multi"))
    other = replace(one, clip="other", report="other/tuned")
    found = written(one, tmp_path, made(one, tmp_path, 0.1))
    page = tmp_path / "RESULTS.md"
    bench["page"].write([one], tmp_path, page)
    assert "**Holds** (0)" in page.read_text(), "one CLIP agrees with nobody"
    flat = {e.column: e for e in found.entries}["zs_lp"]
    written(other, tmp_path, changed(changed(found, "mmap", tasks=flat.tasks), "zs_lp", tasks=flat.tasks))
    bench["page"].write([one, other], tmp_path, page)
    holds, rest = page.read_text().split("**Holds**")[1].split("**Reversed**")
    assert "MmAP beats" not in holds and "MmAP beats ZS-LP (multi-task): symbols +10.0" in rest
    (tmp_path / "reports" / other.report / "comparison.json").write_text(found.to_json())
    bench["page"].write([one, other], tmp_path, page)
    holds = between(page.read_text(), "**Holds**", "**Reversed**")
    assert "MmAP beats CLIP-LoRA (multi-task): symbols +10.0" in holds
    assert "; other +10.0" in holds
    failed = {"3": dict.fromkeys(found.tasks, 0.1)}
    kept = {task: {"1": 0.6, "2": 0.601} for task in found.tasks}
    lucky = changed(found, "mmap", tasks=kept, failed_starts=failed)
    (tmp_path / "reports" / other.report / "comparison.json").write_text(lucky.to_json())
    bench["page"].write([one, other], tmp_path, page)
    text = page.read_text()
    assert "MmAP beats" not in between(text, "**Holds**", "**Reversed**"), "a start of MmAP failed"
    assert "the start of MmAP failed under seed 3" in text


def test_a_stage_without_numbers_takes_none_away(bench: dict[str, Any], tmp_path: Path) -> None:
    one, more = bench["stages"].stages(("symbols",), ("tuned", "grouped"))
    one = replace(one, methods=("zero_shot", "mmap", "clip_lora_multi"))
    found = written(one, tmp_path, made(one, tmp_path, 0.1))
    empty = replace(
        found, entries=tuple(replace(e, tasks={}, error="not trained yet") for e in found.entries)
    )
    written(more, tmp_path, empty)
    text = "\n".join(bench["statements"].statements({one: found, more: empty}, {}, ["symbols"]))
    assert "MmAP beats CLIP-LoRA (multi-task): symbols +10.0" in text
    page = tmp_path / "RESULTS.md"
    bench["page"].write([one, more], tmp_path, page)
    assert "No numbers for" in page.read_text() and "not trained yet" in page.read_text()


def test_tables_mark_the_best_name_what_is_unranked_and_show_one_group(
    bench: dict[str, Any], tmp_path: Path
) -> None:
    (stage,) = bench["stages"].stages(("symbols",), ("grouped",))
    stage = replace(stage, methods=("zero_shot", "mmap", "one_group", "clip_lora_multi"), seeds=(1, 2, 3))
    found = written(stage, tmp_path, changed(made(stage, tmp_path, 0.1), "clip_lora", edge="high"))
    page = tmp_path / "RESULTS.md"
    bench["page"].write([stage], tmp_path, page)
    lines = page.read_text().splitlines()
    accuracy = next(line for line in lines if line.startswith("| MmAP | multi"))
    assert " ± 0.1 | best | 0 of 3 |" in accuracy
    assert any("| unranked |" in line for line in lines if line.startswith("| CLIP-LoRA (multi-task)"))
    assert any(line.startswith("| MmAP, all in one group |") for line in lines)
    assert "the first three seeds" in page.read_text() and found.columns


def test_new_classes_and_tasks_are_tabled_without_failed_starts(
    bench: dict[str, Any], tmp_path: Path
) -> None:
    base, *without = bench["stages"].stages(("symbols",), ("base", "without"))
    for stage, numbers in (
        (base, {"base": 0.6, "new": 0.4, "all": 0.3}),
        *((stage, {"accuracy": 0.5}) for stage in without),
    ):
        own = replace(stage, methods=("zero_shot", "mmap", "clip_lora_multi", "zs_lp_multi"))
        found = changed(made(own, tmp_path, 0.0), "mmap", failed_starts={"3": {"photo": 0.1}})
        written(stage, tmp_path, changed(found, "clip_lora", edge="high"))
        folder = tmp_path / "transfers" / stage.report
        folder.mkdir(parents=True)
        for seed in (1, 2, 3):
            low = {name: value / 4 for name, value in numbers.items()}
            for column, values in (("clip_lora", numbers), ("mmap", low if seed == 3 else numbers)):
                one = {"task": "photo", "tuned": values, "plain": dict.fromkeys(numbers, 0.2), "images": 9}
                ways = {"tasks": [one]} | ({"nearest": [one]} if stage.kind == "without" else {})
                (folder / f"{column}@{seed}.json").write_text(json.dumps(ways))
        for seed in (1, 2, 3):
            (folder / f"zs_lp@{seed}.json").write_text(json.dumps({"refused": "no new classes"}))
    page = tmp_path / "RESULTS.md"
    bench["page"].write([base, *without], tmp_path, page)
    text = page.read_text()
    halves = "60.0 ± 0.0 | 40.0 ± 0.0 | 48.0 ± 0.0 | 30.0 ± 0.0"
    assert f"| CLIP-LoRA (multi-task) | {halves} | 3 | 0 | unranked |" in text
    assert f"| MmAP | {halves} | 2 | 1 |  |" in text, "the failed start is counted, and in no mean"
    assert "| Zero-shot | 20.0 ± 0.0 |" in text
    assert "No numbers for ZS-LP (multi-task): no new classes." in text
    assert "| CLIP-LoRA (multi-task) | 50.0 ± 0.0 ↑ | 50.0 ± 0.0 ↑ |" in text
    assert "| MmAP | 50.0 ± 0.0 (2 seeds) |" in text
    assert "| MmAP, nearest | 50.0 ± 0.0 (2 seeds) |" in text
    assert "| Zero-shot |" + 5 * " 20.0 ± 0.0 |" in text
    (tmp_path / "transfers" / base.report / "mmap@2.json").write_text(json.dumps({"refused": "damaged"}))
    bench["page"].write([base, *without], tmp_path, page)
    assert "No numbers for MmAP, seed 2: damaged." in page.read_text()


def scored_as(stage: Any, storage: Path, tasks: tuple[str, ...], values: dict[str, list[Any]]) -> None:
    """Transfers of a stage: by column the numbers of each seed, over zero-shot of 0.2."""
    folder = storage / "transfers" / stage.report
    folder.mkdir(parents=True, exist_ok=True)
    for column, by_seed in values.items():
        for seed, tuned in enumerate(by_seed, 1):
            plain = dict.fromkeys(tuned, 0.2)
            own = [{"task": task, "tuned": tuned, "plain": plain, "images": 9} for task in tasks]
            (folder / f"{column}@{seed}.json").write_text(json.dumps({"tasks": own}))


def test_what_holds_on_new_classes_and_tasks_is_paired_by_seed(bench: dict[str, Any], tmp_path: Path) -> None:
    clips = ("symbols", "other")
    columns = ("zero_shot", "mmap", "clip_lora_multi", "zs_lp_multi", "ivlp_multi", "ivlp_grouped")
    base = list(bench["stages"].stages(clips, ("base",)))
    without = list(bench["stages"].stages(clips, ("without",)))
    for stage in (*base, *without):
        own = replace(stage, clip="symbols", methods=columns)
        written(stage, tmp_path, changed(made(own, tmp_path, 0.0), "ivlp", edge="high"))

    def numbers(base: float, new: float) -> list[dict[str, float]]:
        return [{"base": base + 0.001 * seed, "new": new + 0.001 * seed, "all": 0.1} for seed in range(3)]

    for stage, lead in zip(base, (0.1, -0.1), strict=True):
        lora, bound = numbers(0.6, 0.5 - lead), [{"base": 0.3, "new": 0.2, "all": 0.1}] * 3
        given = {"mmap": numbers(0.6, 0.5), "clip_lora": lora, "zs_lp": bound, "ivlp": numbers(0.1, 0.1)}
        scored_as(stage, tmp_path, ("photo", "sketch"), {**given, "ivlp_grouped": numbers(0.7, 0.7)})
    for stage in without:
        low, high = ([{"accuracy": level + 0.01 * seed} for seed in range(3)] for level in (0.3, 0.5))
        scored_as(stage, tmp_path, ("any",), {"mmap": low, "clip_lora": high, "zs_lp": high, "ivlp": high})
    page = tmp_path / "RESULTS.md"
    bench["page"].write([*base, *without[:-1]], tmp_path, page)
    assert "on a task left out" in page.read_text().split("**Cannot be told**")[1]
    bench["page"].write([*base, *without], tmp_path, page)
    text = page.read_text()
    holds, is_reversed = between(text, "**Holds**", "**Reversed**"), between(text, "**Reversed**", "**Cannot")
    rest = between(text, "**Cannot be told**", "## symbols")
    assert "- MmAP beats zero-shot on new classes: symbols +30.1" in holds
    assert "- MmAP beats ZS-LP (multi-task) from base to new (harmonic mean): symbols +30.6" in holds
    assert "ZS-LP (multi-task) on new classes" not in text, "it is zero-shot there"
    assert "- MmAP beats CLIP-LoRA (multi-task) on new classes: symbols +10.0" in rest and "-10.0" in rest
    assert "IVLP (multi-task) on new classes: symbols no number [the best rate of" in rest
    assert "IVLP (grouped)" not in holds + is_reversed + rest, "groups ask for more seeds"
    assert "- MmAP beats CLIP-LoRA (multi-task) on a task left out: symbols -20.0" in is_reversed
    lucky = Comparison.from_json((tmp_path / "reports" / without[0].report / "comparison.json").read_text())
    lucky = changed(lucky, "clip_lora", failed_starts={"3": {"photo": 0.1}})
    (tmp_path / "reports" / without[0].report / "comparison.json").write_text(lucky.to_json())
    bench["page"].write([*base, *without], tmp_path, page)
    rest = page.read_text().split("**Cannot be told**")[1]
    said = "a start of CLIP-LoRA (multi-task) failed under seed 3; 2 of 3 seeds"
    assert f"on a task left out: symbols -20.0 (-20.0 to -20.0, n = 2) [{said}]" in rest


def test_every_evaluation_is_recorded_before_it_is_made(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage,) = bench["stages"].stages(("symbols",), ("base",))
    stage = replace(stage, methods=("zero_shot", "mmap", "zs_lp_multi"))
    found = made(stage, tmp_path, 0.1)
    found = changed(found, "mmap", failed_starts={"3": {"photo": 0.1}})
    store = StudyStore(str(tmp_path), stage.plan(tmp_path).base.study.name)
    known: list[int] = []

    def score(stage: Any, storage: Path, key: str, ways: dict[str, str]) -> dict[str, Any]:
        known.append(len(store.load_test_evaluations()))
        assert ways == {"tasks": "mean"}
        return {"tasks": [], "key": key}

    monkeypatch.setattr(bench["transfers"], "score", score)
    monkeypatch.setattr(bench["transfers"], "ProcessPoolExecutor", InProcess)
    bench["transfers"].transfer(stage, tmp_path, found, 2)
    assert known == [1] * 5, "three seeds of one column, and the two of the other that did not fail"
    (look,) = store.load_test_evaluations()
    assert len(look["keys"]) == 5 and "on new" in look["reason"]
    assert {c: sorted(s) for c, s in bench["transfers"].scores(stage, tmp_path).items()} == {
        "mmap": ["1", "2"],
        "zs_lp": ["1", "2", "3"],
    }
    bench["transfers"].transfer(stage, tmp_path, found, 2)
    assert len(known) == 5, "nothing is scored twice"
    folder = tmp_path / "transfers" / stage.report
    (folder / "zs_lp@2.json").write_text(json.dumps({"refused": "its file was damaged"}))
    (folder / "zs_lp@3.json").write_text(json.dumps({"tasks": [], "key": "of another rate"}))
    bench["transfers"].transfer(stage, tmp_path, found, 2)
    assert len(known) == 7, "what was refused, or is of another cell, is scored again"


class InProcess:
    """Stands in for a pool of processes."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def submit(self, work: Any, *given: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*given))
        return future


@pytest.mark.parametrize(
    ("codes", "unfinished", "ends", "calls"),
    [
        ([0], [], 0, 1),
        ([1], [False], 0, 1),  # some column has no numbers, and another start would not change that
        ([1, 0], [True], 0, 2),
        ([1, 1, 1], [True, True, True], 1, 3),
        ([130], [], 130, 1),
        ([-9], [], -9, 1),  # killed: not taken for an end
    ],
)
def test_a_stage_is_started_again_while_another_start_would_do_more(
    bench: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codes: list[int],
    unfinished: list[bool],
    ends: int,
    calls: int,
) -> None:
    (stage,) = bench["stages"].stages(("symbols",), ("tuned",))
    options = argparse.Namespace(storage=tmp_path, slots=None, gpus_per_slot=None, processes=1)
    left, answers = list(codes), list(unfinished)
    monkeypatch.setattr(bench["run"], "call", lambda *_: left.pop(0))
    monkeypatch.setattr(bench["run"], "is_unfinished", lambda *_: answers.pop(0))
    assert bench["run"].run_stage(stage, options) == ends
    assert len(codes) - len(left) == calls and not answers
    (line,) = (tmp_path / "stages.jsonl").read_text().splitlines()
    assert json.loads(line)["code"] == ends


def test_what_cannot_be_scored_ends_its_stage_alone(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (stage,) = bench["stages"].stages(("symbols",), ("base",))
    options = argparse.Namespace(storage=tmp_path, slots=None, gpus_per_slot=None, processes=1)
    monkeypatch.setattr(bench["run"], "call", lambda *_: 0)
    assert bench["run"].run_stage(stage, options) == 1, "there is no comparison to score"
    assert "comparison.json" in capsys.readouterr().err


def test_a_signal_is_handed_on_and_waited_for() -> None:
    """In a process of its own: the child sends the signal to its parent."""
    child = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(60)\n"
    )
    parent = (
        f"import os, sys; sys.path.insert(0, {str(FOLDER)!r}); import run\n"
        f"sys.exit(run.call([sys.executable, '-c', {child!r}], dict(os.environ)))"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr


def test_finished_stages_are_kept_without_the_folder_they_came_from(
    bench: dict[str, Any], tmp_path: Path
) -> None:
    storage, kept = tmp_path / "storage", tmp_path / "kept"
    first, other = bench["stages"].stages(("symbols", "symbols_long"), ("base",))
    small = {"methods": ("zero_shot", "mmap"), "to": None}
    first, other = replace(first, **small), replace(other, **small)
    for stage in (first, other):
        found = made(stage, storage, 0.1)
        written(stage, storage, replace(found, commands=(f"orchestrator compare storage={storage}",)))
    keep = bench["kept"]
    start = {"command": ["orchestrator", f"storage={storage}"], "seconds": 90.0, "machine": "2 × CPU"}
    keep.add_to_log(storage, {"stage": first.report, **start, "code": 130})
    keep.add_to_log(storage, {"stage": first.report, **start, "code": 0})
    keep.add_to_log(storage, {"stage": other.report, **start, "code": 1})
    scores = storage / "transfers" / first.report
    scores.mkdir(parents=True)
    half = {"base": 0.5, "new": 0.4, "all": 0.3}
    (scores / "mmap@1.json").write_text(json.dumps({"tasks": [{"tuned": half, "plain": half}]}))
    (storage / "profiles").mkdir()
    (storage / "profiles" / "symbols-cpu.json").write_text('{"mmap": {"peak_gb": 1.5}}')
    for _ in range(2):
        assert keep.take([first, other], storage, kept) == [first.report, "profiles/symbols-cpu.json"]
    assert [line["code"] for line in keep.log(kept)] == [130, 0], "each start once"
    assert str(storage) not in (kept / "stages.jsonl").read_text()
    report = Path("reports") / first.report / "comparison.json"
    before, after = (Comparison.from_json((folder / report).read_text()) for folder in (storage, kept))
    assert after == replace(before, commands=("orchestrator compare storage=FOLDER",))
    assert (kept / "transfers" / first.report / "mmap@1.json").is_file()
    (storage / "profiles" / "symbols-cpu.json").write_text('{"coop": {"peak_gb": 1.0}}')
    keep.take([], storage, kept)
    assert json.loads((kept / "profiles" / "symbols-cpu.json").read_text()).keys() == {"mmap", "coop"}
    assert [*keep.times(kept)] == [[first.report, "2", "3", "2 × CPU"]]
    with pytest.raises(ValueError, match="--tiny is not kept"):
        keep.take([replace(first, seeds=(1, 2))], storage, kept)
    page = tmp_path / "RESULTS.md"
    bench["page"].write([first, other], kept, page)
    text = page.read_text()
    assert f"Not run: {other.report}." in text and "| symbols/base | 2 | 3 | 2 × CPU |" in text


def test_the_parts_of_the_published_recipes_are_all_newer_methods(
    bench: dict[str, Any], tmp_path: Path
) -> None:
    parts = [stage.plan(tmp_path) for stage in bench["stages"].stages(("symbols",), ("published",))]
    (tuned,) = bench["stages"].stages(("symbols",), ("tuned",))
    columns = [column.name for plan in parts for column in plan.columns if column.name != "zero_shot"]
    assert len(columns) == len({*columns})
    assert {"zero_shot", *columns} == {column.name for column in tuned.plan(tmp_path).columns}


def test_the_parts_of_the_published_recipes_are_one_table(bench: dict[str, Any], tmp_path: Path) -> None:
    parts = [*bench["stages"].stages(("symbols",), ("published",))][:2]
    for number, stage in enumerate(parts):
        plan = stage.plan(tmp_path)
        for row in plan.fixed():
            finish(plan, row, 0.5 + 0.1 * number)
        store, ledger = StudyStore(str(tmp_path), plan.base.study.name), Ledger(str(tmp_path))
        written(stage, tmp_path, assemble(plan, store, ledger))
    page = tmp_path / "RESULTS.md"
    bench["page"].write(parts, tmp_path, page)
    table = between(page.read_text(), "By the authors' recipes", "Parameters")
    assert page.read_text().count("By the authors' recipes") == 1
    assert table.count("ZeroShot") == 1
    assert table.index("IVLP (multi-task)") < table.index("ZS-LP (multi-task)"), "ordered together"
