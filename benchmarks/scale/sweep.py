"""A whole study with many slots on a real Ray: what a trial costs its driver, and how busy the slots are.

    python benchmarks/scale/sweep.py --slots 64 --trials 5000 --epoch-s 5
    python benchmarks/scale/sweep.py --slots 8 --trials 300 --epoch-s 1

Everything is real, Ray Tune, thin trials, pool actor, search, ledger, records and MLflow in sqlite, but for
the slots: 64 Train workers would not fit in memory, so a few actors stand for them, each with a thread per
slot that speaks to the pool as a worker does and runs real jobs on an engine that only waits. The cluster is
one raylet with as many fake GPUs as slots.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import meters  # noqa: E402

from orchestrator.slots import environment  # noqa: E402
from orchestrator.work.events import Done, Event, Leased, PartDone  # noqa: E402
from orchestrator.work.shown import Shown, TrialShown  # noqa: E402

SLOTS_PER_ACTOR = 32

SNAPSHOT_S = 20.0

THIN_TRIAL = "ray::ThinTrial"
"""How Ray names the process of a thin trial."""


class StubSlots:
    """In place of ``ResidentSlots``: threads of a few actors, which say hello, take leases and report."""

    error, all_stopped = "", False

    def __init__(self, settings: Any, *, pool: Any, states: Any, **about: Any) -> None:
        self._settings, self._pool, self.states = settings, pool, states
        self._places: list[Any] = []
        self._actors: list[Any] = []

    def open(self, place: Any) -> None:
        """Start a slot; returns at once."""
        import ray

        if len(self._places) % SLOTS_PER_ACTOR == 0:
            self._actors.append(
                ray.remote(num_cpus=0, num_gpus=SLOTS_PER_ACTOR)(StubWorkers).remote(
                    self._pool, self._settings
                )
            )
        self._actors[-1].open.remote(place.name)
        self._places.append(place)

    def places(self) -> list[Any]:
        return self._places

    def join(self, timeout: float) -> bool:
        """Wait for the slots to end after the pool was told to stop."""
        import ray

        ends = [actor.join.remote() for actor in self._actors]
        _, left = ray.wait(ends, num_returns=len(ends), timeout=timeout)
        return not left


class StubWorkers:
    """An actor with a thread per slot."""

    def __init__(self, pool: Any, settings: Any) -> None:
        self._pool, self._settings = pool, settings
        self._threads: list[threading.Thread] = []

    def open(self, name: str) -> None:
        """Serve a slot."""
        import stub

        bench = stub.make(**self._settings.arguments)
        thread = threading.Thread(target=_serve, args=(self._pool, name, bench), daemon=True)
        thread.start()
        self._threads.append(thread)

    def join(self) -> None:
        """Wait until the pool has said stop to all of them."""
        for thread in self._threads:
            thread.join()


def _serve(actor: Any, slot: str, bench: Any) -> None:
    """As ``orchestrator.slots.worker.serve``, without Train and torch around it."""
    import secrets

    import ray

    from orchestrator.slots.worker import ACQUIRE_S, ItemLease
    from orchestrator.work.item import WorkItem

    def pool(method: str, *arguments: Any) -> Any:
        return ray.get(getattr(actor, method).remote(*arguments))

    worker = secrets.token_hex(8)
    if not pool("hello", slot, worker):
        return
    while True:
        answer = pool("acquire", slot, worker, ACQUIRE_S)
        if answer is None:
            continue
        if "stop" in answer:
            break
        with ItemLease(pool, slot, worker, answer["lease"]) as lease:
            bench.run(WorkItem.from_dict(answer["item"]), lease.emit, lease.control)
    pool("bye", slot, worker)


class Watch:
    """Samples the driver at the end of every trial, and how long each slot was idle between two items."""

    def __init__(self) -> None:
        self.meters = meters.Meters()
        self.samples: list[dict[str, float]] = []
        self.ended: list[float] = []
        self.gaps: list[tuple[float, float]] = []
        self.work: list[tuple[float, float]] = []
        self._slots: dict[str, tuple[str, float]] = {}
        self._free: dict[str, float] = {}

    def progress(self, event: Shown) -> None:
        """Takes what a user is shown."""
        if isinstance(event, TrialShown) and event.state != "running":
            self.ended.append(time.monotonic())
            self.samples.append(self.meters.now())
            if len(self.samples) % 100 == 0:
                last = self.samples[-1]
                rate = 100 / (last["wall"] - self.samples[-100]["wall"])
                print(f"{len(self.samples)} trials, {rate:.1f}/s, {last['rss_mib']:.0f} MiB", file=sys.stderr)

    def take(self, event: Event) -> None:
        """Takes the pool's events, with the times at which the pool gave and took back."""
        now = time.monotonic()
        match event:
            case Leased():
                self._slots[event.held] = event.slot, now
                freed = self._free.pop(event.slot, None)
                if freed is not None:
                    self.gaps.append((freed, now - freed))
            case Done() | PartDone() if event.held in self._slots:
                slot, since = self._slots.pop(event.held)
                self._free[slot] = now
                self.work.append((since, now - since))


def processes() -> dict[str, dict[str, float]]:
    """Processor seconds and memory of this session's Ray processes, by what they are."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"count": 0, "cpu_s": 0.0, "pss_mib": 0.0})
    ticks = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").iterdir():
        try:
            if not folder.name.isdecimal() or not _descends(int(folder.name), os.getpid()):
                continue
            title = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            rollup = (folder / "smaps_rollup").read_text()
        except OSError:
            continue
        name = "driver" if int(folder.name) == os.getpid() else title.split("/")[-1].split(".")[0] or "?"
        entry = found[name]
        entry["count"] += 1
        entry["cpu_s"] += (int(fields[11]) + int(fields[12])) / ticks
        entry["pss_mib"] += int(rollup.partition("Pss:")[2].split()[0]) / 1024
    return {name: {k: round(v, 1) for k, v in entry.items()} for name, entry in found.items()}


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def start(slots: int) -> None:
    """One raylet with a fake GPU and logical cores for every slot."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(":")
    environment.prepare()
    import logging

    import ray

    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=int(slots * 1.2) + 2,
        num_gpus=-(-slots // SLOTS_PER_ACTOR) * SLOTS_PER_ACTOR,
        object_store_memory=256 * 2**20,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def watched() -> Iterator[tuple[type, str, str]]:
    """What is timed in the driver: class, method, and the name of the part."""
    from ray.tune.execution.tune_controller import TuneController

    from orchestrator.driver.pool_client import PoolClient
    from orchestrator.driver.session import Session
    from orchestrator.driver.tune_run import ThinActors
    from orchestrator.search.proposals import Proposals
    from orchestrator.tracking.tracker import Tracker

    yield Proposals, "propose", "sampler"
    yield Proposals, "tell", "sampler"
    yield PoolClient, "submit", "submit"
    yield TuneController, "step", "tune_loop"
    yield Tracker, "event", "tracker"
    yield ThinActors, "add_actor", "starts"
    yield Session, "take", "events"


def measure(slots: int, trials: int, folder: Path, *, limit_s: float) -> dict[str, Any]:
    """Run the study, for at most ``limit_s`` seconds."""
    from orchestrator.driver import Options, crew, run_study, session
    from orchestrator.driver.interrupt import Interrupt
    from orchestrator.study import load_plan
    from orchestrator.study.machine import SlotLayout

    watch = Watch()
    for owner, method, name in watched():
        watch.meters.watch(owner, method, name)
    crew.ResidentSlots = StubSlots  # type: ignore[misc, assignment]
    take = session.Session._take_one

    def noted(self: Any, event: Event) -> None:
        watch.take(event)
        take(self, event)

    session.Session._take_one = noted  # type: ignore[method-assign]
    plan = load_plan(
        "demo",
        [
            f"storage={folder / 'runs'}",
            f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
            "name=scale",
            f"search.trials={trials}",
            "search.scheduler=none",
            "recipe.epochs=3",
            "finalists=0",
        ],
    )
    plan = dataclasses.replace(plan, slots=SlotLayout(count=slots, cpus=1, gpus=1, threads=1))
    interrupt = Interrupt()
    clock = threading.Timer(limit_s, interrupt.requested.set)
    clock.daemon = True
    clock.start()
    snapshots: list[dict[str, dict[str, float]]] = []
    sampler = threading.Thread(target=_snapshots, args=(snapshots, watch), daemon=True)
    sampler.start()
    began = time.monotonic()
    outcome = run_study(plan, watch.progress, options=Options(interrupt=interrupt))
    clock.cancel()
    ended = watch.ended
    found: dict[str, Any] = {
        "slots": slots,
        "trials": len(ended),
        "outcome": outcome.state,
        "epoch_s": float(os.environ.get("STUB_EPOCH_S", "0")),
        "wall_s": round(time.monotonic() - began, 1),
        "tracking": outcome.note or "all delivered",
    }
    if len(ended) > 2:
        found["trials_per_s"] = round((len(ended) - 1) / (ended[-1] - ended[0]), 2)
    step = 500 if len(ended) >= 1000 else len(ended) // 2
    found["per_trial_ms"] = {
        f"{first}-{first + step}": meters.spent(watch.samples, first, min(first + step, len(ended) - 1))
        for first in range(0, len(ended) - step + 1, step)
    }
    found["trial_processes_started"] = watch.meters.calls["starts"]
    up = next((one["at"]["time"] for one in snapshots if _up(one, slots)), None)
    found["busy"] = {"whole run": _busy(watch, slots)}
    if up is not None:
        found["all_trials_processes_up_after_s"] = round(up - began, 1)
        found["busy"]["once they are up"] = _busy(watch, slots, since=up)
    found["processes"] = max(snapshots, key=_trials_processes, default={})
    found["per_trial_ms_of_processes"] = _between([one for one in snapshots if _up(one, slots)])
    outbox = folder / "runs" / "studies" / "scale" / "local" / "outbox"
    found["tracking_left_bytes"] = _left(outbox)
    found["driver_could_serve"] = _could_serve(
        list(found["per_trial_ms"].values())[-1]["cpu"],
        found["per_trial_ms_of_processes"].get("ray::PoolActor", 0.0),
    )
    return found


def _left(outbox: Path) -> int:
    """Bytes of news that MLflow has not taken."""
    from orchestrator.tracking.outbox import Outbox

    queue = Outbox(outbox)
    left = queue.pending_bytes
    queue.close()
    return left


def _could_serve(*per_trial_ms: float) -> dict[str, int]:
    """Slots whose trials of three cells, one after the other, take four fifths of one core.

    Driver and pool each run one thread at a time, so what the dearer of both takes per trial is what bounds.
    """
    return {f"cells of {cell} s": int(0.8 * 3 * cell * 1000 / max(per_trial_ms)) for cell in (5, 30, 300)}


def _busy(watch: Watch, slots: int, since: float = 0.0) -> dict[str, Any]:
    """The share of the time in which slots work: each from its first item to its last, and all slots from the
    first item of any to the last."""
    work = [seconds for at, seconds in watch.work if at >= since]
    starts = [at for at, _ in watch.work if at >= since]
    span = max((at + seconds for at, seconds in watch.work), default=0.0) - min(starts, default=0.0)
    gaps = [seconds for at, seconds in watch.gaps if at >= since]
    return {
        "share": round(sum(work) / (sum(work) + sum(gaps)), 4) if gaps else 0.0,
        "share_of_all": round(sum(work) / (slots * span), 4) if span else 0.0,
        "work_s": round(sum(work), 1),
        "between_s": round(sum(gaps), 1),
        "trials": len(work),
        "gap_ms": _quantiles(gaps),
    }


def _trials_processes(snapshot: dict[str, dict[str, float]]) -> float:
    return snapshot.get(THIN_TRIAL, {"count": 0})["count"]


def _up(snapshot: dict[str, dict[str, float]], slots: int) -> bool:
    return _trials_processes(snapshot) >= slots


def _between(snapshots: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Milliseconds of processor time per trial, by process, from the first snapshot to the last."""
    if len(snapshots) < 2:
        return {}
    first, last = snapshots[0], snapshots[-1]
    trials = max(1, last["at"]["trials"] - first["at"]["trials"])
    return {
        name: round(1000 * (last[name]["cpu_s"] - first[name]["cpu_s"]) / trials, 2)
        for name in last
        if name != "at" and name in first
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    at = {"median": 0.5, "p95": 0.95, "largest": 1.0}
    shown = {name: ordered[min(len(ordered) - 1, int(q * len(ordered)))] for name, q in at.items()}
    return {name: round(1000 * value, 1) for name, value in shown.items()}


def _snapshots(into: list[dict[str, dict[str, float]]], watch: Watch) -> None:
    while True:
        time.sleep(SNAPSHOT_S)
        into.append({**processes(), "at": {"trials": len(watch.ended), "time": time.monotonic()}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--epoch-s", type=float, default=0.0, help="seconds of an epoch of a trial")
    parser.add_argument("--limit-s", type=float, default=1e6, help="stop after so long")
    parser.add_argument("--keep", type=Path, help="keep the records in this folder")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    os.environ["STUB_EPOCH_S"] = str(arguments.epoch_s)
    start(arguments.slots)
    import ray

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        found = measure(arguments.slots, arguments.trials, folder, limit_s=arguments.limit_s)
        ray.shutdown()
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
