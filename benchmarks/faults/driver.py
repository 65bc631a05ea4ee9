"""A driver in a process of its own: ``python driver.py KEY=VALUE …``; says what its user would see.

``SHIFT_CLOCK_S`` shifts the wall clock by which it writes records and leases, ``OTHER_HOST`` makes it one
that knows no process of this machine.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console

from mmap_model.errors import InputError
from orchestrator.driver import Options, run_study
from orchestrator.study import load_plan
from orchestrator.terminal.lines import LineDisplay


def disguise() -> None:
    """Another clock, another host, for what leases and records are made of."""
    from orchestrator.ledger import documents, holding, lease

    shift = timedelta(seconds=float(os.environ.get("SHIFT_CLOCK_S", "0")))

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + shift

    for module in (documents, holding, lease):
        if hasattr(module, "datetime"):
            module.datetime = Shifted  # type: ignore[attr-defined]
    if "OTHER_HOST" in os.environ:
        assert hasattr(holding, "_namespace")
        holding._namespace = lambda: "elsewhere"


def main() -> int:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as in a terminal, however the benchmark was started
    disguise()
    display = LineDisplay(Console(width=400))
    try:
        plan = load_plan("demo", sys.argv[1:])
        outcome = run_study(plan, display.apply, options=Options(executor="bench:make"))
    except InputError as error:
        print(f"Error: {error}")
        return 2
    for text in (outcome.error, outcome.note):
        if text:
            print(text)
    return outcome.exit_code or int(outcome.state != "complete")


if __name__ == "__main__":
    sys.exit(main())
