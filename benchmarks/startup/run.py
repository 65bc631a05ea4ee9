"""How long from the command to the first step and to the first validation number, part by part."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PARTS = (
    "command imported",
    "study planned",
    "Ray runs",
    "worker imported the executor",
    "worker loaded backbone and data",
    "first slot is up",
    "worker has its first item",
    "first step",
    "first validation number",
    "study finished",
)
TRIALS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="COMMIT", help="measured in turns with the working tree")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = {"now": ROOT}
        if args.before:
            trees = {"before": check_out(args.before, Path(folder) / "before"), **trees}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        loads = []
        for repeat in range(args.repeats):
            for name, tree in trees.items():
                loads.append(round(os.getloadavg()[0], 2))
                found[name].append(measure(tree, Path(folder) / f"{name}-{repeat}"))
                print(name, json.dumps(found[name][-1]), flush=True)
        commits = {name: commit_of(tree) for name, tree in trees.items()}
    flags = Path("/proc/cpuinfo").read_text()
    document = {
        "command": "python benchmarks/startup/run.py " + " ".join(sys.argv[1:]),
        "cores": os.cpu_count(),
        "avx512": "avx512f" in flags,
        "load_before_each": loads,
        "commits": commits,
        "seconds": {name: medians(runs) for name, runs in found.items()},
        "runs": found,
    }
    args.out.write_text(json.dumps(document, indent=2) + "\n")
    print(table(document["seconds"]))


def check_out(commit: str, folder: Path) -> Path:
    """A worktree of a commit, with the environment of its own that it asks for."""
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(folder), commit], check=True)
    subprocess.run(["uv", "sync", "--quiet"], cwd=folder, check=True)
    return folder


def measure(tree: Path, folder: Path) -> dict[str, float]:
    """Seconds since the command at which the first process reached each part."""
    folder.mkdir(parents=True)
    stamps = folder / "stamps.jsonl"
    environment = {
        **os.environ,
        "STARTUP_STAMPS": str(stamps),
        "PYTHONPATH": os.pathsep.join([str(tree), str(HERE)]),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    overrides = [f"storage={folder / 'runs'}", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"]
    overrides += ["name=startup", f"search.trials={TRIALS}", "search.scheduler=none"]
    began = time.time()
    with (folder / "log").open("w") as log:
        python = tree / ".venv" / "bin" / "python"
        subprocess.run(
            [str(python), str(HERE / "child.py"), *overrides],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    reached: dict[str, float] = {}
    for line in stamps.read_text().splitlines():
        found = json.loads(line)
        reached[found["name"]] = min(reached.get(found["name"], float("inf")), found["at"] - began)
    shutil.rmtree(folder / "runs")
    return {name: round(reached[name], 2) for name in PARTS if name in reached}


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(run[name] for run in runs), 1) for name in runs[0]}


def commit_of(tree: Path) -> str:
    asked = ["git", "-C", str(tree), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def table(seconds: dict[str, dict[str, float]]) -> str:
    """Of medians, as Markdown."""
    lines = [f"| reached after | {' | '.join(seconds)} |", f"|---|{'--:|' * len(seconds)}"]
    for part in PARTS:
        cells = [f"{found[part]:.1f} s" if part in found else "" for found in seconds.values()]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
