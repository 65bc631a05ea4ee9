"""A driver in a process of its own: ``python drive.py STUDY WORKBENCH [KEY=VALUE …]``; prints its outcome."""

from __future__ import annotations

import sys

from orchestrator.driver import Options, run_study
from orchestrator.study import load_plan


def main() -> int:
    study, workbench, *overrides = sys.argv[1:]
    outcome = run_study(load_plan(study, overrides), print, options=Options(workbench=workbench))
    print(outcome)
    return outcome.exit_code or int(outcome.state != "complete")


if __name__ == "__main__":
    sys.exit(main())
