from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison import claims, show, texts
from orchestrator.reports.comparison.ablation import ablation
from orchestrator.reports.comparison.claims import Claim
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.method_table import AVERAGE, method_table
from orchestrator.reports.comparison.pairings import pairings
from orchestrator.reports.comparison.paper import beside_paper, paper_split, printed_results
from orchestrator.statistics.significance import Candidate, compare_with_best
from orchestrator.statistics.summary import delta_m, summarize

Make = Callable[..., Comparison]
PAPER_TABLES = Path(__file__).parents[3] / "benchmarks" / "paper_tables"
ERROR = "loss is NaN in epoch 2 of seed 1"


def shown(comparison: Comparison, width: int = 120) -> str:
    target = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    show(comparison, target)
    text = target.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return str(text).replace("\N{NO-BREAK SPACE}", " ")


def written(comparison: Comparison, name: str) -> str:
    return texts(Contents(comparison))[name]


def with_average(comparison: Comparison, column: str, recipe: str, averages: dict[str, float]) -> Comparison:
    """Every task of one column at these averages by seed."""
    entries = tuple(
        dataclasses.replace(e, tasks=dict.fromkeys(comparison.tasks, averages))
        if (e.column, e.recipe) == (column, recipe)
        else e
        for e in comparison.entries
    )
    return dataclasses.replace(comparison, entries=entries)


def claim(comparison: Comparison, statement: str) -> Claim:
    return next(c for c in claims(comparison) if c.statement == statement)


def test_method_table_means_are_over_seeds_of_task_averages(comparison: Comparison) -> None:
    table = method_table(comparison, "6-shot", "tuned")
    found = next(m for m in table.methods if m.column.name == "mmap")
    entry = comparison.entry("mmap", "6-shot", "tuned")
    assert entry is not None
    averages = [sum(entry.tasks[t][s] for t in comparison.tasks) / 4 for s in comparison.seeds]
    assert found.average == summarize(averages)
    stds = [summarize(list(entry.tasks[t].values())).std or 0 for t in comparison.tasks]
    assert found.mean_of_stds == pytest.approx(sum(stds) / 4)
    assert found.device_seconds == pytest.approx(entry.seconds + 55.0)


def test_untrained_column_stands_in_both_tables(comparison: Comparison) -> None:
    for recipe in ("shared", "tuned"):
        table = method_table(comparison, "6-shot", recipe)  # type: ignore[arg-type]
        assert table.methods[0].column.name == "zero_shot"
        assert table.methods[0].average is not None


def test_places_follow_the_means_of_a_row(comparison: Comparison) -> None:
    table = method_table(comparison, "6-shot", "tuned")
    for row in (*comparison.tasks, AVERAGE):
        means = {m.column.name: table.summary(m, row).mean for m in table.methods}  # type: ignore[union-attr]
        ranked = sorted(means, key=lambda name: -means[name])
        assert table.places(row) == {ranked[0]: 1, ranked[1]: 2}


def test_gains_name_their_references(comparison: Comparison) -> None:
    table = method_table(comparison, "6-shot", "tuned")
    by_name = {m.column.name: m for m in table.methods}

    def means(name: str) -> dict[str, float]:
        return {task: s.mean for task, s in by_name[name].tasks.items()}

    assert by_name["vpt_mt"].over_own_single == pytest.approx(delta_m(means("vpt_mt"), means("vpt_single")))
    assert by_name["mmap"].over_own_single is None
    assert by_name["mmap"].over_full_single == pytest.approx(delta_m(means("mmap"), means("full_ft_single")))
    assert by_name["full_ft_single"].over_full_single is None
    worst = min(comparison.tasks, key=lambda t: means("coop_mt")[t] - means("zero_shot")[t])
    assert by_name["coop_mt"].worst is not None and by_name["coop_mt"].worst[0] == worst


def test_terminal_holds_twelve_columns_and_folds_when_narrow(comparison: Comparison) -> None:
    wide = shown(comparison, 120)
    heading = next(line for line in wide.splitlines() if "ZeroShot" in line)
    assert all(name in heading for name in ("CoOp", "MaPLe-MT", "VPT-MT", "BitFit", "MmAP"))
    narrow = shown(comparison, 100)
    heading = next(line for line in narrow.splitlines() if "ZeroShot" in line)
    assert "MaPLe" in heading and "MmAP" not in heading
    for text in (wide, narrow):
        assert "6 training + 4 validation" in " ".join(text.split())
        assert "4 of 5" in text and "0.35↑" in text
        assert "no evidence" in " ".join(text.split())


def test_marks_beside_the_best_account_for_its_selection(comparison: Comparison) -> None:
    best = comparison.entry("full_ft", "6-shot", "tuned")
    assert best is not None
    seeds = best.seed_means()
    steady = {s: v - 0.004 for s, v in seeds.items()}
    close = with_average(comparison, "mmap", "tuned", steady)
    close = with_average(close, "coop_mt", "tuned", {"1": 0.2, "2": 0.4, "3": 0.7})
    close = with_average(close, "bitfit", "tuned", {"1": 0.5, "2": 0.5})
    table = method_table(close, "6-shot", "tuned")
    marks = {m.column.name: m.mark for m in table.methods}
    assert (marks["mmap"], marks["zero_shot"], marks["coop_mt"], marks["bitfit"]) == ("≈", "", "?", "?")
    found = table.significance
    assert (found.rows, found.criterion.nu, found.apart, found.incomplete) == (
        10,
        18,
        ("coop_mt",),
        ("bitfit",),
    )
    files = texts(Contents(close))
    for text in (shown(close), files["README.md"], files["tables.tex"].replace(r"$\approx$", "≈")):
        flat = " ".join(text.split())
        assert "≈ not significantly different from the best" in flat
        assert "? not compared with the best: seeds are missing, or the variance" in flat
        assert "below the best are significantly worse (10 methods;" in flat


@pytest.mark.parametrize("folder", ["six_shots", "tuned", "ablation", "curves"])
def test_reports_that_were_committed_are_written_again_to_the_byte(folder: str) -> None:
    comparison = Comparison.from_json((PAPER_TABLES / folder / "comparison.json").read_text())
    page = (PAPER_TABLES / folder / "README.md").read_text()
    images = re.findall(r"\(figures/([^)]+)\)", page)
    found = texts(Contents(comparison), images)
    assert set(found) == {path.name for path in (PAPER_TABLES / folder).iterdir() if path.is_file()} - {
        "comparison.json"
    }
    for name, text in found.items():
        assert text.encode() == (PAPER_TABLES / folder / name).read_bytes(), name


def test_every_format_says_how_many_of_the_tried_rates_have_a_result(comparison: Comparison) -> None:
    row = next(line for line in written(comparison, "README.md").splitlines()[::-1] if "| VPT-MT |" in line)
    assert "| 4 of 5 |" in row


def test_terminal_says_why_a_column_failed(make: Make) -> None:
    failed = make(failed={("maple_single", "tuned"): f"{ERROR}\nTraceback"})
    text = shown(failed)
    assert f"No numbers for MaPLe: {ERROR}." in text
    assert "VPT at 0.35: loss is NaN in epoch 2." in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": ("1",)},
        {"recipes": ("shared",)},
        {"missing": ("mmap",)},
        {"missing": ("zero_shot", "full_ft_single", "full_ft")},
        {"failed": {(name, "tuned"): ERROR for name in ("mmap", "coop_mt", "mlp", "mmap_fixed_1")}},
        {"splits": ("1-shot", "6-shot"), "tune_ablation": False},
        {"dataset": "office_home", "tasks": ("Art", "Clipart", "Product", "Real World")},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_format_takes_an_incomplete_comparison(make: Make, changes: dict[str, Any]) -> None:
    comparison = make(**changes)
    assert shown(comparison, 100)
    for text in texts(Contents(comparison)).values():
        assert "nan" not in text.lower().replace(ERROR.lower(), "").replace("loss is nan in epoch 2", "")
        assert "None" not in text


def test_one_seed_decides_nothing(make: Make) -> None:
    comparison = make(seeds=("1",))
    assert {c.verdict for c in claims(comparison)} <= {"undecided", "no data"}
    assert "±" not in "".join(line for line in shown(comparison).splitlines() if line.startswith("Average"))
    assert "One seed: no difference can be tested." in shown(comparison)


@pytest.mark.parametrize(
    ("lead", "verdict"),
    [
        ({"1": 0.02, "2": 0.021, "3": 0.019}, "holds"),
        ({"1": -0.02, "2": -0.021, "3": -0.019}, "reversed"),
        ({"1": 0.02, "2": -0.02, "3": 0.01}, "undecided"),
    ],
)
def test_verdict_is_where_the_paired_interval_lies(
    comparison: Comparison, lead: dict[str, float], verdict: str
) -> None:
    base = {"1": 0.5, "2": 0.6, "3": 0.4}
    changed = with_average(comparison, "coop_single", "tuned", base)
    changed = with_average(changed, "coop_mt", "tuned", {s: base[s] + lead[s] for s in base})
    found = claim(changed, "CoOp-MT beats CoOp")
    assert found.verdict == verdict
    assert found.recipe == "tuned"
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(sum(lead.values()) / 3)
    assert (found.better.lr, found.worse.lr) == tuple(
        entry.lr for name in ("coop_mt", "coop_single") if (entry := changed.entry(name, "6-shot", "tuned"))
    )


@pytest.mark.parametrize(("behind", "verdict"), [(0.005, "holds"), (0.02, "reversed"), (0.0101, "undecided")])
def test_on_par_is_tested_against_a_margin_of_one_point(
    comparison: Comparison, behind: float, verdict: str
) -> None:
    noise = {"1": 0.001, "2": -0.001, "3": 0.0}
    base = {"1": 0.5, "2": 0.6, "3": 0.4}
    changed = with_average(comparison, "full_ft", "tuned", base)
    changed = with_average(changed, "mmap", "tuned", {s: base[s] - behind + noise[s] for s in base})
    assert claim(changed, "MmAP is within one point of Full FT (multi-task)").verdict == verdict


def test_claim_falls_back_to_the_shared_recipe_and_says_so(make: Make) -> None:
    comparison = make(failed={("coop_mt", "tuned"): ERROR}, tune_ablation=False)
    found = claim(comparison, "CoOp-MT beats CoOp")
    assert found.recipe == "shared"
    assert "shared recipe only: no tuned result for CoOp-MT" in found.notes
    assert found.words.endswith("(shared rate)")
    assert claim(comparison, "gradient grouping beats all tasks in one group").recipe == "shared"
    assert "(shared rate)" in written(comparison, "claims.md")


def test_claim_says_that_rates_are_missing(comparison: Comparison) -> None:
    found = claim(comparison, "VPT-MT beats VPT")
    assert "4 of the 5 rates of VPT have a result" in found.notes
    assert not any("rates of" in note for note in claim(comparison, "CoOp-MT beats CoOp").notes)


def test_a_side_that_test_itself_selected_has_an_interval_that_accounts_for_it(
    comparison: Comparison,
) -> None:
    entries = tuple(dataclasses.replace(e, validation={}) for e in comparison.entries)
    paper = dataclasses.replace(comparison, entries=entries, protocol="paper")
    found = claim(paper, "MmAP beats the best single-task prompt")
    prompts = [paper.entry(f"{m}_single", "6-shot", "tuned") for m in ("coop", "vpt", "maple")]
    mmap = paper.entry("mmap", "6-shot", "tuned")
    assert mmap is not None
    rows = [entry.seed_means() for entry in (mmap, *prompts) if entry is not None]
    tukey = compare_with_best([Candidate(name=i, values=row) for i, row in enumerate(rows)], paper.seeds)
    assert found.difference is not None and found.difference.low is not None and tukey.criterion is not None
    assert found.difference.mean - found.difference.low == pytest.approx(tukey.criterion.threshold)
    assert any("the interval accounts for that" in note for note in found.notes)
    assert claim(comparison, "MmAP beats the best single-task prompt").better.among == ()


def test_best_single_task_prompt_is_chosen_by_validation_not_by_test(comparison: Comparison) -> None:
    high = {"1": 0.9, "2": 0.9, "3": 0.9}
    changed = with_average(comparison, "coop_single", "tuned", high)
    found = claim(changed, "MmAP beats the best single-task prompt")
    assert found.worse.label == "MaPLe"
    unvalidated = dataclasses.replace(
        changed, entries=tuple(dataclasses.replace(e, validation={}) for e in changed.entries)
    )
    found = claim(unvalidated, "MmAP beats the best single-task prompt")
    assert found.worse.label == "CoOp"
    assert any("having no validation" in note for note in found.notes)


def test_pairings_rank_the_choice_of_each_seed(comparison: Comparison) -> None:
    found = pairings(comparison, "6-shot", "tuned")
    assert found is not None and found.possible == 3 and found.complete
    for choice in found.choices:
        values = {p: seeds[choice.seed] for p, seeds in found.accuracy.items()}
        better = [p for p, value in values.items() if value > values[choice.partition]]
        assert choice.rank == 1 + len(better)
        assert choice.regret == pytest.approx(max(values.values()) - values[choice.partition])
        rest = [value for p, value in values.items() if p != choice.partition]
        assert found.others()[choice.seed] == pytest.approx(sum(rest) / 2)


def test_partition_that_was_not_run_is_known_from_the_seeds_that_chose_it(
    comparison: Comparison, without: Callable[[Comparison, str], Comparison]
) -> None:
    found = pairings(without(comparison, "mmap_fixed_0"), "6-shot", "tuned")
    assert found is not None
    own = comparison.entry("mmap", "6-shot", "tuned")
    assert own is not None
    assert found.accuracy[((0, 1), (2, 3))] == {"3": own.seed_means()["3"]}
    assert {c.seed: c.among for c in found.choices} == {"1": 2, "2": 2, "3": 3}


def test_random_grouping_is_a_row_of_the_framework_ablation(comparison: Comparison) -> None:
    found = ablation(comparison, "6-shot", "tuned")
    assert found is not None and found.pairings is not None
    labels = [row.label for row in found.framework]
    assert labels[-3:] == ["random grouping", "gradient grouping", "all in one group"]
    row = next(r for r in found.framework if r.label == "random grouping")
    assert row.seeds == found.pairings.others()
    assert [r.label for r in found.generators] == [
        "joint prompts",
        "MLP prompts",
        "MmAP",
    ]


def test_claims_page_of_symbols_opens_with_what_it_is_not(comparison: Comparison) -> None:
    page = written(comparison, "claims.md")
    assert "no evidence for or against the paper" in page.split("\n\n")[1]
    other = written(dataclasses.replace(comparison, dataset="office_home"), "claims.md")
    assert "no evidence" not in other


def test_reports_say_that_intervals_over_seeds_cover_draws_from_one_finite_pool(
    comparison: Comparison,
) -> None:
    for page in (written(comparison, "README.md"), written(comparison, "claims.md")):
        assert "one finite pool" in page and "other images" in page
    paper = written(dataclasses.replace(comparison, protocol="paper"), "claims.md")
    assert "their test images differ and overlap" in paper


def test_printed_averages_agree_with_their_tasks_or_carry_a_note() -> None:
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for p in printed_results():
        if p.table in (1, 2) and p.split:
            groups.setdefault((p.dataset, p.split, p.method, p.regime), []).append(p)
    assert len(groups) == 48
    for rows in groups.values():
        average = next(p for p in rows if p.task == AVERAGE)
        tasks = [p.mean for p in rows if p.task != AVERAGE]
        assert len(tasks) == 4
        apart = abs(sum(tasks) / 4 - average.mean)  # rounding alone: 0.05 of the tasks, 0.05 of the average
        assert apart < 0.0999 or average.note
        assert abs(sum(tasks) / 4 - average.value) < 0.1001


def test_bitfit_misprint_is_corrected_and_said(make: Make) -> None:
    comparison = make(
        dataset="office-home", splits=("12-shot",), tasks=("Art", "Clipart", "Product", "Real World")
    )
    table = method_table(comparison, "12-shot", "tuned")
    found = beside_paper(table)
    assert len(found) == 12 * 5
    bitfit = next(pair for pair in found if pair.column.name == "bitfit" and pair.task == AVERAGE)
    assert bitfit.printed.value == 81.3
    assert bitfit.difference == pytest.approx(bitfit.ours.mean - 0.813)
    real = next(pair for pair in found if pair.column.name == "mmap" and pair.task == "Real World")
    assert real.printed.mean == 92.4
    assert "VPT-MT" in written(comparison, "README.md")


def test_only_the_papers_datasets_and_splits_stand_beside_it() -> None:
    assert paper_split("mini_domainnet", "3-shot") == "1%"
    assert paper_split("office_home", "20%") == "20%"
    assert paper_split("office_home", "3-shot") is None
    assert paper_split("symbols", "6-shot") is None


def test_csv_holds_every_number(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(written(comparison, "accuracies.csv"))))
    assert len(rows) == sum(len(seeds) for e in comparison.entries for seeds in e.tasks.values())
    entry = comparison.entry("mmap", "6-shot", "tuned")
    assert entry is not None
    for row in rows:
        if (row["column"], row["recipe"]) == ("mmap", "tuned"):
            assert float(row["accuracy"]) == entry.tasks[row["task"]][row["seed"]]


def test_summary_csv_has_the_layout_of_the_papers_tables(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(written(comparison, "summary.csv"))))
    assert {row["regime"] for row in rows} == {"ZS", "STL", "MTL"}
    mmap = {r["task"]: r for r in rows if (r["method"], r["recipe"]) == ("MmAP", "tuned")}
    assert list(mmap) == [*comparison.tasks, AVERAGE]
    entry = comparison.entry("mmap", "6-shot", "tuned")
    assert entry is not None
    assert float(mmap[AVERAGE]["mean"]) == pytest.approx(
        100 * summarize(list(entry.seed_means().values())).mean, abs=1e-3
    )


def test_latex_rows_are_as_wide_as_their_table_and_braces_balance(comparison: Comparison) -> None:
    text = written(comparison, "tables.tex")
    floats = text.split(r"\begin{table*}")[1:]
    assert len(floats) >= 6
    for block in floats:
        width = len(block.split(r"\begin{tabular}{@{}")[1].split("@{}}")[0])
        for line in block.splitlines():
            if line.endswith(r"\\"):
                spans = [int(part.split("}")[0]) - 1 for part in line.split(r"\multicolumn{")[1:]]
                assert line.replace(r"\&", "").count("&") + 1 + sum(spans) == width, line
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert text.isascii()


def test_comparison_survives_its_file(comparison: Comparison) -> None:
    text = comparison.to_json()
    assert Comparison.from_json(text).to_json() == text
    assert json.loads(text)["dataset"] == "symbols"


def test_claims_are_made_of_the_columns_that_were_compared(comparison: Comparison) -> None:
    def keep(*names: str) -> Comparison:
        columns = tuple(c for c in comparison.columns if c.name in names)
        entries = tuple(e for e in comparison.entries if e.column in names)
        return dataclasses.replace(comparison, columns=columns, entries=entries)

    assert [c.statement for c in claims(keep("mmap", "coop_mt"))] == ["MmAP beats CoOp-MT"]
    assert claims(keep("zero_shot", "bitfit")) == []
    assert "None of them concerns" in written(keep("zero_shot", "bitfit"), "claims.md")
    assert shown(keep("zero_shot", "bitfit"))


def test_claims_about_gradients_need_gradient_grouping(comparison: Comparison) -> None:
    columns = tuple(
        dataclasses.replace(c, grouping="random") if c.name == "mmap" else c for c in comparison.columns
    )
    changed = dataclasses.replace(comparison, columns=columns)
    assert not any("gradient" in c.statement for c in claims(changed))
    assert pairings(changed, "6-shot", "tuned") is None


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs and graphicx")
def test_latex_compiles(make: Make, tmp_path: Path) -> None:
    comparison = make(dataset="office_home", tasks=("Art", "Clipart", "Product", "Real World"))
    (tmp_path / "tables.tex").write_text(written(comparison, "tables.tex"))
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\input{tables}\\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout


def test_claim_about_a_partition_says_which_seeds_chose_it(comparison: Comparison) -> None:
    chosen_twice = claim(comparison, "gradient grouping beats clipart+sketch | painting+photo")
    assert "which is what the gradients chose for seed 1 and 2" in chosen_twice.notes
    never = claim(comparison, "gradient grouping beats clipart+photo | painting+sketch")
    assert not any("chose" in note for note in never.notes)
