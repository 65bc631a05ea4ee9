"""The Tune trial: it does no work, it follows its item in the pool and passes the epochs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.search.stopping import EPOCH, OBJECTIVE

PATIENCE_S = 10.0
"""Seconds of one question to the pool, which answers as soon as there is an epoch or an end."""


def thin_trial(pool: Any) -> Callable[[dict[str, Any]], None]:
    """The trial function of a study.

    Each epoch is reported with the replicate mean. The last one is held back until the item is done, so that
    a trial which reached it has all its cells committed. What else can end it (``failed``, ``cancelled``,
    ``lost``, ``stopped``) is reported as a state without a mean: raising would cost the actor.

    Args:
        pool: the pool actor.
    """

    def follow(config: dict[str, Any]) -> None:
        import ray
        from ray import tune

        told, held = 0, None
        while True:
            news = ray.get(pool.follow.remote(config["item"], told, PATIENCE_S))
            for epoch, mean in news["epochs"]:
                told = epoch
                if epoch >= config["epochs"]:
                    held = mean
                else:
                    tune.report({EPOCH: epoch, OBJECTIVE: mean, "state": "running"})
            end = news["end"]
            if end is not None:
                result = {EPOCH: told, "state": end["state"]}
                tune.report(result if held is None else {**result, OBJECTIVE: held})
                return

    return follow
