"""What a study came to, in two sentences: what won, by how much, what is as good as it, what it cost."""

from __future__ import annotations

from mmap_model.embedded import EMBEDDED
from orchestrator.commands import STORAGE
from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.sections.naming import difference, mean, settings, trial, trial_record
from orchestrator.reports.page.values import (
    Grid,
    Number,
    PageBlock,
    PageSection,
    PageSentence,
    Text,
    joined,
    listed,
)
from orchestrator.reports.verdict import verdict as judge
from orchestrator.tables.model import Table, label
from orchestrator.tables.words import duration

NAMED = 5
"""Trials that are named where several cannot be told apart; of more their number is said."""


def verdict(evidence: Evidence) -> PageSection:
    """The first section of a page."""
    return PageSection(name="verdict", title="Verdict", blocks=tuple(_blocks(evidence)))


def _blocks(evidence: Evidence) -> list[PageBlock]:
    if evidence.winner is None:
        return [Text(_nothing(evidence), "lead")]
    blocks: list[PageBlock] = [
        Text(_won(evidence), "lead"),
        Text(joined(*_apart(evidence), " ", *_cost(evidence)), "lead"),
    ]
    if test := _test(evidence):
        blocks.append(Text(test))
    blocks.append(_facts(evidence))
    if (name := evidence.study.get("dataset", {}).get("name")) in EMBEDDED:
        said = (
            f"{name} is a benchmark made to test this software: it is no evidence for or against the method."
        )
        blocks.append(Text((said,), "caution"))
    return blocks


def _facts(evidence: Evidence) -> Grid:
    """What the terminal says too: how sure the choice is, what is as good, what an hour would buy.

    Commands name no storage: a page is read, and checked, from other folders than it was made in.
    """
    found = judge({**evidence.results, "storage": STORAGE})
    lines = [(f"{each.name}", each.text) for each in found.statements]
    lines.append(("Next", found.why))
    if found.next is not None:
        lines.append(("Command", found.next))
    best = evidence.winner
    assert best is not None, "there is a winner"
    return Grid(
        name="verdict-facts",
        table=Table.of([(label(), lambda line: line[0]), (label(), lambda line: line[1])], lines),
        records=tuple(trial_record(evidence, best["number"]) for _ in lines),
        fields=("statement", "estimate"),
    )


def _nothing(evidence: Evidence) -> PageSentence:
    count = len(evidence.trials)
    number = Number(str(count), evidence.record, "trials")
    if not count:
        return ("No trial has run yet, so there is nothing to choose from.",)
    return ("No trial is complete yet: ", number, " began. This page shows what is there of them.")


def _won(evidence: Evidence) -> PageSentence:
    """``Trial 0 (b4 m4 n32, lr 0.0035) won with 55.3 % …``"""
    best = evidence.winner
    assert best is not None, "there is a winner"
    name = evidence.score_field
    where = "test images" if evidence.is_tested_only else "validation images"
    if len(evidence.ranked) == 1:
        opening: PageSentence = joined("The only complete trial, ", trial(evidence, best["number"]))
    else:
        opening = ("Trial ", Number(str(best["number"]), trial_record(evidence, best["number"]), "number"))
    found = joined(
        opening,
        f" ({settings(evidence, best['config'])}) " + ("has " if len(evidence.ranked) == 1 else "won with "),
        mean(evidence, best, name),
        f" % on {where}",
    )
    parts: list[PageSentence] = []
    record = trial_record(evidence, best["number"])
    if best.get("gain"):
        parts.append(joined(difference(best["gain"], record, "gain"), " from zero-shot"))
    if len(evidence.ranked) > 1:
        second = evidence.ranked[1]
        gap = evidence.score(best)["mean"] - evidence.score(second)["mean"]
        number = Number(f"{100 * gap:.1f}", trial_record(evidence, second["number"]), f"{name}.mean")
        parts.append(joined(number, " points above the next, ", trial(evidence, second["number"])))
    return joined(found, ": ", listed(parts), ".") if parts else joined(found, ".")


def _apart(evidence: Evidence) -> PageSentence:
    """What is not significantly different from the winner."""
    same = [row["number"] for row in evidence.ranked[1:] if row["separable_from_best"] is False]
    others = len(evidence.ranked) - 1
    compared = any(row["separable_from_best"] is not None for row in evidence.ranked)
    if not others:
        return ("There is no other complete trial to compare it with.",)
    if not compared:
        return ("The complete trials cannot be compared: the ranking below says why.",)
    if not same:
        return ("Every other complete trial is significantly worse.",)
    count = Number(str(len(same)), evidence.record, "comparison")
    if len(same) > NAMED:
        total = Number(str(others), evidence.record, "trials")
        return (count, " of the ", total, " other complete trials are not significantly different from it.")
    named = listed([Number(str(n), trial_record(evidence, n), "separable_from_best") for n in same])
    word, verb = ("Trial ", " is") if len(same) == 1 else ("Trials ", " are")
    return joined(word, named, f"{verb} not significantly different from it.")


def _cost(evidence: Evidence) -> PageSentence:
    """How many trials, how long, how much of which device."""
    spent = evidence.results["budgets"]
    record = f"{evidence.record}/spending"
    pruned = sum(trial.state == "pruned" for trial in evidence.trials)
    failed = sum(trial.state == "failed" for trial in evidence.trials)
    found: PageSentence = (
        "It took ",
        Number(str(len(evidence.trials)), evidence.record, "trials"),
        " trials",
    )
    parts: list[PageSentence] = []
    for count, word in ((pruned, "stopped early"), (failed, "failed")):
        if count:
            parts.append((Number(str(count), evidence.record, "trials.state"), f" {word}"))
    if parts:
        found = joined(found, " (", listed(parts), ")")
    hours = spent["hours"]["spent"] or 0.0
    found = joined(found, ", ", Number(duration(3600 * hours), record, "seconds"))
    gpu, device = spent["gpu_hours"]["spent"] or 0.0, spent["device_hours"]["spent"] or 0.0
    if gpu:
        return joined(found, " and ", Number(f"{gpu:.3g}", record, "gpu_seconds"), " GPU-hours.")
    worked = Number(duration(3600 * device), record, "device_seconds")
    return joined(found, " of wall clock and ", worked, " of slots at work.")


def _test(evidence: Evidence) -> PageSentence:
    """The winner on the test images."""
    best = evidence.winner
    assert best is not None, "there is a winner"
    if not evidence.wanted.test:
        return ("Numbers on test images were left out of this page.",)
    if evidence.is_tested_only or not best["test"]:
        return () if evidence.is_tested_only else ("The winner has not been scored on the test images yet.",)
    found = joined(
        "On the test images, by which nothing was chosen, it has ", mean(evidence, best, "test"), " %"
    )
    gain = evidence.results["test_gains"].get("zero_shot")
    if gain:
        record = trial_record(evidence, best["number"])
        found = joined(found, ", ", difference(gain, record, "test_gains.zero_shot"), " from zero-shot")
    return joined(
        found, ". Seeds draw from one finite pool of images: intervals over them do not cover other images."
    )
