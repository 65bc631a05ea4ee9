"""When the pool may forget the work of a trial."""

from __future__ import annotations

from orchestrator.rows.rows import Queue


class Forgetting:
    """Lets the pool forget an item once both its work and the thin trial that follows it are over.

    Args:
        queue: the pool.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._half_over: set[str] = set()

    def half(self, item_id: str) -> None:
        """One of the two is over."""
        if item_id in self._half_over:
            self._half_over.remove(item_id)
            self._queue.forget(item_id)
        else:
            self._half_over.add(item_id)
