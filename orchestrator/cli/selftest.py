"""``orchestrator selftest``: the statistics tried on made-up studies whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson

if TYPE_CHECKING:
    from orchestrator.statistics.selftest.checks import Check
    from orchestrator.tables import Table


def add_to(app: typer.Typer) -> None:
    app.command("selftest")(selftest)


def selftest(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Self-tests to run: marks, winner, power, race or pareto.")
    ],
    repeats: Annotated[
        int | None, typer.Option(min=20, help="Studies made per line; by default some hundreds.")
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Noise of the values: normal, or a custom file.py:Noise."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulations.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Check the statistics on made-up studies.

    They go through the code of `results`; what is stated stands beside what is reached. Exit code 1: a bound
    fails.
    """
    from orchestrator.cli.console import DONE, FAILED, err, print_json, show
    from orchestrator.statistics.selftest.checks import Setting
    from orchestrator.statistics.selftest.noise import get_noise
    from orchestrator.statistics.selftest.registry import get_suite
    from orchestrator.terminal import Activity
    from orchestrator.work.provenance import provenance

    suite, own = get_suite(name), get_noise(noise)
    with Activity(err(), f"Trying {name}") as activity:
        setting = Setting(repeats=repeats or suite.repeats, noise=own, seed=seed, tell=activity.at)
        found = list(suite.run(setting))
    if as_json:
        given = {"name": name, "repeats": setting.repeats, "seed": seed, "noise": noise or "normal"}
        print_json({**given, "checks": [each.to_dict() for each in found], "provenance": provenance()})
    else:
        varied = "normal noise" if noise is None else f"noise of {noise}"
        show(table(found, f"selftest {name}", f"{suite.about} {setting.repeats} studies a line, {varied}"))
    if all(each.holds for each in found):
        return DONE
    if setting.repeats < suite.repeats:
        err().print(
            f"With fewer than {suite.repeats} studies a line a bound may fail by chance.", markup=False
        )
    return FAILED


def table(found: list[Check], title: str, about: str) -> Table:
    """One line per figure: stated, reached with its interval, the bound and whether it holds."""
    from orchestrator.tables import Table, TableCell, label, number
    from orchestrator.tables.model import NONE
    from orchestrator.tables.words import NBSP

    def figures(check: Check, *values: float | None) -> str:
        """``4.1 %``, ``3.3 to 5.2 %``."""
        if None in values:
            return NONE
        numbers = [
            f"{100 * value:.1f}" if check.share else f"{value:.3f}" for value in values if value is not None
        ]
        return f"{' to '.join(numbers)} {'%' if check.share else 'σ'}".replace(" ", NBSP)

    def said(check: Check) -> TableCell:
        if not check.bound:
            return TableCell("for information", look="faint")
        return TableCell(check.bound, look=None if check.holds else "bad")

    return Table.of(
        [
            (label("tried"), lambda check: check.name),
            (label("measured"), lambda check: check.measure),
            (number("stated"), lambda check: check.stated),
            (number("reached"), lambda check: figures(check, check.reached)),
            (
                number("95 % interval"),
                lambda check: figures(check, check.low, check.high),
            ),
            (label("bound"), said),
            (label(""), lambda check: "" if not check.bound else "holds" if check.holds else "FAILS"),
        ],
        found,
        title=title,
        about=about,
    )
