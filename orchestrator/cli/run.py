"""``orchestrator run``: one configuration in this process, without Ray, to look closely at it."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Overrides, StudyName

if TYPE_CHECKING:
    from orchestrator.execution.executor import Executor
    from orchestrator.study import StudyPlan
    from orchestrator.work.events import Done
    from orchestrator.work.item import WorkItem


def add_to(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    study: StudyName,
    overrides: Overrides = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A searched parameter, e.g. prompt_length=4."),
    ] = None,
    cell: Annotated[
        str | None, typer.Option(help="Train this finished or failed cell again, apart from the records.")
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    as_json: AsJson = False,
) -> int:
    """Train one configuration here, without Ray.

    It is the study's first point, changed by --set; finished cells are not trained again. With --cell KEY
    that cell is trained anew in a scratch folder and compared with its record.
    """
    from mmap_model.errors import ConfigurationError
    from orchestrator.ledger import check_writable
    from orchestrator.study import load_plan

    plan = load_plan(study, overrides or ())
    check_writable(plan.study.storage)
    _ = plan.fingerprint  # what is wrong with the weights is an error of input, not a failed cell
    if cell is not None:
        if values:
            raise ConfigurationError("--cell and --set exclude each other", where="--set", fix="drop one")
        return _again(plan, cell, device, as_json)
    params = (
        plan.space.params(_parse(values or []), "--set") if values else (*plan.first, plan.space.preset())[0]
    )
    item = plan.work_item(plan.space.replay(params), item_id="run")
    finished, end = _work(plan, item, device, quiet=as_json, shown=plan.space.values(params))
    return _report(finished, end, as_json)


def _again(plan: StudyPlan, prefix: str, device: str, as_json: bool) -> int:
    """Train one recorded cell in a scratch ledger; reports whether the numbers are the same."""
    from orchestrator.cli.cells import find_cell
    from orchestrator.driver.unchanged import require_same_inputs, require_same_rules
    from orchestrator.ledger import StudyStore

    require_same_inputs(plan, StudyStore(plan.study.storage, plan.study.name))
    found = find_cell(plan, prefix)
    if found.record is not None:
        require_same_rules(
            plan, plan.study.name, [(f"cell {found.key[:12]}", [found.key])], {found.key: found.record}
        )
    with tempfile.TemporaryDirectory(prefix="mmap-cell-") as scratch:
        item = plan.work_item(
            found.point,
            item_id=found.key,
            splits=(found.split,),
            seeds=(found.seeds,),
            purpose="search",
            storage=scratch,
            fuse="off",
        )
        finished, end = _work(plan, item, device, quiet=as_json, shown={"cell": found.key[:12]})
    if found.record is not None and found.key in finished:
        before = found.record["metrics"].get("accuracy")
        finished[found.key]["recorded_accuracy"] = before
        finished[found.key]["same_as_recorded"] = before == finished[found.key]["metrics"].get("accuracy")
    return _report(finished, end, as_json)


def _work(
    plan: StudyPlan, item: WorkItem, device: str, *, quiet: bool, shown: dict[str, Any]
) -> tuple[dict[str, dict[str, Any]], Done]:
    """Do the item; finished cells by key, and the last event."""
    from mmap_model.plain import to_plain
    from orchestrator.cli.console import err
    from orchestrator.execution.executor import Executor
    from orchestrator.study import execution
    from orchestrator.tables.words import accuracy, configuration, integer
    from orchestrator.terminal import Activity
    from orchestrator.work.events import (
        CellFailure,
        CellFinished,
        CellsKnown,
        Done,
        EpochReached,
        Note,
        Waiting,
        WorkEvent,
    )

    finished: dict[str, dict[str, Any]] = {}
    ends: list[Done] = []

    def say(text: str) -> None:
        if not quiet:
            activity.say(text)

    def emit(event: WorkEvent) -> None:
        match event:
            case CellsKnown():
                for cell in event.cells:
                    size = integer(cell.parameters)
                    where = f"{cell.split}, seed {cell.seed}"
                    say(f"cell {cell.key[:12]}  {where}, {size} parameters: {cell.status}")
                    if cell.status == "finished":
                        finished[cell.key] = {"metrics": _recorded(item, cell.key)}
            case EpochReached():
                values = ", ".join(accuracy(v) for v in event.values)
                say(f"epoch {event.epoch}: {accuracy(event.mean)} % (cells: {values})")
            case CellFinished():
                kept = ("metrics", "parameters", "seconds")
                finished[event.key] = {name: getattr(event, name) for name in kept}
            case CellFailure():
                say(f"cell {event.key[:12]} failed: {event.error}")
            case Note() | Waiting():
                activity.say(event.text)
            case Done():
                ends.append(event)

    threads = plan.slots.threads * plan.slots.count if plan.slots is not None else None
    executor = Executor(
        item.dataset,
        item.backbone,
        item.storage,
        device=device,
        precision=item.precision,
        threads=threads,
        compute=to_plain(execution(plan.study)),
    )
    what = configuration(shown) if "cell" not in shown else f"training cell {shown['cell']} again"
    with Activity(err(), "Working", lambda: _place(executor)) as activity:
        say(what)
        executor.run(item, emit)
    return finished, ends[-1]


def _place(executor: Executor) -> str:
    """What the executor does and how far it is."""
    from orchestrator.terminal.words import doing_in_words

    doing = executor.doing()
    return "" if doing is None else doing_in_words(doing)


def _recorded(item: WorkItem, key: str) -> dict[str, Any]:
    from orchestrator.ledger import Ledger

    record = Ledger(item.storage).get(key)
    return {} if record is None else dict(record["metrics"])


def _report(finished: dict[str, dict[str, Any]], last: Done, as_json: bool) -> int:
    from orchestrator.cli.console import DONE, FAILED, out, print_json
    from orchestrator.tables.words import accuracy

    if as_json:
        print_json({"state": last.state, "error": last.error, "cells": finished})
    else:
        for key, cell in finished.items():
            line = f"{key[:12]}  validation {accuracy(cell['metrics'].get('accuracy'))} %"
            if "same_as_recorded" in cell:
                same = "as recorded" if cell["same_as_recorded"] else "recorded: "
                line += f", {same}" + (
                    "" if cell["same_as_recorded"] else accuracy(cell["recorded_accuracy"])
                )
            out().print(line, markup=False)
    return DONE if last.state == "complete" else FAILED


def _parse(values: list[str]) -> dict[str, Any]:
    from mmap_model.errors import ConfigurationError
    from orchestrator.notation import read_value

    found = {}
    for text in values:
        name, equals, raw = text.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                f"{text!r} is not NAME=VALUE", where="--set", fix="write --set prompt_length=4"
            )
        found[name] = read_value(raw, f"--set {name}")
    return found
