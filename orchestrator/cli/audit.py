"""``orchestrator audit``: does every number of a study follow from its per-image predictions?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, Storage, StudyName

if TYPE_CHECKING:
    from orchestrator.auditing.study import Audit


def add_to(app: typer.Typer) -> None:
    app.command("audit")(audit)


def audit(
    study: StudyName,
    storage: Storage = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail the audit too.")] = False,
    as_json: AsJson = False,
) -> int:
    """Compute every number of a study again, from its predictions.

    Also checks keys, file hashes, the images of each draw, ranks and the winner, and whether the search saw
    test numbers; and the studies that confirm it. Changes nothing. Exit code 1: a number does not follow.
    """
    from orchestrator.auditing.study import audit_study, confirming
    from orchestrator.cli.console import DONE, FAILED, err, print_json
    from orchestrator.face.stored import find_stored
    from orchestrator.terminal import Activity

    stored = find_stored(study, storage)
    place, name = stored.store.storage, stored.store.name
    with Activity(err(), "Reading the records") as activity:
        found = [audit_study(place, each, activity.at) for each in (name, *confirming(place, name))]
    holds = all(each.holds(strict) for each in found)
    if as_json:
        print_json({"holds": holds, "strict": strict, "audits": [each.to_dict() for each in found]})
    else:
        _show(found, place.locate(""), strict)
    return DONE if holds else FAILED


def _show(audits: list[Audit], place: str, strict: bool) -> None:
    from orchestrator.cli.console import show
    from orchestrator.tables import Bullets, Paragraph, Table, TableCell, label

    for each in audits:
        counts = f"{each.cells} finished cells and {each.rows} rows in {place}"
        if each.findings:
            show(
                Table.of(
                    [
                        (
                            label(""),
                            lambda finding: TableCell(
                                finding.severity, look="failed" if finding.severity == "error" else "open"
                            ),
                        ),
                        (label("record"), lambda finding: finding.record),
                        (label("what does not follow"), lambda finding: finding.text),
                    ],
                    each.findings,
                    title=each.study,
                    about=f"audited: {counts}",
                )
            )
        first = (
            "no trial is complete"
            if each.winner is None
            else f"by its predictions trial {each.winner} is first"
        )
        verdict = "does not hold" if not each.holds(strict) else "holds"
        show(
            Paragraph(
                f"{each.study} {verdict}: {len(each.errors)} errors, {len(each.warnings)} warnings; {first}"
            ),
            Bullets((counts,)),
        )
