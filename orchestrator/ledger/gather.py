"""Many small calls on a storage, made side by side where it is slow enough for that to pay."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TypeVar

AT_ONCE = 32
"""Calls under way at the same time: network file systems and object stores answer many at once."""

LAST = 3
"""Calls in a row whose median says how fast the storage answers."""

SLOW_S = 1e-3
"""Seconds of one call from which on waiting for it dominates. On a local disk a call takes a tenth of that,
and threads would only get in each other's way: 5,000 records took three times as long with them."""

S = TypeVar("S")
T = TypeVar("T")


def gather(call: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """``call`` of every item, in order: one after the other, as soon as that is slow the rest side by side.

    What a storage is says little about its speed: a local path may lie on a network file system, and what was
    read lately may be cached. So it is measured all the time.
    """
    left = deque(items)
    found: list[T] = []
    seconds: deque[float] = deque(maxlen=LAST)
    while left and (len(seconds) < LAST or median(seconds) < SLOW_S):
        started = time.perf_counter()
        found.append(call(left.popleft()))
        seconds.append(time.perf_counter() - started)
    if left:
        with ThreadPoolExecutor(min(AT_ONCE, len(left)), thread_name_prefix="storage") as pool:
            found += pool.map(call, left)
    return found
