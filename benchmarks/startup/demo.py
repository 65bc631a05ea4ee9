"""How long the demo takes from a fresh clone, environment included, part by part; commits in turns."""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (\w+) (.*)$")
PARTS = {
    "environment": "",
    "Ray runs": "phase=slots",
    "first trial trains": "state=running",
    "first validation number": "accuracy=",
    "search over": "phase=baselines",
    "everything scored": "phase=stopping",
    "command over": "",
}
"""What is reached, and what the first line of the log has that says so."""

FAMILY = ("cpu family", "model")

PRODUCT = """
import time, torch
torch.set_num_threads(1)
a, b, best = torch.randn(1536, 1536), torch.randn(1536, 1536), float("inf")
for _ in range(8):
    began = time.perf_counter(); a @ b; best = min(best, time.perf_counter() - began)
print(2 * 1536**3 / best / 1e9)
"""
"""10⁹ operations per second of one thread: what the machine gives at the time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", nargs="+", default=["HEAD"], help="of this repository")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "demo.json")
    args = parser.parse_args()
    runs: dict[str, list[dict[str, object]]] = {commit_of(name): [] for name in args.commits}
    for _ in range(args.repeats):
        for commit, found in runs.items():
            found.append(measure(commit))
            print(commit[:10], json.dumps(found[-1]), flush=True)
    document = {
        "command": "python benchmarks/startup/demo.py " + " ".join(sys.argv[1:]),
        "processor": next(iter(re.findall(r"model name\s*: (.*)", cpu())), ""),
        "family, model": [next(iter(re.findall(rf"^{key}\s*: (\d+)", cpu(), re.M)), "") for key in FAMILY],
        "cores": os.cpu_count(),
        "avx512": "avx512f" in cpu(),
        "seconds": {commit: medians(found) for commit, found in runs.items()},
        "runs": runs,
    }
    args.out.write_text(json.dumps(document, indent=1) + "\n")
    for commit, seconds in document["seconds"].items():
        print(commit[:10], seconds)


def measure(commit: str) -> dict[str, object]:
    """Seconds since the first command in a fresh clone at which each part was reached."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        subprocess.run(["git", "checkout", "--quiet", commit], cwd=clone, check=True)
        load, rate = os.getloadavg()[0], product()
        environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        began = time.time()
        subprocess.run(["uv", "sync", "--quiet"], cwd=clone, env=environment, check=True)
        ready = time.time()
        command = ["uv", "run", "orchestrator", "sweep", "demo"]
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)
        ended = time.time()
    text = (done.stdout + done.stderr).splitlines()
    said = [(at(match[1]), f"{match[2]} {match[3]}") for line in text if (match := LINE.match(line))]
    found: dict[str, object] = {"environment": round(ready - began, 1)}
    for part, sign in PARTS.items():
        if sign:
            found[part] = round(next(when for when, line in said if sign in line) - began, 1)
    found["command over"] = round(ended - began, 1)
    ends = [line for _, line in said if re.match(r"trial trial=\d+ state=(complete|pruned)", line)]
    found["trained to the end"] = sum("state=complete" in line for line in ends)
    found["trials"] = len(ends)
    found["longest silence"] = max(b - a for a, b in pairwise(when for when, _ in said))
    return {
        **found,
        "gflops_before": round(rate, 1),
        "gflops_after": round(product(), 1),
        "load_before": load,
    }


def product() -> float:
    """What one thread multiplies at this moment, by the environment of this repository."""
    asked = [sys.executable, "-c", PRODUCT]
    return float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def medians(runs: list[dict[str, object]]) -> dict[str, float]:
    return {part: round(statistics.median(float(str(run[part])) for run in runs), 1) for part in PARTS}


def commit_of(name: str) -> str:
    asked = ["git", "-C", str(ROOT), "rev-parse", name]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def at(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def cpu() -> str:
    return Path("/proc/cpuinfo").read_text()


if __name__ == "__main__":
    main()
