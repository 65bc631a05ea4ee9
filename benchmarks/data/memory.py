"""Memory and processor time of processes, from ``/proc``."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

FIELDS = ("Pss", "Pss_Anon", "Private_Clean", "Private_Dirty")


def of_process(pid: int | str = "self") -> dict[str, int]:
    """Megabytes (10^6 bytes): proportional, anonymous and private share."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = dict.fromkeys(FIELDS, 0.0)
    for line in rollup.splitlines():
        name = line.partition(":")[0]
        if name in found:
            found[name] = int(line.split()[1]) * 1024 / 1e6
    return found


def private(pid: int | str = "self") -> float:
    """Megabytes that no other process shares."""
    found = of_process(pid)
    return found["Private_Clean"] + found["Private_Dirty"]


class Peak:
    """Largest sum over a process and its descendants, looked at every ``interval`` seconds in a thread."""

    def __init__(self, pid: int, interval: float = 0.2) -> None:
        self.megabytes = dict.fromkeys(FIELDS, 0.0)
        self._pid, self._interval = pid, interval
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(self._interval):
            total = dict.fromkeys(FIELDS, 0.0)
            for pid in family(self._pid):
                with contextlib.suppress(OSError):
                    for name, value in of_process(pid).items():
                        total[name] += value
            self.megabytes = {name: max(self.megabytes[name], total[name]) for name in FIELDS}


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


class Clock:
    """Laps of a process and its descendants: seconds by the wall, and by all processors together."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []
        self._last = time.perf_counter(), processor_seconds()

    def lap(self) -> None:
        now = time.perf_counter(), processor_seconds()
        self.wall.append(now[0] - self._last[0])
        self.processor.append(now[1] - self._last[1])
        self._last = time.perf_counter(), processor_seconds()

    def laps(self) -> dict[str, list[float]]:
        return {"wall": self.wall, "processor": self.processor}


def processor_seconds() -> float:
    """Of this process, its descendants, and those that have ended."""
    ticks = 0
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError):
            # utime, stime, cutime, cstime, counted after the name, which may hold spaces
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
