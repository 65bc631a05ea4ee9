"""The ranking of a study as a table: rendered from what ``statistics.ranking.build_results`` returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.statistics.spending import in_words
from orchestrator.terminal.format import NBSP, accuracy, configuration, duration, integer, share

Results = Mapping[str, Any]
SHOWN = 20
WIDE = 96
"""Columns below which device time is left out."""
TIMES = {
    "total": "in all",
    "start_up": "until the first cell",
    "training": "training",
    "evaluation": "evaluation",
    "confirm": "test images",
    "per_trial_overhead": "between two trials of a slot",
}
"""Parts of an invocation's time in the order shown; training and evaluation are sums over slots."""

ESSENTIAL = ("prompt_length", "source_rows", "source_cols", "scale_init", "similarity", "objective", "lr")
NOT_COMPARED = {
    "one seed": "with one seed there is no spread to compare a difference with",
    "no residual": "the complete trials differ equally at every seed, or share their cells",
    "best apart": "the variance of rank 1 over the seeds is an outlier",
}
"""Reasons for the absence of marks that a reader cannot see in the table."""

REFERENCES = {"zero_shot": "zero-shot", "zero_step": "the same prompts before training"}
BASELINES = {"zero_shot": "zero-shot", "zero_step": "rank 1 before training"}


def ranking(results: Results, *, width: int = WIDE, limit: int = SHOWN) -> RenderableType:
    """Trials by validation, baselines below; at most ``limit`` trials, in at most ``width`` columns."""
    wide = width >= WIDE
    trials = ranked(results)
    shown = trials[:limit]
    varied = _varied(trial.get("config", {}) for trial in trials)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if wide else 0), header_style="bold")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("configuration", min_width=24)
    table.add_column("size (of CLIP)", justify="right", no_wrap=True)
    table.add_column("validation", justify="right", no_wrap=True)
    table.add_column("test", justify="right", no_wrap=True)
    if wide:
        table.add_column("device", justify="right", no_wrap=True)
    for position, trial in enumerate(shown, start=1):
        cells = (
            f"{position}{_mark(trial, results) if position > 1 else ' '}",
            str(trial["number"]),
            configuration({k: v for k, v in trial.get("config", {}).items() if k in varied}),
            _parameters(trial),
            _summary(trial.get("val")),
            _summary(trial.get("test")),
            *([_seconds(trial.get("device_seconds"))] if wide else []),
        )
        table.add_row(*cells, style="bold" if position == 1 else None)
    baselines = list(_baselines(results))
    if baselines and shown:
        table.add_section()
    for row in baselines:
        table.add_row(
            "–",
            "",
            Text(str(row["label"]), "italic"),
            _parameters(row),
            _summary(row.get("val")),
            _summary(row.get("test")),
            *([_seconds(row.get("device_seconds"))] if wide else []),
        )
    return table


def report(
    results: Results, *, footer: Sequence[str] = (), width: int = WIDE, limit: int = SHOWN
) -> RenderableType:
    """Title, ranking, what its marks mean, states, time, and lines of ``footer``."""
    parts: list[RenderableType] = [_title(results), ranking(results, width=width, limit=limit)]
    parts += [Text(line, "dim") for line in _legend(results, limit)]
    facts = [*_gains(results), *_pool(results), *_states(results), *_time(results), *_budgets(results)]
    parts.append(_facts([*facts, *footer]))
    return Group(*parts)


def _facts(lines: Iterable[str]) -> RenderableType:
    """``Label: text`` lines, the text in a column of its own; a line without a label goes on below."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=8, no_wrap=True)
    grid.add_column()
    for line in lines:
        label, colon, text = line.partition(":")
        if colon and label and not label.startswith(" "):
            grid.add_row(f"{label}:", Text(text.strip()))
        else:
            grid.add_row("", Text(line.strip()))
    return grid


def ranked(results: Results) -> list[Mapping[str, Any]]:
    """Complete trials, best first as ``build_results`` orders them; protocol ``paper`` has only test."""
    return [t for t in results["trials"] if t["state"] == "complete" and (t["val"] or t.get("test"))]


def _title(results: Results) -> RenderableType:
    trials = ranked(results)
    n = max(((t["val"] or t["test"]).get("n") or 0 for t in trials), default=0)
    seeds = f", mean ± standard deviation over {n} seeds" if n > 1 else ""
    order = "no validation images" if _unvalidated(results) else "ranked by validation"
    return Text.assemble((f"{_name(results)}", "bold"), f"  accuracy in %{seeds}; {order}")


def _unvalidated(results: Results) -> bool:
    """Protocol ``paper``: trials were tested and never validated."""
    trials = ranked(results)
    return bool(trials) and not any(t["val"] for t in trials)


def _legend(results: Results, limit: int) -> list[str]:
    trials = ranked(results)
    lines = _significance(results)
    if len(trials) > limit:
        lines.append(
            f"{len(trials) - limit} more complete trials: orchestrator results {_name(results)} --json"
        )
    if not trials:
        lines.append("No trial is complete yet.")
    if any(t.get("test") for t in trials):
        looks = len(results.get("looks", []))
        winner = "" if _unvalidated(results) else ". The winner is rank 1 by validation, whatever test says"
        lines.append(f"Test-set evaluations: {looks}{winner}")
    if results.get("extended_after_look"):
        lines.append(
            "Trials were added after a look at the test images: read the test column with that in mind"
        )
    return lines


def _mark(trial: Mapping[str, Any], results: Results) -> str:
    """``≈`` not significantly different from rank 1, ``?`` not compared with it, a space for worse."""
    if trial.get("separable_from_best") is False:
        return "≈"
    left_out = {*_comparison(results).get("apart", ()), *_comparison(results).get("incomplete", ())}
    return "?" if trial["number"] in left_out else " "


def _significance(results: Results) -> list[str]:
    """What the marks rest on, or why there are none."""
    found = _comparison(results)
    reason = found.get("reason")
    lines = []
    if reason in NOT_COMPARED:
        lines.append(f"No trial can be called worse than rank 1: {NOT_COMPARED[reason]}")
    if found.get("threshold") is not None:
        lines.append(
            f"≈ not significantly different from rank 1 (Tukey's test at {100 * found['confidence']:.0f} %, "
            f"{found['rows']} complete trials: threshold {100 * found['threshold']:.1f} points, residual s "
            f"{100 * found['s']:.1f} points, {found['nu']} degrees of freedom)"
        )
    if apart := [number for number in found.get("apart", ()) if number != results.get("winner")]:
        trials = ", ".join(map(str, apart))
        lines.append(
            f"? not compared with rank 1: the variance over the seeds is an outlier (Cochran's test at "
            f"{100 * found['cochran_level']:g} %). Trial{'s' * (len(apart) > 1)}: {trials}"
        )
    if same := found.get("same_cells"):
        pairs = ", ".join(f"{a} with {b}" for a, b in same)
        lines.append(f"Compared once, because they share all cells: trial{'s' * (len(same) > 1)} {pairs}")
    return lines


def _comparison(results: Results) -> Mapping[str, Any]:
    return results.get("comparison") or {}


def _gains(results: Results) -> list[str]:
    """What rank 1 gains over the reference rows on the test images, with the paired interval."""
    return [
        f"Gain:    {100 * gain['mean']:+.1f} points on test over {REFERENCES.get(name, name)}, paired 95 % "
        f"interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} (n = {gain['n']})"
        for name, gain in sorted((results.get("test_gains") or {}).items())
        if gain.get("low") is not None
    ]


def _states(results: Results) -> list[str]:
    trials, cells = results.get("trials", []), results.get("cells", {})
    counts = {
        s: sum(t.get("state") == s for t in trials) for s in ("complete", "pruned", "failed", "running")
    }
    line = "Trials:  " + ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    numbers = [f"{_count(cells.get('finished'))} finished", f"{_count(cells.get('failed'))} failed"]
    if cells.get("trained_now") is not None:
        numbers.append(f"{_count(cells['trained_now'])} trained in this run")
    lines = [line, "Cells:   " + ", ".join(numbers)] if trials else []
    for trial in trials:
        if trial.get("state") == "failed":
            reason = str(trial.get("error") or "see its cells").splitlines()[0]
            kind = f" ({trial['failure']})" if trial.get("failure") else ""
            lines.append(f"Failed:  trial {trial['number']}{kind}: {reason}")
    return lines


def _pool(results: Results) -> list[str]:
    """What an interval over seeds does not cover, where one is shown."""
    if not any(gain.get("low") is not None for gain in (results.get("test_gains") or {}).values()):
        return []
    return ["Seeds:   draw from one finite pool of images: intervals over them do not cover other images"]


def _time(results: Results) -> list[str]:
    timing = results.get("timing") or {}
    parts = [f"{words} {duration(timing[name])}" for name, words in TIMES.items() if timing.get(name)]
    return ["Time:    " + ", ".join(parts)] if parts else []


def _budgets(results: Results) -> list[str]:
    """Shown where something is limited besides the number of trials, or GPUs were at work."""
    found = results.get("budgets") or {}
    limits = [found.get(name, {}).get("limit") for name in ("hours", "gpu_hours")]
    used = found.get("gpu_hours", {}).get("spent")
    return [f"Spent:   {in_words(found)}"] if used or any(limits) else []


def _baselines(results: Results) -> Iterable[dict[str, Any]]:
    for row in results.get("baselines", []):
        name = str(row.get("name", row.get("kind", "baseline")))
        yield {**row, "label": BASELINES.get(name, name.replace("_", " "))}


def _varied(configurations: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names whose value differs between trials; of a single trial the ones that matter most."""
    seen: dict[str, set[str]] = {}
    for values in configurations:
        for name, value in values.items():
            seen.setdefault(name, set()).add(repr(value))
    varied = [name for name, values in seen.items() if len(values) > 1]
    return varied or [name for name in seen if name in ESSENTIAL]


def _summary(value: Mapping[str, Any] | None) -> str:
    return accuracy(value["mean"], value.get("std")) if value and value.get("mean") is not None else "–"


def _parameters(row: Mapping[str, Any]) -> str:
    if row.get("share") is None:
        return integer(row.get("parameters"))
    return f"{integer(row.get('parameters'))} ({share(row['share'])})"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} s".replace(",", NBSP)


def _name(results: Results) -> str:
    study = results.get("study", "")
    return str(study.get("name", "")) if isinstance(study, Mapping) else str(study)


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list | tuple | set) else int(value or 0)
