"""A driver in a process of its own: ``python driver.py KEY=VALUE …``; says what its user would see."""

from __future__ import annotations

import sys

from rich.console import Console

from mmap_model.errors import InputError
from orchestrator.driver import Options, run_study
from orchestrator.study import load_plan
from orchestrator.terminal.lines import LineDisplay


def main() -> int:
    display = LineDisplay(Console(width=400))
    try:
        plan = load_plan("demo", sys.argv[1:])
        outcome = run_study(plan, display.apply, options=Options(workbench="bench:make"))
    except InputError as error:
        print(f"Error: {error}")
        return 2
    for text in (outcome.error, outcome.note):
        if text:
            print(text)
    return outcome.exit_code or int(outcome.state != "complete")


if __name__ == "__main__":
    sys.exit(main())
