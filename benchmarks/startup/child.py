"""One study from the command to its end, with the times at which it reaches what, by either version."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from bench import stamp

stamp("command imported")


def shown(event: Any) -> None:
    """What people see: dictionaries before events had types."""
    kind = event["kind"] if isinstance(event, dict) else type(event).__name__.removesuffix("Shown").lower()
    about = event if isinstance(event, dict) else dataclasses.asdict(event)
    match kind, about:
        case "phase", {"name": "search"}:
            stamp("Ray runs")
        case "slot", {"state": "idle"}:
            stamp("first slot is up")
        case "epoch", {"mean": mean} if mean is not None:
            stamp("first validation number")


def main() -> None:
    from orchestrator.driver import Options, run_study
    from orchestrator.study import load_plan

    plan = load_plan("demo", sys.argv[1:])
    stamp("study planned")
    outcome = run_study(plan, shown, options=Options(executor="bench:make"))
    assert outcome.state == "complete", outcome
    stamp("study finished")


if __name__ == "__main__":
    main()
