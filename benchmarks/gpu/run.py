"""Proves the software on a GPU and brings every figure back, in stages of falling worth.

    python benchmarks/gpu/run.py                          # all stages on cuda
    python benchmarks/gpu/run.py --only correct --only step
    python benchmarks/gpu/run.py --skip-done              # what an earlier, interrupted run has not brought
    python benchmarks/gpu/run.py --device cpu --tiny      # the same code anywhere, in minutes

Each stage is a process of its own, with a limit. It writes its JSON whenever it has found something,
so a run that is cut off at any second keeps what it had. Needs torch, torchvision, open_clip, safetensors and
pyarrow; the stage ``ray`` everything else that the project depends on.
Exit code 1 if a check failed or a stage did not come to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Thread
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STAGES = {"correct": 300, "trial": 150, "step": 180, "evaluate": 90, "accuracy": 150, "ray": 150}
"""Seconds that a stage may take, by name, in order of worth."""
LAST_LINES = 40
"""Of what a stage printed, kept where it did not come to its end."""
PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "safetensors", "pyarrow", "triton", "ray")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a narrow CLIP and few images, to try the script")
    parser.add_argument("--only", action="append", choices=STAGES)
    parser.add_argument("--skip", action="append", choices=STAGES, default=[])
    parser.add_argument("--skip-done", action="store_true", help="leave out stages that have a result")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", HERE / "results")))
    parser.add_argument("--scale-limits", type=float, default=1.0, help="times the stages' limits")
    parser.add_argument("--commit", help="of a copy that has no git")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        return perform(options)
    options.out.mkdir(parents=True, exist_ok=True)
    worst = 0
    for name in options.only or STAGES:
        if name in options.skip:
            continue
        path = result_of(options, name)
        if options.skip_done and read(path).get("complete"):
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
    command += ["--commit", options.commit] if options.commit else []
    path_of_code = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    path.unlink(missing_ok=True)
    # A group of its own: past its limit the stage ends with all that it started.
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path_of_code, "PYTHONUNBUFFERED": "1"} | threads(options),
        process_group=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    said_last: deque[str] = deque(maxlen=LAST_LINES)
    echo = Thread(target=hand_on, args=(process, said_last), daemon=True)
    echo.start()
    try:
        code = process.wait(STAGES[name] * options.scale_limits)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        code = 124
    echo.join(5)
    seconds = round(time.monotonic() - began, 1)
    if not read(path).get("complete"):
        why = f"ended with exit code {code} after {seconds} s"
        found = {"device": options.device, "stage": name, **read(path), "error": why, "said": [*said_last]}
        write(path, found)
    print(f"== {name}: {seconds} s, exit code {code}", flush=True)
    return int(code != 0)


def hand_on(process: subprocess.Popen[str], last: deque[str]) -> None:
    """Print what a stage prints, and remember its last lines."""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        last.append(line.rstrip())


def threads(options: argparse.Namespace) -> dict[str, str]:
    """Things this small gain nothing from a second thread, and lose much where the cores are taken."""
    return {"OMP_NUM_THREADS": "1"} if options.tiny and options.device == "cpu" else {}


def perform(options: argparse.Namespace) -> int:
    """One stage, in this process."""
    path = result_of(options, options.stage)
    sys.path[:0] = [str(HERE), str(ROOT)]
    began, machine = time.perf_counter(), about(options)

    def keep(found: dict[str, Any], complete: bool = False) -> None:
        seconds = round(time.perf_counter() - began, 1)
        write(path, {**machine, "complete": complete, "seconds": seconds, **found})

    found = import_module(f"stage_{options.stage}").measure(options.device, options.tiny, keep)
    keep(found, complete=True)
    return int(bool(found.get("failed")))


def result_of(options: argparse.Namespace, name: str) -> Path:
    out: Path = options.out
    return out / f"{'tiny-' if options.tiny else ''}{name}.json"


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def write(path: Path, found: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    # What a stage printed names files of this software; where that lies is nobody's business.
    temporary.write_text(json.dumps(found, indent=1).replace(f"{ROOT}/", "") + "\n")
    temporary.replace(path)


def about(options: argparse.Namespace) -> dict[str, Any]:
    """Machine, versions and commit."""
    import torch

    found: dict[str, Any] = {
        "stage": options.stage,
        "device": options.device,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if options.device.startswith("cuda"):
        card = torch.cuda.get_device_properties(options.device)
        found |= {"card": card.name, "memory_gb": card.total_memory / 1e9, "cuda": torch.version.cuda}
        found["driver"] = said(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    else:
        found["cpu"] = torch.backends.cpu.get_cpu_capability()
    found["commit"] = options.commit or said(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])
    return found


def said(command: list[str]) -> str | None:
    """What a program prints; None where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(main())
