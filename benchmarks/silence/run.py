"""How long is the log of a run silent? Runs a study as a job would, keeps its log and measures its gaps.

uv run python benchmarks/silence/run.py [--out FOLDER] [KEY=VALUE …]
uv run python benchmarks/silence/run.py --log FILE
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LONGEST_S = 15.0
LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (\w+):? ?(.*)$")


def measure(log: str) -> dict[str, Any]:
    """Lines of a log and the largest gap between two of them, in seconds, in all and by phase.

    Times in a log are whole seconds: a gap may be up to one second longer or shorter than it seems.
    """
    gaps: dict[str, float] = defaultdict(float)
    found = [match.groups() for line in log.splitlines() if (match := LINE.match(line))]
    phase = ""
    for (before, word, rest), (after, _, _) in itertools.pairwise(found):
        if word == "phase":
            phase = re.findall(r"phase=(\w+)", rest)[0]
        seconds = (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds()
        gaps[phase] = max(gaps[phase], seconds)
    total = datetime.fromisoformat(found[-1][0]) - datetime.fromisoformat(found[0][0])
    return {
        "lines": len(found),
        "seconds": total.total_seconds(),
        "largest_gap_s": max(gaps.values()),
        "largest_gap_s_by_phase": dict(gaps),
    }


def record(overrides: Sequence[str], folder: Path) -> str:
    """The log of ``orchestrator sweep demo`` with its records in a folder that goes again."""
    log = folder / "demo.log"
    with tempfile.TemporaryDirectory() as scratch, log.open("w") as stream:
        places = [f"storage={scratch}/runs", f"tracking.uri=sqlite:///{scratch}/mlflow.db"]
        command = [sys.executable, "-m", "orchestrator", "sweep", "demo", *places, *overrides]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=stream, check=True)
    return log.read_text()


def surroundings() -> dict[str, Any]:
    """What a result depends on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
    )
    return {
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[2],
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = arguments.log.read_text() if arguments.log else record(arguments.overrides, arguments.out)
    found = measure(log)
    if not arguments.log:
        found = {"overrides": arguments.overrides, **found, **surroundings()}
        (arguments.out / "demo.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 0 if found["largest_gap_s"] <= LONGEST_S else 1


if __name__ == "__main__":
    sys.exit(main())
