"""How far does one driver go? Each question in a process of its own; results.json keeps all answers.

python benchmarks/scale/run.py [--only resume] [--only sweep] …
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.work.provenance import provenance

HERE = Path(__file__).parent
PARTS = {
    "resume": ["resume.py", "--cells", "10000", "--latency", "0.005"],
    "reading": ["reading.py", "--trials", "5000"],
    "reading_slow": ["reading.py", "--trials", "5000", "--latency", "0.005"],
    "in_process": ["in_process.py", "--trials", "5000"],
    "in_process_mlflow": ["in_process.py", "--trials", "1000", "--mlflow"],
    "sweep": ["sweep.py", "--slots", "64", "--trials", "5000", "--epoch-s", "5"],
    "sweep_small": ["sweep.py", "--slots", "8", "--trials", "300", "--epoch-s", "1"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name in arguments.only or PARTS:
        results[name] = measure(PARTS[name])
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")
        print(json.dumps(results[name], indent=2))


def measure(command: list[str]) -> dict[str, Any]:
    """Run one part; what it printed, with what it was measured on."""
    load = os.getloadavg()
    run = subprocess.run(
        [sys.executable, str(HERE / command[0]), *command[1:]], stdout=subprocess.PIPE, text=True, check=False
    )
    if run.returncode:
        raise SystemExit(f"{command[0]} failed")
    return {
        **json.loads(run.stdout[run.stdout.index("{") :]),
        "command": " ".join(["python", f"benchmarks/scale/{command[0]}", *command[1:]]),
        "hardware": {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()},
        "load_average_before": [round(value, 1) for value in load],
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **provenance(),
    }


if __name__ == "__main__":
    main()
