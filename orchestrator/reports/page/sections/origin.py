"""How a study came about: settings, draws, versions, hardware, evaluations on test, commands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.reports.page.evidence import Evidence, Line
from orchestrator.reports.page.values import (
    Code,
    Grid,
    PageBlock,
    PageSection,
    PageSentence,
    Sentences,
    SourceText,
    Text,
)
from orchestrator.tables.model import Field, Table, TableCell, label, number

DIGITS = 12
"""Of a hash."""


def origin(evidence: Evidence) -> PageSection:
    """The last section of a page."""
    blocks: list[PageBlock] = [_facts(evidence)]
    if evidence.draws:
        blocks.append(_draws(evidence))
    else:
        blocks.append(Text(("No draws are recorded with this study.",)))
    blocks.append(
        _evaluations(evidence) if evidence.wanted.test else Text(("Evaluations on test images: left out.",))
    )
    blocks += [_commands(evidence), *_left_out(evidence), _resolved(evidence)]
    return PageSection(name="origin", title="How it came about", blocks=tuple(blocks))


def _facts(evidence: Evidence) -> Grid:
    study, inputs = evidence.study, evidence.store.load_inputs() or {}
    last = evidence.invocations[-1].provenance if evidence.invocations else {}
    versions = ", ".join(f"{name} {version}" for name, version in (last.get("versions") or {}).items())
    rows: list[tuple[str, str, str, Any]] = [
        (evidence.record, "id", "id of the study", evidence.store.id),
        (evidence.record, "dataset", "dataset", _named(study.get("dataset"))),
        (evidence.record, "inputs.manifest", "hash of the data", inputs.get("manifest")),
        (evidence.record, "backbone", "backbone", _named(study.get("backbone"))),
        (evidence.record, "inputs.fingerprint", "hash of the weights", inputs.get("fingerprint")),
        (evidence.record, "splits", "splits", ", ".join(map(_split, study.get("splits") or ()))),
        (evidence.record, "seeds", "seeds", ", ".join(map(_seeds, study.get("seeds") or ()))),
        (evidence.record, "protocol", "protocol", study.get("protocol")),
        (evidence.record, "precision", "precision", study.get("precision")),
    ]
    if evidence.invocations:
        place = f"{evidence.record}/invocations/{evidence.invocations[-1].id}"
        rows += [
            (place, "provenance.commit", "commit", last.get("commit")),
            (place, "provenance.versions", "versions", f"Python {last.get('python')}, {versions}"),
        ]
    if (hardware := _hardware(evidence)) is not None:
        rows.append(hardware)
    rows = [row for row in rows if row[3]]
    fields: list[Field[tuple[str, str, str, Any]]] = [
        (label(""), lambda row: row[2]),
        (label(""), lambda row: str(row[3])),
    ]
    return Grid(
        name="facts",
        table=Table.of(fields, rows),
        records=tuple(row[0] for row in rows),
        fields=("name", "value"),
    )


def _hardware(evidence: Evidence) -> tuple[str, str, str, Any] | None:
    """What the cells of the best trials ran on."""
    found: dict[str, str] = {}
    for row in evidence.ranked[:3]:
        for cell, record in evidence.cells(row):
            about = record.get("provenance") or {}
            if about.get("device_name"):
                threads = f", {about['threads']} threads" if about.get("threads") else ""
                found.setdefault(
                    f"{about['device']} ({about['device_name']}{threads})", f"cells/{cell['key']}"
                )
    if not found:
        return None
    return next(iter(found.values())), "provenance.device_name", "hardware", "; ".join(found)


def _draws(evidence: Evidence) -> Grid:
    rows = [
        (name, task, part)
        for name, draw in evidence.draws.items()
        for task, part in (draw.get("tasks") or {}).items()
    ]
    fields: list[tuple[str, Field[tuple[str, str, Line]]]] = [
        ("name", (label("split and seed"), lambda row: row[0].replace("_seed", ", seed "))),
        ("task", (label("task"), lambda row: row[1])),
        ("train", (number("training"), lambda row: len(row[2].get("train") or ()))),
        ("validation", (number("validation"), lambda row: len(row[2].get("validation") or ()))),
        ("test.images", (number("test"), lambda row: (row[2].get("test") or {}).get("images"))),
        ("train", (label("hash of training and validation"), _hash_of_labelled)),
        ("test.sha256", (label("hash of test"), _hash)),
    ]
    return Grid(
        name="draws",
        table=Table.of([f for _, f in fields], rows, title="Images drawn"),
        records=tuple(f"{evidence.record}/draws/{name}" for name, _, _ in rows),
        fields=tuple(name for name, _ in fields),
    )


def _hash_of_labelled(row: tuple[str, str, Line]) -> TableCell:
    """Of the names of the images, training before validation, one a line."""
    named = [*(row[2].get("train") or ()), "", *(row[2].get("validation") or ())]
    return TableCell(hashlib.sha256("\n".join(named).encode()).hexdigest()[:DIGITS])


def _hash(row: tuple[str, str, Line]) -> TableCell:
    whole = str((row[2].get("test") or {}).get("sha256") or "")
    return TableCell(whole[:DIGITS] or "–")


def _evaluations(evidence: Evidence) -> PageBlock:
    evaluations: Sequence[Mapping[str, Any]] = evidence.results["looks"]
    if not evaluations:
        return Text(("The test images have not been evaluated.",))
    fields: list[tuple[str, Field[Line]]] = [
        ("time", (label("time (UTC)"), lambda evaluation: str(evaluation["time"])[:19].replace("T", " "))),
        ("reason", (label("reason"), lambda evaluation: str(evaluation.get("reason") or ""))),
        ("keys", (number("cells"), lambda evaluation: len(evaluation["keys"]))),
    ]
    notes = (
        ["Trials were added after an evaluation on test images: read test numbers with that in mind."]
        if evidence.results["extended_after_look"]
        else []
    )
    return Grid(
        name="looks",
        table=Table.of(
            [f for _, f in fields], evaluations, title="Every evaluation on test images", notes=notes
        ),
        records=tuple(f"{evidence.record}/looks" for _ in evaluations),
        fields=tuple(name for name, _ in fields),
    )


def _commands(evidence: Evidence) -> PageBlock:
    commands = dict.fromkeys(run.command for run in evidence.invocations if run.command)
    if not commands:
        return Text(("No command is recorded with this study.",))
    return Sentences(tuple(("Command: ", Code(command)) for command in commands))


def _left_out(evidence: Evidence) -> list[PageBlock]:
    """Rows that do not compare, and records that do not count.

    Damaged ones are told of by the command: reading moves them aside, so a page could not be made again.
    """
    found = [
        *(("Mixed: ", line) for line in evidence.results["mixed"]),
        *(
            ("Ignored: ", f"{path}, written when another driver had taken over")
            for path in evidence.results["late"]
        ),
    ]
    lines: tuple[PageSentence, ...] = tuple((word, line) for word, line in found)
    return [Sentences(lines)] if lines else []


def _resolved(evidence: Evidence) -> SourceText:
    import yaml

    text = yaml.safe_dump(_without_places(evidence.study), sort_keys=False, allow_unicode=True, width=100)
    return SourceText("The resolved study", text, f"{evidence.record}/study")


def _without_places(study: Line) -> dict[str, Any]:
    """The study without credentials in its addresses."""
    from orchestrator.redaction import redact, shown_uri

    found = dict(study)
    if isinstance(found.get("storage"), str):
        found["storage"] = shown_uri(found["storage"])
    tracking = found.get("tracking")
    if isinstance(tracking, Mapping) and tracking.get("uri"):
        found["tracking"] = {**tracking, "uri": shown_uri(tracking["uri"])}
    if isinstance(found.get("description"), str):
        found["description"] = redact(found["description"])
    return found


def _named(spec: Any) -> str:
    """A dataset or backbone in a few words."""
    if not isinstance(spec, Mapping):
        return str(spec or "")
    words = [str(spec.get("name") or spec.get("model") or "")]
    words += [str(spec[name]) for name in ("pretrained",) if spec.get(name)]
    return " ".join(filter(None, words))


def _split(split: Any) -> str:
    if not isinstance(split, Mapping):
        return str(split)
    return f"{split['shots']} shots" if split.get("shots") is not None else f"{split.get('percent')} %"


def _seeds(seeds: Any) -> str:
    if not isinstance(seeds, Mapping):
        return str(seeds)
    draw, train = seeds.get("draw"), seeds.get("train")
    return str(draw) if draw == train else f"draw {draw} / train {train}"
