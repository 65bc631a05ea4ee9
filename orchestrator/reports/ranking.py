"""The ranking of a study as a document, made of what ``statistics.ranking.build_results`` returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.commands import command
from orchestrator.reports.race import race_blocks
from orchestrator.reports.verdict import Verdict
from orchestrator.statistics.spending import in_words
from orchestrator.tables import Bullets, Section, Span, Table, TableCell, TableColumn, label, number
from orchestrator.tables.document import Block
from orchestrator.tables.format import TableLayout
from orchestrator.tables.model import NONE, Content
from orchestrator.tables.words import NBSP, chance, configuration, duration, integer, share

Results = Mapping[str, Any]
Line = Mapping[str, Any]
Fact = tuple[str, str]
"""Its name and what is said; without a name it goes on."""

SHOWN = 20
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


def report(
    results: Results,
    *,
    footer: Iterable[Fact] = (),
    commands: Iterable[Fact] = (),
    conclusion: Verdict | None = None,
    limit: int = SHOWN,
    layout: TableLayout = "page",
) -> Section:
    """Ranking, what its marks mean, states, time, and further facts; as ``paper`` or ``records`` the ranking.

    Args:
        results: of the study.
        footer: facts that come last, as name and text.
        commands: what may be run next, as name and command line.
        conclusion: what all this means for whoever has to decide.
        limit: trials shown; records have all.
        layout: what it is for.
    """
    if layout != "page":
        whole = len(results["trials"]) if layout == "records" else limit
        return Section("", (ranking(results, limit=whole),))
    facts = [
        *_gains(results),
        *_states(results),
        *_time(results),
        *_budgets(results),
        *footer,
    ]
    blocks: list[Block] = [ranking(results, limit=limit)]
    if race := results.get("race"):
        blocks += race_blocks(race)
    if said := legend(results, limit):
        blocks.append(Bullets(tuple(said)))
    blocks.append(Table.facts(*((name and f"{name}:", text) for name, text in facts)))
    if conclusion is not None:
        blocks.append(Table.facts(*conclusion.facts, title="Verdict"))
    if lines := tuple((f"{name}: ", Span(text, "command")) for name, text in commands):
        blocks.append(Bullets(lines))
    return Section("", tuple(blocks))


def ranking(results: Results, *, limit: int = SHOWN) -> Table:
    """Trials by validation, at most ``limit``, with the reference rows below."""
    trials, shown = ranked(results), labels(results)
    marks = {trial["number"]: mark(trial, results) if trial is not trials[0] else "" for trial in trials}
    width = max([1, *map(len, marks.values())])
    lines = [
        {
            **trial,
            "rank": TableCell(f"{rank}{marks[trial['number']]:{width}}", value=rank),
            "label": shown[trial["number"]],
        }
        for rank, trial in enumerate(trials[:limit], start=1)
    ]
    first = lines[0] if lines else None
    n = max(((t["val"] or t["test"]).get("n") or 0 for t in trials), default=0)
    seeds = f", mean ± standard deviation over {n} seeds" if n > 1 else ""
    order = "no validation images" if _unvalidated(results) else "ranked by validation"

    def score(name: str) -> Callable[[Line], Content]:
        return lambda line: TableCell.accuracy(
            (line.get(name) or {}).get("mean"), (line.get(name) or {}).get("std")
        )

    return Table.of(
        [
            (number("rank"), lambda line: line.get("rank")),
            (number("trial"), lambda line: "" if line.get("number", -1) < 0 else line["number"]),
            (label("configuration"), lambda line: line["label"]),
            (number("size (of CLIP)"), _parameters),
            (number("validation"), score("val")),
            *([(number("best"), _best)] if any(_probability(trial) is not None for trial in trials) else []),
            (number("test"), score("test")),
            (TableColumn("device", number=True, spare=True), _seconds),
        ],
        lines,
        _baselines(results),
        look=lambda line: "strong" if line is first else None,
        title=results["study"],
        about=f"accuracy in %{seeds}; {order}",
    )


def ranked(results: Results) -> list[Line]:
    """Complete trials, best first as ``build_results`` orders them; without validation there is only test."""
    return [t for t in results["trials"] if t["state"] == "complete" and (t["val"] or t.get("test"))]


def labels(results: Results) -> dict[int, str]:
    """Configurations of the complete trials in words, by number: what differs between them."""
    trials = ranked(results)
    varied = _varied(trial.get("config", {}) for trial in trials)
    return {
        trial["number"]: configuration({k: v for k, v in trial.get("config", {}).items() if k in varied})
        for trial in trials
    }


def _unvalidated(results: Results) -> bool:
    """Without validation images trials were tested and never validated."""
    trials = ranked(results)
    return bool(trials) and not any(t["val"] for t in trials)


def legend(results: Results, limit: int) -> list[str]:
    trials = ranked(results)
    lines = _significance(results)
    if len(trials) > limit:
        lines.append(
            f"{len(trials) - limit} more complete trials: "
            + command("results", results["study"], "--json", storage=results["storage"])
        )
    if not trials:
        lines.append("No trial is complete yet.")
    if any(t.get("test") for t in trials):
        evaluations = len(results.get("looks", []))
        winner = "" if _unvalidated(results) else ". The winner is rank 1 by validation, whatever test says"
        lines.append(f"Test-set evaluations: {evaluations}{winner}")
    if results.get("extended_after_look"):
        lines.append("Trials were added after a test-set evaluation: read the test column with that in mind")
    return lines


def mark(trial: Line, results: Results) -> str:
    """``≈`` not significantly different from rank 1, ``*`` could be the best, ``?`` not compared.

    ``!`` marks a trial that violates a constraint of the study, and nothing else.
    """
    if trial.get("violated"):
        return "!"
    left_out = {*_comparison(results).get("apart", ()), *_comparison(results).get("incomplete", ())}
    equal = "≈" if trial.get("separable_from_best") is False else ""
    possible = "*" if trial.get("could_be_best") else ""
    return equal + possible or ("?" if trial["number"] in left_out else "")


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
    if found.get("lead") is not None:
        lines.append(
            f"* could be the best: within {100 * found['lead']:.1f} points of rank 1 (one-sided Dunnett: "
            f"rank 1 and these hold the truly best trial in {100 * found['confidence']:.0f} of 100 studies)"
        )
    if any(_probability(trial) is not None for trial in ranked(results)):
        lines.append("best: probability of being the best of these trials, luck accounted for (shrinkage)")
    if any(trial.get("violated") for trial in ranked(results)):
        lines.append("! does not meet the constraints of the study, so it cannot be the winner")
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


def _probability(trial: Line) -> float | None:
    found: float | None = (trial.get("estimate") or {}).get("best")
    return found


def _best(line: Line) -> TableCell:
    found = _probability(line)
    return TableCell(NONE) if found is None else TableCell(chance(found), value=found)


def _comparison(results: Results) -> Line:
    return results.get("comparison") or {}


def _gains(results: Results) -> Iterable[Fact]:
    """What rank 1 gains over the reference rows on the test images, and what its intervals do not cover."""
    gains = {n: gain for n, gain in (results.get("test_gains") or {}).items() if gain.get("low") is not None}
    for name, gain in sorted(gains.items()):
        yield (
            "Gain",
            f"{100 * gain['mean']:+.1f} points on test over {REFERENCES.get(name, name)}, paired 95 % "
            f"interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} (n = {gain['n']})",
        )
    if gains:
        yield "Seeds", "draw from one finite pool of images: intervals over them do not cover other images"


def _states(results: Results) -> Iterable[Fact]:
    trials, cells = results["trials"], results["cells"]
    if not trials:
        return
    states = Counter(t.get("state") for t in trials)
    yield (
        "Trials",
        ", ".join(f"{states[s]} {s}" for s in ("complete", "pruned", "failed", "running") if states[s]),
    )
    yield (
        "Cells",
        f"{cells['finished']} finished, {cells['failed']} failed, {cells['trained_now']} trained in this run",
    )
    for trial in trials:
        if trial.get("state") == "failed":
            reason = str(trial.get("error") or "see its cells").splitlines()[0]
            kind = f" ({trial['failure']})" if trial.get("failure") else ""
            yield "Failed", f"trial {trial['number']}{kind}: {reason}"


def _time(results: Results) -> Iterable[Fact]:
    timing = results.get("timing") or {}
    if parts := [f"{words} {duration(timing[name])}" for name, words in TIMES.items() if timing.get(name)]:
        yield "Time", ", ".join(parts)


def _budgets(results: Results) -> Iterable[Fact]:
    """Shown where something is limited besides the number of trials, or GPUs were at work."""
    found = results.get("budgets") or {}
    limits = [found.get(name, {}).get("limit") for name in ("hours", "gpu_hours")]
    if found.get("gpu_hours", {}).get("spent") or any(limits):
        yield "Spent", in_words(found)


def _baselines(results: Results) -> Iterable[Line]:
    for row in results.get("baselines", []):
        yield {**row, "label": BASELINES.get(row["name"], row["name"].replace("_", " "))}


def _varied(configurations: Iterable[Line]) -> list[str]:
    """Names whose value differs between trials; of a single trial the ones that matter most."""
    seen: dict[str, set[str]] = {}
    for values in configurations:
        for name, value in values.items():
            seen.setdefault(name, set()).add(repr(value))
    varied = [name for name, values in seen.items() if len(values) > 1]
    return varied or [name for name in seen if name in ESSENTIAL]


def _parameters(line: Line) -> TableCell:
    count, part = line.get("parameters"), line.get("share")
    return TableCell(integer(count) + (f" ({share(part)})" if part is not None else ""), value=count)


def _seconds(line: Line) -> Content:
    seconds = line.get("device_seconds")
    return None if seconds is None else TableCell(f"{seconds:,.0f} s".replace(",", NBSP), value=seconds)
