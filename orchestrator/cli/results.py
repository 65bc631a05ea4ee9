"""``orchestrator results``: the ranking of a study, from its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Storage, StudyName
from orchestrator.redaction import shown_uri
from orchestrator.terminal.format import partition

if TYPE_CHECKING:
    from orchestrator.cli.stored import Stored


def add_to(app: typer.Typer) -> None:
    app.command("results")(results)


def results(
    study: StudyName,
    storage: Storage = None,
    limit: Annotated[int, typer.Option(min=1, help="Trials shown.")] = 20,
    as_json: AsJson = False,
) -> None:
    """The ranking of a study; works while it runs and from another machine."""
    from orchestrator.cli.console import out, print_json
    from orchestrator.cli.stored import find_stored
    from orchestrator.statistics.ranking import build_results

    stored = find_stored(study, storage)
    found = build_results(stored.store, stored.ledger)
    if as_json:
        print_json(found)
    else:
        console = out()
        console.print(render(found, stored, study, width=console.width, limit=limit))


def render(found: dict[str, Any], stored: Stored, study: str, *, width: int, limit: int = 20) -> Any:
    """The ranking with what belongs below it: groups, labels, where the records are, how to go on."""
    from orchestrator.reports.ranking import report

    return report(found, width=width, limit=limit, footer=_footer(found, stored, study))


def _footer(found: dict[str, Any], stored: Stored, study: str) -> list[str]:
    settings = stored.study
    lines = [
        *_groups(found, stored),
        *(f"Mixed: {line}" for line in found["mixed"]),
        *(f"Damaged: {line}" for line in found["damaged"]),
    ]
    if budget := settings.label_budget():
        used = ", ".join(f"{k} training + {held} validation" for k, held in budget.values())
        lines.append(f"Labels:  {used} images per class and task")
    lines.append(f"Records: {found['storage']}/studies/{stored.store.name}")
    lines.append(
        f"Runs:    {shown_uri(settings.tracking.resolved_uri)}; open them with: orchestrator ui {study}"
    )
    more = max(settings.search.trials + 1, 2 * settings.search.trials)
    lines.append(f"Go on:   orchestrator sweep {study} search.trials={more}")
    if found["winner"] is not None:
        lines.append(f"Confirm: orchestrator confirm {study} --seeds 4,5,6")
    return [*lines, *_damage(found)]


def _damage(found: dict[str, Any]) -> list[str]:
    """What becomes of trials whose records are damaged, and records that do not count, one line each."""
    lines = []
    if found["damaged_trials"]:
        numbers = ", ".join(map(str, found["damaged_trials"]))
        lines.append(f"Repairs: the next sweep runs trials again whose records are damaged: {numbers}")
    late = "written when another driver had taken the study over"
    return [*lines, *(f"Ignored: {path}, {late}" for path in found["late"])]


def _groups(found: dict[str, Any], stored: Stored) -> list[str]:
    """The winner's partitions, how sure they are, and what may not be called discovered about them."""
    trial = stored.store.load_trial(found["winner"]) if found["winner"] is not None else None
    if trial is None:
        return []
    tasks = [task for row in found["trials"] if row["number"] == trial.number for task in row["tasks"]]
    lines: dict[str, list[str]] = {}
    notes: dict[str, None] = {}
    for record in stored.ledger.get_many(trial.keys).values():
        cell, grouping = record["cell"], record["grouping"] or {}
        if not cell["configuration"]["partition"]:
            continue
        shown = partition(cell["configuration"]["partition"], tasks)
        lines.setdefault(shown, []).append(_sureness(cell, grouping))
        notes.update(dict.fromkeys(grouping.get("notes", [])))
    return [
        *(f"Groups:  {shown}  ({'; '.join(sure)})" for shown, sure in lines.items()),
        *(f"         {note}" for note in notes),
    ]


def _sureness(cell: dict[str, Any], grouping: dict[str, Any]) -> str:
    """``seed 2: 87 % of snapshots agree``."""
    seed = f"seed {cell['seeds']['train']}"
    agreement = grouping.get("agreement")
    return seed if agreement is None else f"{seed}: {100 * agreement:.0f} % of snapshots agree"
