"""Studies of multi-task tuning methods for CLIP: search, training on a cluster, ranking and what comes of it.

In Python and in notebooks::

    import orchestrator as mo

    study = mo.load_study("demo", "search.trials=20")
    found = mo.run(study)                      # or, of a study that was run: mo.open("demo")
    found.ranking()                            # a pandas.DataFrame
    found.predictions(found.best.cells[0])

Importing this imports nothing heavy: what the names below need is imported at their first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.face.opened import OpenStudy, open
    from orchestrator.face.running import StudyFailed, load_study, run
    from orchestrator.study.model import Study

__all__ = ["OpenStudy", "Study", "StudyFailed", "load_study", "open", "run"]

_HOMES = {
    "OpenStudy": "orchestrator.face.opened",
    "Study": "orchestrator.study.model",
    "StudyFailed": "orchestrator.face.running",
    "load_study": "orchestrator.face.running",
    "open": "orchestrator.face.opened",
    "run": "orchestrator.face.running",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
