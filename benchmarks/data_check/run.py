"""How long do listing, drawing, preparing and checking take at the sizes of Office-Home and miniDomainNet?

    uv run python benchmarks/data_check/run.py

Writes both trees with small generated images (156 thousand files, 700 MB of blocks) into a temporary folder,
plans the packaged study on each, runs `data prepare` and `data check`, and writes results.json beside this
file. The images are tiny, so what is measured is everything but the decoding of real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmap_model.data import DatasetSpec, default_cache_dir
from mmap_model.data.check import Shots, check_source
from mmap_model.data.generated import write_mini_domainnet, write_office_home
from mmap_model.data.sourced import SourceDataset
from mmap_model.data.sources import list_source
from orchestrator.driver.draws import draw_records
from orchestrator.study import load_study
from orchestrator.study.machine import this_machine
from orchestrator.work.provenance import provenance

SIDE = 64
"""Pixels of the evaluation view; at 224 the larger store takes 21 GB."""

WRITERS = {"office_home": write_office_home, "mini_domainnet": write_mini_domainnet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=this_machine().cores)
    args = parser.parse_args()
    rows = {}
    for name, write in WRITERS.items():
        with tempfile.TemporaryDirectory(prefix="mmap-check-") as folder:
            rows[name] = measure(
                name, lambda root=Path(folder), write=write: write(root), folder, args.workers
            )
        print(name, json.dumps(rows[name]))
    result = {
        "rows": rows,
        "workers": args.workers,
        "cores": this_machine().cores,
        "load_average_after": os.getloadavg(),
        **provenance(),
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(result, indent=1) + "\n")


def measure(name: str, write: Callable[[], int], root: str, workers: int) -> dict[str, Any]:
    """Seconds of each step, numbers of images and findings."""
    study = load_study(name, [f"dataset.root={root}"])
    images, writing = timed(write)
    spec = DatasetSpec(name=name, root=root)
    source, listing = timed(lambda: list_source(spec))
    manifest, hashing = timed(lambda: source.manifest)
    drawn, drawing = timed(lambda: draw_records(study, SourceDataset(source, spec, default_cache_dir())))
    most = study.shots_before_validation
    assert most is not None, "the packaged studies are of shots"
    with tempfile.TemporaryDirectory(prefix="mmap-store-") as store:
        prepared, preparing = timed(lambda: prepare(name, root, Path(store) / name, workers))
        gigabytes = sum(path.stat().st_size for path in Path(store).rglob("*") if path.is_file()) / 1e9
    report, checking = timed(lambda: check_source(source, Shots(largest=most), workers=workers))
    return {
        "images": images,
        "classes": len(source.tasks[0].classes),
        "manifest": manifest,
        "draws": len(drawn),
        "store": {"exit_code": prepared, "side": SIDE, "gigabytes": round(gigabytes, 3)},
        "passed": report.passed,
        "findings": report.to_dict()["counts"],
        "seconds": {
            "writing": writing,
            "listing": listing,
            "manifest": hashing,
            "draws": drawing,
            "prepare": preparing,
            "check": checking,
        },
    }


def prepare(name: str, root: str, store: Path, workers: int) -> int:
    """Exit code of the command that a user gives; it reads the store again and compares hashes."""
    command = [sys.executable, "-m", "orchestrator", "data", "prepare", name, f"dataset.root={root}"]
    command += ["--side", str(SIDE), "--workers", str(workers), "--output", str(store), "--verify"]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    found = work()
    return found, round(time.perf_counter() - started, 2)


if __name__ == "__main__":
    main()
