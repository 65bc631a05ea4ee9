"""How fast are images fed, what does a prepared store cost, and does its size show in a worker's memory?

    uv run python benchmarks/data/run.py

Three questions, each in processes of their own: feeding against a plain ImageFolder and DataLoader over the
same JPEGs; four workers opening a store of miniDomainNet's size; evaluating 14,000 and all 140,006 of its
images. Writes results.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import images
import memory

from orchestrator.work.provenance import provenance

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
LARGE_SIDE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/mmap-data-benchmark"))
    parser.add_argument("--images", type=int, default=4000, help="JPEGs of the comparison")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode, on both sides")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("feeding", "opening", "evaluating"))
    args = parser.parse_args()
    parts = {
        "feeding": lambda: feeding(args.folder, args.images, args.workers, args.rounds),
        "opening": lambda: opening(args.folder),
        "evaluating": lambda: evaluating(args.folder),
    }
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, measure in parts.items():
        if args.only in (None, name):
            before = os.getloadavg()
            results[name] = {**measure(), "load_average": [before, os.getloadavg()]}
            results[name]["provenance"] = provenance()
            print(json.dumps({name: results[name]}, indent=1))
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def feeding(folder: Path, count: int, workers: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds; within a round both sides take turns on the same images, which lie in memory."""
    root = folder / f"tree-{count}"
    if not root.exists():
        images.write_tree(root, count)
    encoded = sum(len(path.read_bytes()) for path in root.rglob("*.jpg"))
    found: dict[str, list[dict[str, Any]]] = {}

    def measure(name: str, role: str, **options: Any) -> None:
        found.setdefault(name, []).append(run(role, folder, **options))

    for _ in range(rounds):
        for name in ("store", "store-lean", "cache"):
            shutil.rmtree(folder / name, ignore_errors=True)
        measure("plain_train", "plain", root=root, workers=workers, train=True)
        measure("prepare", "prepare", root=root, store=folder / "store", workers=workers, evaluation=True)
        measure("ours", "stored", store=folder / "store", workers=workers)
        measure("plain_evaluate", "plain", root=root, workers=workers, train=False)
        measure(
            "prepare_lean",
            "prepare",
            root=root,
            store=folder / "store-lean",
            workers=workers,
            evaluation=False,
        )

    return {
        "images": count,
        "encoded_mb": encoded / 1e6,
        "workers": workers,
        "rounds": rounds,
        **{clock: compare(found, count, clock) for clock in ("wall", "processor")},
        "bytes": {
            **found["prepare"][0]["bytes"],
            "decoded": sum(p.stat().st_size for p in (folder / "cache" / "pixels").glob("*.arrow")),
        },
        "peak_mb": {
            name: {field: median(one["peak_mb"][field] for one in measured) for field in ("Pss", "Pss_Anon")}
            for name, measured in found.items()
        },
        "all": found,
    }


def compare(found: dict[str, list[dict[str, Any]]], count: int, clock: str) -> dict[str, Any]:
    """Images per second, and ratios of times, by the wall or by all processors together."""

    def seconds(name: str, which: int, key: str = "seconds") -> float:
        return median(one[key][clock][which] for one in found[name])

    used = found["ours"][0]["images"]
    prepare, lean, first = seconds("prepare", 0), seconds("prepare_lean", 0), seconds("ours", 0)
    plain_train, plain_evaluate = seconds("plain_train", 0), seconds("plain_evaluate", 0)
    later = median([seconds("ours", 1), seconds("ours", 2)])
    first_evaluation = seconds("ours", 0, "evaluation_seconds")
    evaluation = median([seconds("ours", n, "evaluation_seconds") for n in (1, 2)])
    return {
        "images_per_second": {
            "plain training": used / plain_train,
            "plain training, second epoch": used / seconds("plain_train", 1),
            "plain evaluation": count / plain_evaluate,
            "plain evaluation, second pass": count / seconds("plain_evaluate", 1),
            "preparing": count / prepare,
            "preparing without evaluation view": count / lean,
            "first training epoch": used / first,
            "later training epochs": used / later,
            "first evaluation": count / first_evaluation,
            "later evaluations": count / evaluation,
        },
        "times_as_long": {
            "preparation, first training epoch and evaluation": (prepare + first + first_evaluation)
            / (plain_train + plain_evaluate),
            "preparation without evaluation view, first training epoch": (lean + first) / plain_train,
            "preparation with evaluation view, first training epoch": (prepare + first) / plain_train,
        },
        "times_as_fast": {
            "later training epochs": seconds("plain_train", 1) / later,
            "evaluation": seconds("plain_evaluate", 1) / evaluation,
        },
    }


def opening(folder: Path, workers: int = 4) -> dict[str, Any]:
    """Workers that have imported everything open the store at the same moment."""
    store, go = large_store(folder), folder / "go"
    go.unlink(missing_ok=True)
    started = [start("opened", folder, store=store, go=go) for _ in range(workers)]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    go.touch()
    found = [json.loads(process.communicate()[0]) for process in started]
    return {
        "workers": workers,
        "images": found[0]["images"],
        "drawn": found[0]["drawn"],
        "seconds": max(one["seconds"] for one in found),
        "processor_seconds": max(one["processor_seconds"] for one in found),
        "added_mb": max(one["added_mb"] for one in found),
        "added_after_reading_mb": max(one["added_after_reading_mb"] for one in found),
        "all": found,
    }


def evaluating(folder: Path) -> dict[str, Any]:
    """The same evaluation of a tenth and of all images."""
    store = large_store(folder)
    found = {
        str(one["images"]): one
        for per_task in (3500, 0)
        for one in [run("evaluated", folder, store=store, side=LARGE_SIDE, per_task=per_task)]
    }
    peaks = [one["peak_anonymous_mb"] for one in found.values()]
    return {"by_images": found, "peak_ratio": peaks[1] / peaks[0], "peak_difference_mb": peaks[1] - peaks[0]}


def large_store(folder: Path) -> Path:
    """A store of 140,006 small images in miniDomainNet's layout and counts, made once."""
    from mmap_model.data.dataset import DatasetSpec
    from mmap_model.data.generated import write_mini_domainnet
    from mmap_model.data.prepared import plan_store, write_store
    from mmap_model.data.sources import open_source

    root, store = folder / "mini_domainnet", folder / "mini_domainnet-store"
    if not (store / "manifest.json").exists():
        if not (root / "splits_mini").exists():
            write_mini_domainnet(root)
        source = open_source(DatasetSpec(name="mini_domainnet", root=str(root)))
        write_store(source, store, plan_store(source, side=LARGE_SIDE), workers=os.cpu_count() or 1)
    return store


def start(role: str, folder: Path, **options: Any) -> subprocess.Popen[str]:
    script, *name = ["preparing.py"] if role == "prepare" else ["passes.py", role]
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    return subprocess.Popen(
        [sys.executable, str(HERE / script), *name, json.dumps(plain)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MMAP_CACHE_DIR": str(folder / "cache")},
    )


def run(role: str, folder: Path, **options: Any) -> dict[str, Any]:
    """One role in a process of its own, with the peak of its memory and of its workers'."""
    process = start(role, folder, **options)
    with memory.Peak(process.pid) as peak:
        out = process.communicate()[0]
    assert process.returncode == 0, out
    print(role, options, out.strip(), file=sys.stderr)
    return {**json.loads(out), "peak_mb": peak.megabytes}


if __name__ == "__main__":
    main()
