"""``orchestrator status``: how far a study is, and whether it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Storage, StudyName

if TYPE_CHECKING:
    from orchestrator.driver.following import RunEnd
    from orchestrator.face.stored import Stored
    from orchestrator.ledger.holding import Seen


def add_to(app: typer.Typer) -> None:
    app.command("status")(status)


def status(
    study: StudyName,
    storage: Storage = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show a run as its own terminal does, until it ends.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Show how far a study is.

    Read from its records, so it works while the study runs and from another machine. With --follow exit code
    1 says that the run failed or its driver died.
    """
    from orchestrator.cli.console import DONE, FAILED, print_json
    from orchestrator.face.stored import find_stored

    stored = find_stored(study, storage)
    end = _follow(stored) if follow else "none"
    found = describe(stored)
    found["notices"] = _look_after(stored, found)
    if as_json:
        print_json(found)
    else:
        _show(found)
    return FAILED if end in ("failed", "dead") else DONE


def _follow(stored: Stored) -> RunEnd:
    """Show the run that goes on until it ends; how that was."""
    from orchestrator.cli.console import err
    from orchestrator.driver.following import follow
    from orchestrator.terminal import open_display

    with open_display(err()) as display:
        return follow(stored.store, display)


def _look_after(stored: Stored, found: dict[str, Any]) -> dict[str, Any] | None:
    """Deliver what runs left to be told, and tell that the driver died; None: the study tells nobody."""
    if stored.study.notify is None:
        return None
    from orchestrator.commands import command
    from orchestrator.driver.notifying import look_after
    from orchestrator.tables.words import accuracy

    best, store = found["best"], stored.store
    said = "none complete yet" if best is None else f"trial {best['number']} at {accuracy(best['mean'])} %"
    again = command("sweep", store.name)
    try:
        rest = look_after(stored.study.notify, store, again=again, best=said)
    except OSError as error:  # records that may only be read: how the study is can be shown all the same
        return {"delivered": 0, "waiting": 0, "errors": {"": str(error)}}
    return {"delivered": rest.delivered, "waiting": rest.waiting, "errors": rest.errors}


def describe(stored: Any) -> dict[str, Any]:
    """State of a study as a JSON-able dictionary."""
    from orchestrator.ledger.holding import observe
    from orchestrator.statistics.epochs import latest_scored
    from orchestrator.statistics.race_records import describe_race
    from orchestrator.statistics.spending import budgets, spent_before
    from orchestrator.statistics.stages import seeds_in_work, stopped_where

    seeds = len(stored.study.seeds)
    trials = stored.store.load_trials()
    race = describe_race(stored.store, stored.ledger, trials)
    invocations = stored.store.load_invocations()
    driver = _driver(observe(stored.store.storage, f"studies/{stored.store.name}/driver"))
    complete = [t for t in trials if t.state == "complete" and t.accuracy is not None and not t.violated]
    best = max(complete, key=lambda t: t.accuracy or 0.0, default=None)
    last = invocations[-1] if invocations else None
    return {
        "study": stored.store.name,
        "storage": stored.store.storage.locate(""),
        "driver": driver,
        "trials": {
            "asked": stored.study.search.trials,
            **{s: sum(t.state == s for t in trials) for s in ("complete", "pruned", "failed", "running")},
        },
        "seeds": seeds,
        "stopped": stopped_where(trials, seeds),
        "running": [
            {
                "number": t.number,
                "seeds": seeds_in_work(t, seeds),
                "epoch": t.epochs[-1]["epoch"] if t.epochs else 0,
                "epochs": t.point.get("recipe", {}).get("epochs"),
                "mean": latest["mean"] if (latest := latest_scored(t.epochs)) else None,
            }
            for t in trials
            if t.state == "running"
        ],
        "best": None if best is None else {"number": best.number, "mean": best.accuracy},
        "device_seconds": sum(t.device_seconds for t in trials),
        "budgets": budgets(stored.study.to_plain(), len(trials), spent_before(stored.store)),
        "race": race,
        "last_run": None
        if last is None
        else {"outcome": last.outcome, "started_at": last.started_at, "ended_at": last.ended_at},
        "quarantined": [] if last is None else last.quarantined,
        "silent": last.silent if driver is not None and last is not None else [],
        "looks_at_test": len(stored.store.load_test_evaluations()),
        "damaged": stored.store.damaged,
        "damaged_trials": sorted(stored.store.unreadable),
        "late": stored.store.late,
    }


def _driver(seen: Seen | None) -> dict[str, Any] | None:
    """Who holds the lease, as far as one look tells; None if it is free.

    ``heartbeat_at`` is by the clock of the driver's host. Only watching tells whether the driver still runs.
    """
    if seen is None or seen.is_free:
        return None
    if seen.holding is None:
        return {"host": None, "pid": None, "since": None, "heartbeat_at": None}
    owner = seen.holding.owner
    since, last = seen.holding.acquired_at, seen.holding.heartbeat_at
    return {"host": owner.host, "pid": owner.pid, "since": since, "heartbeat_at": last}


def _show(found: dict[str, Any]) -> None:
    from orchestrator.cli.console import out
    from orchestrator.ledger.invocation import QUEUE
    from orchestrator.statistics.spending import in_words
    from orchestrator.tables.words import accuracy, duration

    console = out()
    trials, driver = found["trials"], found["driver"]
    where = ", ".join(f"{count} {words}" for words, count in found["stopped"].items())
    states = {s: s for s in ("complete", "running", "pruned", "failed")}
    states["pruned"] += f" ({where})" if where else ""
    counts = ", ".join(f"{trials[state]} {words}" for state, words in states.items() if trials[state])
    console.print(f"[bold]{found['study']}[/]  {counts or 'no trial yet'}, of {trials['asked']} asked for")
    if driver and driver["pid"] is None:
        console.print("It may be running: the newest lease file cannot be read (yet)")
    elif driver:
        console.print(
            f"Run by process {driver['pid']} on {driver['host']} since {_time(driver['since'])} "
            f"(last heartbeat {_time(driver['heartbeat_at'])} by that host's clock)"
        )
    elif found["last_run"]:
        run = found["last_run"]
        console.print(f"Not running; the last run ended {_time(run['ended_at'])}: {run['outcome']}")
    for slot in found["quarantined"]:
        where = f" on {slot['node']}" if slot["node"] else ""
        reason = _last_line(slot["reason"])
        console.print(
            f"Slot {slot['slot']}{where} is quarantined since {_time(slot['at'])}: {reason}", markup=False
        )
    for entry in found["silent"]:
        who = "The work queue" if entry["name"] == QUEUE else f"Slot {entry['name']}"
        console.print(f"{who} has not responded since {_time(entry['since'])}", markup=False)
    for trial in found["running"]:
        at = f"epoch {trial['epoch']} of {trial['epochs']}"
        if trial["seeds"] < found["seeds"]:
            at += f" at {trial['seeds']} of {found['seeds']} seeds"
        console.print(f"  trial {trial['number']}: {at}, {accuracy(trial['mean'])} %")
    if found["race"]:
        from orchestrator.reports.race import race_sentences

        for sentence in race_sentences(found["race"]):
            console.print(sentence, markup=False)
    elif found["best"]:
        console.print(f"Best: trial {found['best']['number']} at {accuracy(found['best']['mean'])} %")
    console.print(
        f"Device time {duration(found['device_seconds'])}; records in {found['storage']}; "
        f"test-set evaluations: {found['looks_at_test']}"
    )
    console.print(f"Spent: {in_words(found['budgets'])}")
    if (notices := found["notices"]) is not None:
        for said in _told(notices):
            console.print(said, markup=False, soft_wrap=True)
    for damage in found["damaged"]:
        console.print(f"Damaged record: {damage}", markup=False, soft_wrap=True)
    for path in found["late"]:
        text = "Ignored, an earlier driver wrote it when another had taken the study over"
        console.print(f"{text}: {path}", markup=False, soft_wrap=True)
    if found["damaged_trials"]:
        numbers = ", ".join(map(str, found["damaged_trials"]))
        console.print(f"Trials to run again with the next sweep, as their records are damaged: {numbers}")


def _told(notices: dict[str, Any]) -> Iterator[str]:
    """What became of notices that runs had left."""
    if notices["delivered"]:
        yield f"Notices delivered now: {notices['delivered']}"
    if notices["waiting"]:
        yield f"Notices that wait: {notices['waiting']}; the next status tries again"
    for name, error in notices["errors"].items():
        yield f"Not delivered: {name}: {error}".replace(": : ", ": ")


def _last_line(reason: str) -> str:
    """The exception of a traceback, or the problem of an input error without its fix."""
    lines = [line for line in reason.splitlines() if not line.startswith("Fix: ")]
    return lines[-1] if lines else ""


def _time(stamp: str | None) -> str:
    """``2026-11-21 22:43:31 UTC`` of an ISO time stamp; a run that was killed has no end."""
    return f"{stamp[:19].replace('T', ' ')} UTC" if stamp else "abruptly"
