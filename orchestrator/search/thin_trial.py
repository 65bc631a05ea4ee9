"""The actor of a trial: it does no work, it follows its item in the pool and passes the epochs on.

Imports next to nothing: there is a process of it for every slot.
"""

from __future__ import annotations

from collections import deque
from typing import Any

EPOCH, OBJECTIVE = "epoch", "mean"
"""Keys of what a thin trial reports."""

PATIENCE_S = 10.0
"""Seconds of one question to the pool, which answers as soon as there is an epoch or an end."""


class ThinTrial:
    """What Ray Tune asks of the actor of a trial, as of a ``ray.tune.Trainable``.

    Each epoch is reported with the replicate mean. The last one is held back until the item is done, so that
    a trial which reached it has all its cells committed. What else can end it (``failed``, ``cancelled``,
    ``lost``, ``stopped``) is reported as a state without a mean: raising would cost the actor.

    Args:
        pool: the pool actor.
        config: of the first trial: ``item``, the item of the pool to follow, and ``epochs``, those that it
            trains.
    """

    def __init__(self, pool: Any, config: dict[str, Any]) -> None:
        self._pool = pool
        self.reset(config)

    def reset(self, config: dict[str, Any]) -> bool:
        """Follow another trial from here on; always possible."""
        self._item, self._epochs = config["item"], config["epochs"]
        self._told, self._reports = 0, 0
        self._untold: deque[dict[str, Any]] = deque()
        self._last: dict[str, Any] = {}
        return True

    def train(self) -> dict[str, Any]:
        """The next report: waits for an epoch, or for the end, which comes with ``done``."""
        import ray

        while not self._untold:
            self._take(ray.get(self._pool.follow.remote(self._item, self._told, PATIENCE_S)))
        self._reports += 1
        return {"done": False, "training_iteration": self._reports, **self._untold.popleft()}

    def stop(self) -> None:
        """Nothing is held."""

    def get_auto_filled_metrics(self, debug_metrics_only: bool = False) -> dict[str, Any]:
        """Nothing that Tune would add to a trial without a report."""
        return {}

    def _take(self, news: dict[str, Any]) -> None:
        for epoch, mean in news["epochs"]:
            self._told = epoch
            if epoch >= self._epochs:
                self._last = {OBJECTIVE: mean}
            else:
                self._untold.append({EPOCH: epoch, OBJECTIVE: mean, "state": "running"})
        if news["end"] is not None:
            self._untold.append(
                {EPOCH: self._told, "state": news["end"]["state"], "done": True, **self._last}
            )
