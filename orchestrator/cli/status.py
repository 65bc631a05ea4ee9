"""``orchestrator status``: how far a study is, and whether somebody drives it."""

from __future__ import annotations

from typing import Any

import typer

from orchestrator.cli.options import AsJson, Storage, StudyName


def add_to(app: typer.Typer) -> None:
    app.command("status")(status)


def status(study: StudyName, storage: Storage = None, as_json: AsJson = False) -> None:
    """How far a study is, from its records; works while it runs and from another machine."""
    from orchestrator.cli.console import print_json
    from orchestrator.cli.stored import find_stored

    found = describe(find_stored(study, storage))
    if as_json:
        print_json(found)
    else:
        _show(found)


def describe(stored: Any) -> dict[str, Any]:
    """State of a study as a JSON-able dictionary."""
    from orchestrator.ledger.lease import read_holding
    from orchestrator.spending import budgets, spent_before

    trials = stored.store.load_trials()
    invocations = stored.store.load_invocations()
    holding = read_holding(stored.store.storage, f"studies/{stored.store.name}/driver")
    live = holding is not None and not holding.released
    driver = None
    if holding is not None and live:
        driver = {
            "host": holding.owner.host,
            "pid": holding.owner.pid,
            "since": holding.acquired_at,
            "heartbeat_seconds_ago": round(max(0.0, holding.age), 1),
        }
    complete = [t for t in trials if t.state == "complete" and t.value is not None]
    best = max(complete, key=lambda t: t.value or 0.0, default=None)
    last = invocations[-1] if invocations else None
    return {
        "study": stored.store.name,
        "storage": stored.store.storage.locate(""),
        "driver": driver,
        "trials": {
            "asked": stored.study.search.trials,
            **{s: sum(t.state == s for t in trials) for s in ("complete", "pruned", "failed", "running")},
        },
        "running": [
            {
                "number": t.number,
                "epoch": t.epochs[-1]["epoch"] if t.epochs else 0,
                "epochs": t.point.get("recipe", {}).get("epochs"),
                "mean": t.epochs[-1]["mean"] if t.epochs else None,
            }
            for t in trials
            if t.state == "running"
        ],
        "best": None if best is None else {"number": best.number, "mean": best.value},
        "device_seconds": sum(t.device_seconds for t in trials),
        "budgets": budgets(stored.study.to_plain(), len(trials), spent_before(stored.store)),
        "last_run": None
        if last is None
        else {"outcome": last.outcome, "started_at": last.started_at, "ended_at": last.ended_at},
        "quarantined": [] if last is None else last.quarantined,
        "looks_at_test": len(stored.store.load_looks()),
        "damaged": stored.store.damaged,
    }


def _show(found: dict[str, Any]) -> None:
    from orchestrator.cli.console import out
    from orchestrator.spending import in_words
    from orchestrator.terminal.format import accuracy, duration

    console = out()
    trials, driver = found["trials"], found["driver"]
    counts = ", ".join(f"{trials[s]} {s}" for s in ("complete", "running", "pruned", "failed") if trials[s])
    console.print(f"[bold]{found['study']}[/]  {counts or 'no trial yet'}, of {trials['asked']} asked for")
    if driver:
        ago = duration(driver["heartbeat_seconds_ago"])
        console.print(
            f"Driven by process {driver['pid']} on {driver['host']} since {_time(driver['since'])} "
            f"(heartbeat {ago} ago)"
        )
    elif found["last_run"]:
        run = found["last_run"]
        console.print(f"Nobody drives it; the last run ended {_time(run['ended_at'])}: {run['outcome']}")
    for slot in found["quarantined"]:
        where = f" on {slot['node']}" if slot["node"] else ""
        reason = " ".join(slot["reason"].splitlines()[-1:])
        console.print(
            f"Slot {slot['slot']}{where} is quarantined since {_time(slot['at'])}: {reason}", markup=False
        )
    for trial in found["running"]:
        at = f"epoch {trial['epoch']} of {trial['epochs']}"
        console.print(f"  trial {trial['number']}: {at}, {accuracy(trial['mean'])} %")
    if found["best"]:
        console.print(f"Best: trial {found['best']['number']} at {accuracy(found['best']['mean'])} %")
    console.print(
        f"Device time {duration(found['device_seconds'])}; records in {found['storage']}; "
        f"looks at the test images: {found['looks_at_test']}"
    )
    console.print(f"Spent: {in_words(found['budgets'])}")
    for damage in found["damaged"]:
        console.print(f"Damaged record, treated as absent: {damage}")


def _time(stamp: str | None) -> str:
    """``2026-11-21 22:43:31 UTC`` of an ISO time stamp; a run that was killed has no end."""
    return f"{stamp[:19].replace('T', ' ')} UTC" if stamp else "abruptly"
