"""What becomes of a study when something breaks? Breaks it for real, and fills the table from its records.

    uv run python benchmarks/faults/run.py            # all of them
    uv run python benchmarks/faults/run.py --only train_worker --only cell_hangs

Training is pretended (epochs of a second or less); driver, Ray, slots, ledger and MLflow are real. The two
faults of the storage mount a file system of their own, which takes root. Writes results.json and the table
in README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests" / "integration"), str(ROOT)]

from catalogue import FAULTS  # noqa: E402
from render import write_table  # noqa: E402

from orchestrator.work.provenance import provenance  # noqa: E402

RESULTS = HERE / "results.json"
GROUP_S = 3600
ALONE = "memory"
"""The group that has to have the machine's memory to itself."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=FAULTS, help="these, instead of all")
    parser.add_argument("--folder", type=Path, help="keep everything here; default: a temporary folder")
    parser.add_argument("--beside", type=int, default=2, help="groups of faults at the same time")
    args = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"faults": {}}
    names = args.only or list(FAULTS)
    groups: dict[str, list[str]] = {}
    for name in FAULTS:
        if name in names:
            groups.setdefault(FAULTS[name].group, []).append(name)
    by_size = sorted(groups.items(), key=lambda group: -len(group[1]))
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        together = [group for group in by_size if group[0] != ALONE]
        with ThreadPoolExecutor(args.beside) as pool:
            played = [pool.submit(play, group, members, folder) for group, members in together]
            for future in as_completed(played):
                keep(results, future.result())
        if ALONE in groups:
            keep(results, play(ALONE, groups[ALONE], folder))
    broken = [name for name in names if "error" in results["faults"].get(name, {"error": "no result"})]
    sys.exit(f"no result of {', '.join(broken)}" if broken else 0)


def keep(results: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Put rows into the results and the table."""
    for found in rows:
        results["faults"][found.pop("name")] = found
        print(json.dumps(found, indent=1, ensure_ascii=False), flush=True)
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_table(results)


def play(group: str, names: list[str], folder: Path) -> list[dict[str, Any]]:
    """The rows of one group, from a process of its own."""
    out, load, began = folder / f"{group}.jsonl", os.getloadavg(), time.monotonic()
    out.unlink(missing_ok=True)
    path = os.pathsep.join([*sys.path[:3], *filter(None, [os.environ.get("PYTHONPATH")])])
    # Rows that were played by the time that a group gets are kept.
    with (folder / f"{group}.log").open("w") as log, suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, str(HERE / "child.py"), *names, "--folder", str(folder), "--out", str(out)],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=GROUP_S,
            check=False,
        )
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    machine = {"cores": os.cpu_count(), "load_average": [load, os.getloadavg()]}
    group_seconds = round(time.monotonic() - began, 1)
    about = {"provenance": provenance(), "machine": machine, "group": group, "group_seconds": group_seconds}
    return [{**row, **about} for row in rows]


if __name__ == "__main__":
    main()
