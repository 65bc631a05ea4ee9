"""The orchestrator: resident Train runs, thin Tune trials. Prints trial end times."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter

from orchestrator.driver import Options, run_study
from orchestrator.study import load_plan
from orchestrator.work.shown import EpochShown, Shown, TrialShown


def main() -> None:
    count = int(sys.argv[1])
    started = time.monotonic()
    began: dict[int, float] = {}
    ended: dict[int, float] = {}
    epochs: Counter[int] = Counter()

    def note(event: Shown) -> None:
        now = time.monotonic() - started
        match event:
            case TrialShown(state="running"):
                began.setdefault(event.number, now)
            case TrialShown():
                ended[event.number] = now
            case EpochShown():
                epochs[event.trial] += 1

    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"storage={folder}",
            f"search.trials={count}",
            "recipe.epochs=8",
            "seeds=[1]",
            "slots.count=1",
            "finalists=0",
        ]
        options = Options(executor="workload:make", tracked=False)
        outcome = run_study(load_plan("demo", overrides), note, options=options)
    assert outcome.state == "complete", outcome
    result = {
        "began": [began[n] for n in sorted(began)],
        "ended": [ended[n] for n in sorted(ended)],
        "epochs": [epochs[n] for n in sorted(epochs)],
    }
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
