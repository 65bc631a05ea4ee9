"""``orchestrator params``: the exact number of trained parameters, before anything is trained."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from orchestrator.cli.options import AsJson


def add_to(app: typer.Typer) -> None:
    app.command(
        "params",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        epilog="A method's settings are options too: --prompt-length 14 --source-rows 14 --source-cols 128",
    )(params)


def params(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="open_clip model name, local-dir:DIR, or symbols.")] = "symbols",
    method: Annotated[
        str | None, typer.Option(help="Tuning method; all of them if neither it nor settings are given.")
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Number of tasks.")] = 4,
    groups: Annotated[
        int | None, typer.Option(min=1, help="Number of groups; half the tasks if not given.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Classes of a task, for methods that train something for each.")
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(min=1, help="Labelled images of a class, for methods that train something for each."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the trained parameters of every method.

    Of one configuration with --method; exact, and without loading a model.
    """
    from mmap_model.architecture import read_architecture
    from mmap_model.errors import ConfigurationError, InputError
    from mmap_model.methods import ProblemSize, get_method
    from mmap_model.plain import to_plain
    from orchestrator.cli.budgets import budgets, show_budgets
    from orchestrator.cli.console import print_json

    kind = get_method(method or "mmap", where="--method")
    architecture = read_architecture(model, where="--model")
    number = groups if groups is not None else max(1, tasks // 2)
    if number > tasks:
        raise ConfigurationError(
            f"{number} groups cannot be made of {tasks} tasks", where="--groups", fix=f"use 1 to {tasks}"
        )
    whole = architecture.counted_parameters
    if method is None and not context.args:
        size = ProblemSize.equal(tasks=tasks, groups=number, classes=classes, shots=shots)
        rows = budgets(architecture, size, backbone_parameters=whole)
        print_json(rows) if as_json else show_budgets(rows)
        return
    kind.require_tower(architecture)
    settings = _settings(kind.Settings, context.args)
    if not context.args:
        settings = kind.fitted(settings, architecture)
    try:
        kind.check(settings, architecture)
    except InputError as error:
        raise type(error)(error.problem, where=_option(error.where or ""), fix=error.fix) from None
    by_groups = {
        g: kind.parameters(
            settings, architecture, ProblemSize.equal(tasks=tasks, groups=g, classes=classes, shots=shots)
        )
        for g in range(1, tasks + 1)
    }
    grouped = kind.needs_partition(settings)
    found = {
        "model": model,
        "method": kind.name,
        "settings": to_plain(settings),
        "tasks": tasks,
        "groups": number if grouped else None,
        "parameters": by_groups[number],
        "backbone_parameters": whole,
        "share": by_groups[number] / whole,
        "by_groups": {str(g): count for g, count in by_groups.items()} if grouped else {},
        **{name: given for name, given in (("classes", classes), ("shots", shots)) if given is not None},
    }
    if as_json:
        print_json(found)
    else:
        _show(found)


def _settings(kind: type, arguments: list[str]) -> Any:
    """The method's settings from ``--name value`` or ``--name=value`` pairs, values in YAML."""
    from mmap_model.errors import ConfigurationError, nearest
    from mmap_model.plain import from_plain
    from orchestrator.notation import read_value

    known = {f.name: f for f in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        option, equals, raw = rest.pop(0).partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or name not in known:
            raise ConfigurationError(
                f"unknown option {option!r}", where="params", fix=nearest(option, map(_option, known))
            )
        if not equals:
            if not rest:
                raise ConfigurationError("it has no value", where=option, fix=f"write {option} VALUE")
            raw = rest.pop(0)
        values[name] = read_value(raw, option)
        try:
            from_plain(kind, {name: values[name]}, "")
        except ConfigurationError as error:
            raise ConfigurationError(error.problem, where=option, fix=error.fix) from None
    return from_plain(kind, values, "settings")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _show(found: dict[str, Any]) -> None:
    from orchestrator.cli.console import show
    from orchestrator.tables import Table, number, words

    settings = "  ".join(f"{k}={v}" for k, v in found["settings"].items() if v is not None)
    rows: dict[int | None, int] = {int(g): n for g, n in found["by_groups"].items()}
    rows = rows or {None: found["parameters"]}
    show(
        Table.of(
            [
                (number("groups"), lambda groups: groups),
                (number("trained parameters"), lambda groups: words.integer(rows[groups])),
                (
                    number("of the backbone"),
                    lambda groups: words.share(rows[groups] / found["backbone_parameters"]),
                ),
            ],
            rows,
            look=lambda groups: "strong" if groups in (None, found["groups"]) else "faint",
            title=found["method"],
            about=f"on {found['model']}, {found['tasks']} tasks",
            notes=[settings] if settings else [],
        )
    )
