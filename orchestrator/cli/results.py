"""``orchestrator results``: the ranking of a study, from its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Prefer, Storage, StudyName
from orchestrator.redaction import shown_uri

if TYPE_CHECKING:
    from orchestrator.face.stored import Stored
    from orchestrator.reports.ranking import Fact
    from orchestrator.tables import Section
    from orchestrator.tables.format import TableLayout


def add_to(app: typer.Typer) -> None:
    app.command("results")(results)


def results(
    study: StudyName,
    storage: Storage = None,
    limit: Annotated[int, typer.Option(min=1, help="Trials shown.")] = 20,
    form: Annotated[
        str | None,
        typer.Option("--format", help="Print it as csv, md, tex, or your own my_format.py:FORMAT."),
    ] = None,
    per_seed: Annotated[
        bool, typer.Option("--per-seed", help="One line per trial and seed, as csv or in --format.")
    ] = False,
    pareto: Annotated[
        bool,
        typer.Option("--pareto", help="The front of the study's objectives, or of accuracy and parameters."),
    ] = False,
    prefer: Prefer = None,
    as_json: AsJson = False,
) -> None:
    """Print the ranking of a study.

    Read from its records, so it works while the study runs and from another machine.
    """
    from orchestrator.cli.console import err, print_document, print_json, show
    from orchestrator.face.stored import find_stored
    from orchestrator.reports.pareto import front_table, pareto_section
    from orchestrator.reports.per_seed import seeds_of
    from orchestrator.statistics.pareto import find_pareto
    from orchestrator.statistics.ranking import build_results
    from orchestrator.tables import Section
    from orchestrator.tables.registry import get_format
    from orchestrator.terminal import Activity

    if form is not None and as_json:
        raise typer.BadParameter("--format and --json exclude each other")
    if per_seed and as_json:
        raise typer.BadParameter(
            "--json has the numbers of every seed, as measurements; leave --per-seed out"
        )
    front = pareto or prefer is not None
    if per_seed and front:
        raise typer.BadParameter("--per-seed and --pareto exclude each other")
    chosen = None if form is None and not per_seed else get_format(form or "csv")
    stored = find_stored(study, storage)
    with Activity(err(), "Reading the records"):
        found = with_stopping(build_results(stored.store, stored.ledger), stored)
    if front:
        found["pareto"] = find_pareto(stored.store, stored.ledger, prefer).to_dict()
    if as_json:
        print_json(found)
    elif chosen is not None and per_seed:
        print_document(chosen.write(Section("", (seeds_of(found),))))
    elif chosen is not None and front:
        print_document(chosen.write(Section("", (front_table(found, limit=limit),))))
    elif front:
        show(pareto_section(found, limit))
    elif chosen is not None:
        print_document(chosen.write(document(found, stored, limit, chosen.layout)))
    else:
        show(document(found, stored, limit))


def with_stopping(found: dict[str, Any], stored: Stored) -> dict[str, Any]:
    """The results with what stopping trials early saved, under ``stopping``."""
    from orchestrator.reports.stopping import stopping

    return {**found, "stopping": stopping(stored.study, stored.store.load_trials())}


def document(found: dict[str, Any], stored: Stored, limit: int = 20, layout: TableLayout = "page") -> Section:
    """The ranking with what belongs below it: groups, labels, where the records are, how to go on."""
    from orchestrator.reports.ranking import report
    from orchestrator.reports.verdict import verdict

    conclusion = verdict(found)
    return report(
        found,
        limit=limit,
        layout=layout,
        footer=_footer(found, stored),
        conclusion=conclusion,
        commands=[*_commands(found, stored), *conclusion.commands],
    )


def _commands(found: dict[str, Any], stored: Stored) -> list[Fact]:
    """How to go on, as a shell takes it."""
    from orchestrator.commands import changed, command

    name, root = stored.store.name, stored.store.storage.root
    trials = stored.study.search.trials
    more = f"search.trials={max(trials + 1, 2 * trials)}"
    sweeps = (changed(run.command, more) for run in reversed(stored.store.load_invocations()))
    lines = [("Open runs", command("ui", name, storage=root))]
    if sweep := next(filter(None, sweeps), None):
        lines.append(("Go on", sweep))
    if race := found["race"]:
        lines += _race_commands(race, root)
    return lines


def _race_commands(race: dict[str, Any], root: str) -> list[Fact]:
    """How a race goes on, and where its finalists come from."""
    from orchestrator.commands import command

    if "problem" in race:
        return []
    search = race["of"]["study"]
    trials = [word for line in race["finalists"] for word in ("--trial", str(line["number"]))]
    lines = [("Search", command("results", search, storage=root))]
    if race["end"] == "budget":
        more = ("--budget", str(2 * race["budget"]))
        lines.append(("Prolong", command("confirm", search, "--race", *trials, *more, storage=root)))
    return lines


def _races(stored: Stored) -> list[Fact]:
    """Races of the study's finalists that lie beside it."""
    from orchestrator.commands import command

    store = stored.store
    names = [name for name in store.storage.names("studies") if name.startswith(f"{store.name}-race-")]
    return [("Race", command("results", name, storage=store.storage.root)) for name in names]


def _transfers(found: dict[str, Any]) -> list[Fact]:
    """What the winner reached on classes and tasks that it was not trained on."""
    from orchestrator.tables.words import accuracy

    return [
        (
            "Transfer",
            f"trial {one['trial']} on {one['target']}: "
            + ", ".join(f"{name} {accuracy(numbers['mean'])} %" for name, numbers in one["tuned"].items()),
        )
        for one in found["transfers"]
    ]


def _footer(found: dict[str, Any], stored: Stored) -> list[Fact]:
    from orchestrator.reports.stopping import in_words

    settings = stored.study
    lines = [
        *(("Stopping", line) for line in in_words(found.get("stopping"))),
        *_races(stored),
        *_transfers(found),
        *_groups(found, stored),
        *(("Mixed", line) for line in found["mixed"]),
        *(("Damaged", line) for line in found["damaged"]),
    ]
    if budget := settings.label_budget():
        used = ", ".join(f"{k} training + {held} validation" for k, held in budget.values())
        lines.append(("Labels", f"{used} images per class and task"))
    lines += [
        ("Records", f"{found['storage']}/studies/{stored.store.name}"),
        ("Runs", shown_uri(settings.tracking.resolved_uri)),
    ]
    if found["damaged_trials"]:
        numbers = ", ".join(map(str, found["damaged_trials"]))
        lines.append(("Repairs", f"the next sweep runs trials again whose records are damaged: {numbers}"))
    late = "written when another driver had taken the study over"
    return [*lines, *(("Ignored", f"{path}, {late}") for path in found["late"])]


def _groups(found: dict[str, Any], stored: Stored) -> list[Fact]:
    """The winner's partitions, how sure they are, and what may not be called discovered about them."""
    from orchestrator.tables.words import partition

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
        *(("Groups", f"{shown}  ({'; '.join(sure)})") for shown, sure in lines.items()),
        *(("", note) for note in notes),
    ]


def _sureness(cell: dict[str, Any], grouping: dict[str, Any]) -> str:
    """``seed 2: 87 % of snapshots agree``."""
    seed = f"seed {cell['seeds']['train']}"
    agreement = grouping.get("agreement")
    return seed if agreement is None else f"{seed}: {100 * agreement:.0f} % of snapshots agree"
