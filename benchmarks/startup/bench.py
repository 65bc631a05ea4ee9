"""The executor of a study, which writes down when a worker reaches what."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLACES = (
    "orchestrator.execution.executor:Executor",
    "orchestrator.execution.workbench:Workbench",
    "orchestrator.workbench:Workbench",
)
"""Of the executor, now and in earlier versions."""

ONCE: set[str] = set()
LOCK = threading.Lock()


def stamp(name: str) -> None:
    """Write the first time at which this process reaches ``name``."""
    with LOCK:
        if name in ONCE:
            return
        ONCE.add(name)
    with Path(os.environ["STARTUP_STAMPS"]).open("a") as file:
        file.write(json.dumps({"name": name, "at": time.time(), "pid": os.getpid()}) + "\n")


def _executor() -> Any:
    for place in PLACES:
        with contextlib.suppress(ModuleNotFoundError):
            module, _, name = place.partition(":")
            return getattr(importlib.import_module(module), name)
    raise ModuleNotFoundError(PLACES[0])


class Stamped(_executor()):  # type: ignore[misc]
    """Says when backbone and data are loaded, and when the first step of a prompt has been made."""

    def load(self) -> None:
        super().load()
        stamp("worker loaded backbone and data")
        hooks: Any = importlib.import_module("torch.optim.optimizer")
        hooks.register_optimizer_step_post_hook(lambda *_: stamp("first step"))

    def run(self, item: Any, emit: Callable[[Any], None], *control: Any) -> None:
        stamp("worker has its first item")
        super().run(item, emit, *control)


def make(dataset: dict[str, Any], backbone: dict[str, Any], storage: str, **options: Any) -> Any:
    """As ``Options.executor`` wants it."""
    stamp("worker imported the executor")
    return Stamped(dataset, backbone, storage, **options)
