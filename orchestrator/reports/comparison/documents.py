"""The documents of a comparison: pages to read, tables to print, records, and what a screen shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmap_model.embedded import EMBEDDED
from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison import evidence, notes, records, verdicts
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.methods import methods
from orchestrator.statistics.summary import CONFIDENCE
from orchestrator.tables import Bullets, Figure, Paragraph, Section, Span, Table, words
from orchestrator.tables.document import Block, Sentence, marked
from orchestrator.tables.format import TableLayout

INTRODUCTION = (
    "Each line is the difference in test accuracy, in points, between two methods: the 95 % t-interval "
    "of the paired difference of their averages over tasks, the unit being the seed. A claim *holds* if "
    "the interval lies above zero, is *reversed* if it lies below, and *undecided* if it crosses. On par "
    "with full fine-tuning is tested against a margin of one point: it holds if the interval lies above −1. "
    "Undecided does not mean equal: with three seeds only large, steady differences can be decided. The "
    "claims were fixed before anything was measured, so each is a comparison of two named methods and needs "
    "no correction for selection; nor are the intervals corrected for their number: of {number} true zeros "
    "about {expected} would seem decided."
)
SOURCES = (
    "Differences come from tuned results, where each method has the rate that validation chose for it; "
    "lines that had to use the shared rate say so. *Rates* are those of the two sides, ↓ ↑ at an end of the "
    "range tried. *In the paper* is the range of its own differences on its two benchmarks."
)
END = "Marks and columns"


def documents(contents: Contents, layout: TableLayout, images: Sequence[str] = ()) -> dict[str, Section]:
    """The documents of one layout by the names of their files; ``images`` are names of figures."""
    match layout:
        case "page":
            return {"README": _report(contents, images), "claims": _claims(contents)}
        case "paper":
            shown = [methods(table, "paper") for table in contents.tables]
            rest = [table for title, tables in _chapters(contents) for table in tables]
            return {"tables": Section("", (*shown, *rest))}
        case "records":
            return {
                "accuracies": Section("", (records.accuracies(contents.comparison),)),
                "summary": Section("", (records.summary(contents),)),
                "claims": Section("", (verdicts.claim_records(contents.claims),)),
            }


def screen(contents: Contents) -> Section:
    """What ``compare`` prints: method tables of every split, ablations in brief, affinity and claims."""
    comparison = contents.comparison
    shown = [methods(table, "screen") for table in contents.tables]
    blocks: list[Block] = [*_caution(comparison), *shown]
    if shown:
        topics = [text for text in notes.LEGEND.values() if any(text in table.legend for table in shown)]
        blocks.append(Bullets(("▸ best, ▹ second best of a row.", *topics)))
    splits = {found.split: found for found in reversed(contents.ablations)}  # the better recipe of each
    brief = [splits[split] for split in comparison.splits if split in splits]
    for tables in (
        [evidence.beside(found, table) for table, found in contents.beside],
        [table for found in brief for table in evidence.ablations(found, brief=True)],
        [evidence.affinities(comparison.affinities, comparison)] if comparison.affinities else [],
    ):
        blocks += tables
        blocks += [Bullets(legend)] if (legend := _legend(tables)) else []
    counts = verdicts.counted(contents.claims)
    if contents.claims and len(comparison.splits) > 1:
        blocks += [
            verdicts.glance(contents.claims, comparison),
            Bullets((f"{counts}; intervals and rates: claims.md.",)),
        ]
    elif contents.claims:
        title = f"{comparison.dataset}, {comparison.splits[0]}: the paper's claims"
        said = (
            f"{counts}. Paired differences in points over the seeds with their 95 % t-intervals, of tuned "
            "results unless marked. Undecided does not mean equal."
        )
        blocks += [verdicts.brief_claims(contents.claims, title), Bullets((said,))]
    return Section("", tuple(blocks))


def _report(contents: Contents, images: Sequence[str]) -> Section:
    comparison = contents.comparison
    blocks: list[Block] = [*_caution(comparison), Bullets(tuple(_facts(comparison)))]
    if contents.claims:
        counts = verdicts.counted(contents.claims)
        blocks.append(
            Paragraph(
                (
                    "The paper's claims, one by one, are in ",
                    Span("claims.md", "document", "claims"),
                    f": {counts}.",
                )
            )
        )
    blocks.append(Paragraph(("Marks and columns are explained ", Span("at the end", "section", END), ".")))
    chapters = [
        (f"Methods at {split}", [methods(table, "page") for table in contents.tables if table.split == split])
        for split in comparison.splits
    ]
    chapters = [(title, tables) for title, tables in chapters + _chapters(contents) if tables]
    blocks += [Section(title, tuple(tables)) for title, tables in chapters]
    if images:
        figures = (Figure(f"figures/{name}", name.removesuffix(".png").replace("_", " ")) for name in images)
        blocks.append(Section("Figures", tuple(figures)))
    if legend := _legend(table for _, tables in chapters for table in tables):
        blocks.append(Section(END, (Bullets(legend),)))
    return Section(f"Comparison on {comparison.dataset}", tuple(blocks))


def _chapters(contents: Contents) -> list[tuple[str, list[Table]]]:
    """What stands behind the method tables: titles and tables."""
    comparison = contents.comparison
    affinities = [evidence.affinities(comparison.affinities, comparison)] if comparison.affinities else []
    return [
        ("Beside the paper", [evidence.beside(found, table) for table, found in contents.beside]),
        ("Ablations", [table for found in contents.ablations for table in evidence.ablations(found)]),
        ("Task affinity", affinities),
    ]


def _claims(contents: Contents) -> Section:
    """Which of the paper's claims hold, each with its numbers."""
    comparison, found = contents.comparison, contents.claims
    title = f"The paper's claims on {comparison.dataset}"
    blocks: list[Block] = [*_caution(comparison)]
    if not found:
        none = Paragraph("None of them concerns the methods that were compared.")
        return Section(title, (*blocks, none))
    expected = f"{(1 - CONFIDENCE) * len(found):.1f}".removesuffix(".0")
    tested = (
        " and are tested on all that they do not train on, so their test images differ and overlap: "
        if comparison.protocol == "paper"
        else " and are tested on the same images: "
    )
    blocks += [
        Paragraph(marked(INTRODUCTION.format(number=len(found), expected=expected))),
        Paragraph(marked(SOURCES)),
        Paragraph(
            f"Seeds draw training and validation images from one finite pool{tested}intervals over seeds "
            "cover other draws from that pool and other initialisations, not other images."
        ),
    ]
    if len(comparison.splits) > 1:
        blocks.append(verdicts.glance(found, comparison))
    for topic in dict.fromkeys(claim.topic for claim in found):
        some = [claim for claim in found if claim.topic == topic]
        counts = Paragraph(f"{verdicts.counted(some)}.")
        blocks.append(Section(topic, (counts, verdicts.claim_table(some))))
    for pairings in filter(None, (item.pairings for item in contents.ablations)):
        table = evidence.partitions(pairings, comparison)
        blocks += [table, Bullets(table.legend)]
    return Section(title, tuple(blocks))


def _caution(comparison: Comparison) -> Iterable[Block]:
    if comparison.dataset in EMBEDDED:
        yield Paragraph(marked(notes.embedded(comparison.dataset)), caution=True)


def _legend(tables: Iterable[Table]) -> tuple[str, ...]:
    """What the tables have to explain, said once."""
    return tuple(dict.fromkeys(line for table in tables for line in table.legend))


def _facts(comparison: Comparison) -> Iterable[Sentence]:
    labels = [
        f"{split}: {training} training + {validation} validation"
        for split, (training, validation) in comparison.label_budget.items()
    ]
    yield f"Dataset: {comparison.dataset}, tasks {words.enumeration(comparison.tasks)}"
    size = words.integer(comparison.backbone_parameters)
    yield f"Backbone: {comparison.backbone}, {size} parameters, {comparison.precision}"
    yield f"Seeds: {words.enumeration(comparison.seeds)}; protocol {comparison.protocol}"
    if labels:
        yield f"Labelled images per class and task: {'; '.join(labels)}"
    if comparison.recipe:
        yield f"Shared recipe: {settings_in_words(comparison.recipe)}"
    if comparison.rates:
        yield f"Rates of the tuned recipe: {', '.join(map(words.rate, comparison.rates))}"
    if (around := comparison.around) is not None:
        yield f"Rates of the tuned recipe: {around.first} to {around.most} around each method's published one"
    yield f"Test-set evaluations: {len(comparison.looks)}"
    if comparison.provenance:
        yield f"Made with: {settings_in_words(comparison.provenance)}"
    for command in comparison.commands:
        yield ("Command: ", Span(command, "command"))


def settings_in_words(values: Mapping[str, Any]) -> str:
    """``commit 0123abc, torch 2.13``: nested values in their parent's place, unknown ones left out."""
    parts = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            parts.append(settings_in_words(value))
        elif value is not None:
            parts.append(f"{name} {words.rate(value) if isinstance(value, float) else value}")
    return ", ".join(filter(None, parts))
