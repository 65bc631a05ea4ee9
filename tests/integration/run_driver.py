"""A driver in a process of its own: ``python run_driver.py STUDY EXECUTOR [KEY=VALUE …]``; prints what a
user is shown as lines ``shown <pickled, in hexadecimal>`` and in words, then its outcome.
"""

from __future__ import annotations

import pickle
import sys

from orchestrator.driver import Options, run_study
from orchestrator.study import load_plan
from orchestrator.work.shown import Shown


def show(event: Shown) -> None:
    print("shown", pickle.dumps(event).hex())
    print(event)


def main() -> int:
    study, executor, *overrides = sys.argv[1:]
    outcome = run_study(load_plan(study, overrides), show, options=Options(executor=executor))
    print(outcome)
    return outcome.exit_code or int(outcome.state != "complete")


if __name__ == "__main__":
    sys.exit(main())
