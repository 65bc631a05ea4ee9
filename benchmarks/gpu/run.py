"""Proves the software on a GPU and brings every figure back, in stages of falling worth.

    python benchmarks/gpu/run.py                          # all stages on cuda
    python benchmarks/gpu/run.py --only correct --only step
    python benchmarks/gpu/run.py --skip-done              # what an earlier, interrupted run has not brought
    python benchmarks/gpu/run.py --device cpu --tiny      # the same code anywhere, in minutes

Each stage is a process of its own with a limit in seconds; its JSON is written when it ends, so a run that is
cut off keeps what it had. Needs torch, torchvision, open_clip, safetensors and pyarrow.
Exit code 1 if a check failed or a stage brought nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STAGES = {"correct": 110, "trial": 90, "step": 110}
"""Seconds that a stage may take, by name, in order of worth."""
PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "safetensors", "pyarrow", "triton")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a narrow CLIP and few images, to try the script")
    parser.add_argument("--only", action="append", choices=STAGES)
    parser.add_argument("--skip-done", action="store_true", help="leave out stages that have a result")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", HERE / "results")))
    parser.add_argument("--scale-limits", type=float, default=1.0, help="times the stages' limits")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        return perform(options)
    options.out.mkdir(parents=True, exist_ok=True)
    worst = 0
    for name in options.only or STAGES:
        path = result_of(options, name)
        if options.skip_done and path.exists() and "error" not in json.loads(path.read_text()):
            print(f"{name}: done before", flush=True)
            continue
        worst = max(worst, start(options, name, path))
    return worst


def start(options: argparse.Namespace, name: str, path: Path) -> int:
    """Run one stage in a process of its own; 1 if it failed."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    command = [sys.executable, str(HERE / "run.py"), "--stage", name, "--device", options.device]
    command += ["--out", str(options.out), *(["--tiny"] if options.tiny else [])]
    path_of_code = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        code = subprocess.run(
            command,
            timeout=STAGES[name] * options.scale_limits,
            env={**os.environ, "PYTHONPATH": path_of_code, "PYTHONUNBUFFERED": "1"} | threads(options),
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        code = 124
    seconds = round(time.monotonic() - began, 1)
    if not path.exists():
        write(path, {**about(options), "error": f"ended with exit code {code} after {seconds} s"})
    print(f"== {name}: {seconds} s, exit code {code}", flush=True)
    return int(code != 0)


def threads(options: argparse.Namespace) -> dict[str, str]:
    """Things this small gain nothing from a second thread, and lose much where the cores are taken."""
    return {"OMP_NUM_THREADS": "1"} if options.tiny and options.device == "cpu" else {}


def perform(options: argparse.Namespace) -> int:
    """One stage, in this process."""
    path = result_of(options, options.stage)
    path.unlink(missing_ok=True)
    sys.path[:0] = [str(HERE), str(ROOT)]
    began = time.perf_counter()
    found = import_module(f"stage_{options.stage}").measure(options.device, options.tiny)
    write(path, {**about(options), "seconds": round(time.perf_counter() - began, 1), **found})
    return int(bool(found.get("failed")))


def result_of(options: argparse.Namespace, name: str) -> Path:
    return options.out / f"{'tiny-' if options.tiny else ''}{name}.json"


def write(path: Path, found: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    temporary.replace(path)


def about(options: argparse.Namespace) -> dict[str, Any]:
    """Machine, versions and commit."""
    import torch

    found: dict[str, Any] = {"device": options.device, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if options.device.startswith("cuda"):
        card = torch.cuda.get_device_properties(options.device)
        found |= {"card": card.name, "memory_gb": card.total_memory / 1e9, "cuda": torch.version.cuda}
    else:
        found["cpu"] = torch.backends.cpu.get_cpu_capability()
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return {**found, "commit": done.stdout.strip() or None}


if __name__ == "__main__":
    sys.exit(main())
