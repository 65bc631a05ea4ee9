"""Stage 6: a sweep as users run it, two slots on one GPU, and one worker killed in the middle of it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from checks import ROOT, Found, NeedsCuda, failed, perform

TRIALS, SLOTS = 2, 2
SAMPLE_S = 0.2
MARK = "GPU_BENCHMARK_SWEEP"
"""Name of the variable by which the processes of this sweep are known."""
WORKER = b"ray::RayTrainWorker"
"""How Ray calls the process of a Train worker while it serves."""


def measure(device: str, tiny: bool, keep: Callable[[Found], None]) -> Found:
    cuda = device.startswith("cuda")
    with tempfile.TemporaryDirectory(prefix="sweep") as folder, Card(cuda) as card:
        sweep = Sweep(Path(folder), cuda, tiny)
        began = time.monotonic()
        code = sweep.run()
        found: Found = {
            "trials": TRIALS,
            "slots": SLOTS,
            "exit_code": code,
            "sweep_s": time.monotonic() - began,
            "killed_after_s": sweep.killed_after,
            "first_epoch_s": sweep.first_epoch,
            "log": sweep.lines,
        }
        keep(found)
        results = sweep.command("results", "--json") if code == 0 else None
        found["results"] = None if results is None else json.loads(results)
        found["devices"] = sweep.devices() if code == 0 else None
    found["load"] = card.summary()
    keep(found)
    checks = {
        "nothing_is_lost_with_a_killed_worker": partial(nothing_lost, found, sweep),
        "both_slots_work_on_the_gpu": partial(both_on_the_gpu, found, cuda),
        "slots_keep_to_their_share_of_memory": partial(memory_shared, found, cuda),
    }
    found["checks"] = perform(checks, lambda so_far: keep({**found, "checks": so_far}))
    return {**found, "failed": failed(found["checks"])}


class Sweep:
    """``orchestrator sweep symbols`` in a process of its own, followed through its log.

    Attributes:
        lines: what it printed.
        killed: process id of the worker that was killed.
        killed_after, first_epoch: seconds since the start.
    """

    def __init__(self, folder: Path, cuda: bool, tiny: bool) -> None:
        self.lines: list[str] = []
        self.killed: int | None = None
        self.killed_after: float | None = None
        self.first_epoch: float | None = None
        self._mark = secrets.token_hex(8)
        self._storage = folder / "runs"
        self._overrides = [
            f"storage={self._storage}",
            f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
            "space=[{name: learning_rate, low: 0.01, high: 0.1}]",
            f"search.trials={TRIALS}",
            f"slots.count={SLOTS}",
            f"slots.gpus={0.5 if cuda else 0}",
            f"slots.cpus={2 if cuda else 1}",
            f"precision={'bf16' if cuda else 'fp32'}",
            "finalists=1",
        ]
        if tiny:
            self._overrides += ["seeds=[1]", "splits=[{shots: 3}]", "recipe.epochs=4", "grouping=null"]
            self._overrides += ["dataset.tasks=[sketch, photo]"]
        self._environment = {**os.environ, MARK: self._mark, "MLFLOW_DISABLE_TELEMETRY": "true"}

    def run(self) -> int:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "sweep", "symbols", *self._overrides],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip())
            print(line, end="", flush=True)
            if " epoch trial=" in line and self.killed is None:
                self.first_epoch = time.monotonic() - began
                self.killed = min(self.workers(), default=None)
                if self.killed is not None:
                    os.kill(self.killed, signal.SIGKILL)
                    self.killed_after = time.monotonic() - began
                    print(f"killed worker {self.killed}", flush=True)
        return process.wait()

    def workers(self) -> list[int]:
        """Process ids of this sweep's Train workers."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                title = (process / "cmdline").read_bytes()
                if title.startswith(WORKER) and self._mark.encode() in (process / "environ").read_bytes():
                    found.append(int(process.name))
            except OSError:  # it has just ended
                continue
        return found

    def command(self, name: str, *options: str) -> str:
        """What a command of the orchestrator prints about the study."""
        command = [sys.executable, "-m", "orchestrator", name, "symbols", f"--storage={self._storage}"]
        done = subprocess.run(
            [*command, *options], cwd=ROOT, env=self._environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def devices(self) -> list[str]:
        """Where each cell of the trials was computed, as its record says."""
        from orchestrator.ledger import Ledger, StudyStore

        keys = [key for t in StudyStore(str(self._storage), "symbols").load_trials() for key in t.keys]
        records = Ledger(str(self._storage)).get_many(keys)
        return [records[key]["provenance"]["device"] for key in keys]


class Card:
    """Samples of a GPU's load and memory by NVML, from a thread; of nothing without CUDA."""

    def __init__(self, cuda: bool) -> None:
        self._over = threading.Event()
        self._samples: list[tuple[int, int, int]] = []
        self._total = 0
        self._thread = threading.Thread(target=self._sample, daemon=True) if cuda else None

    def __enter__(self) -> Card:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def summary(self) -> dict[str, Any] | None:
        """Share of time with kernels while two processes were there, memory in bytes, most processes."""
        if not self._samples:
            return None
        working = [load for load, _, processes in self._samples if processes >= SLOTS]
        return {
            "samples": len(self._samples),
            "busy_share": statistics.mean(working) / 100 if working else None,
            "memory_peak": max(used for _, used, _ in self._samples),
            "memory_total": self._total,
            "processes": max(processes for _, _, processes in self._samples),
        }

    def _sample(self) -> None:
        from ray._private.thirdparty import pynvml

        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        self._total = pynvml.nvmlDeviceGetMemoryInfo(card).total
        while not self._over.wait(SAMPLE_S):
            load = pynvml.nvmlDeviceGetUtilizationRates(card).gpu
            used = pynvml.nvmlDeviceGetMemoryInfo(card).used
            self._samples.append((load, used, len(pynvml.nvmlDeviceGetComputeRunningProcesses(card))))


def nothing_lost(found: Found, sweep: Sweep) -> Found:
    assert found["exit_code"] == 0, "\n".join(sweep.lines[-20:])
    assert sweep.killed is not None, "no worker was found to kill"
    assert any("state=restarting" in line for line in sweep.lines), "nobody noticed the death of the worker"
    trials = found["results"]["trials"]
    assert [trial["state"] for trial in trials] == ["complete"] * TRIALS, trials
    return {"restarts": sum("state=restarting" in line for line in sweep.lines)}


def both_on_the_gpu(found: Found, cuda: bool) -> Found:
    if not cuda:
        raise NeedsCuda
    assert set(found["devices"]) == {"cuda"}, found["devices"]
    assert found["load"]["processes"] >= SLOTS, found["load"]
    return {"busy_share": found["load"]["busy_share"]}


def memory_shared(found: Found, cuda: bool) -> Found:
    if not cuda:
        raise NeedsCuda
    assert not any("together they do not fit" in line for line in found["log"])
    assert not any("Memory ran out" in line for line in found["log"])
    peak, total = found["load"]["memory_peak"], found["load"]["memory_total"]
    return {"memory_peak": peak, "memory_total": total}
