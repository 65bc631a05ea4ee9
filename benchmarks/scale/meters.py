"""What a process spends: processor time as a whole and by part, and memory."""

from __future__ import annotations

import functools
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Meters:
    """Processor seconds and calls of functions by name, each on the thread that calls it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count the time that ``owner.method`` takes under ``name``; a generator is read to its end."""
        original: Callable[..., Any] = getattr(owner, method)

        @functools.wraps(original)
        def measured(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            started = time.thread_time()
            try:
                found = original(*arguments, **options)
                return list(found) if hasattr(found, "__next__") else found
            finally:
                self.seconds[name] += time.thread_time() - started

        setattr(owner, method, measured)

    def now(self) -> dict[str, float]:
        """``{wall, cpu, rss_mib, <parts>}``: seconds and MiB of this process."""
        return {"wall": time.monotonic(), "cpu": time.process_time(), "rss_mib": rss_mib(), **self.seconds}


def rss_mib(pid: int | None = None) -> float:
    """Resident memory of a process; that of this one by default."""
    with open(f"/proc/{pid or os.getpid()}/statm") as stream:  # noqa: PTH123 - no time to lose
        return int(stream.read().split()[1]) * resource.getpagesize() / 2**20


def spent(samples: list[dict[str, float]], first: int, last: int) -> dict[str, float]:
    """Per trial between two numbers of ended trials: milliseconds by part, kilobytes of memory."""
    before, after = samples[first], samples[last]
    count = last - first
    found = {
        name: round(1000 * (after[name] - before.get(name, 0.0)) / count, 3)
        for name in after
        if name != "rss_mib"
    }
    found["memory_kb"] = round((after["rss_mib"] - before["rss_mib"]) * 1024 / count, 2)
    return found
