"""Results made by other threads while the caller uses earlier ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, reach: int
) -> Iterator[Result]:
    """``work`` of each item, in order; what it raises is raised at its item.

    Args:
        work: called by other threads.
        items: taken as they are needed.
        threads: that work at the same time.
        reach: results that may be under way or ready beside the one that is yielded.
    """
    with ThreadPoolExecutor(max_workers=threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > reach:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
