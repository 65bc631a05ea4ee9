"""The real executor, which also writes down every epoch that it trains: ``logged:make`` for slots."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmap_model.cells import Cell
from orchestrator.execution.engine import BatchRun, EngineReport, ModelEngine
from orchestrator.execution.executor import Executor

LOG = "TRAINED_EPOCHS_LOG"


def make(dataset: dict[str, Any], backbone: dict[str, Any], storage: str, **options: Any) -> Executor:
    engine = LoggedEngine(
        dataset,
        backbone,
        device=options["device"],
        precision=options["precision"],
        threads=options["threads"],
        cache_dir=options.get("cache_dir"),
    )
    return Executor(dataset, backbone, storage, **options, engine=engine)


class LoggedEngine(ModelEngine):
    """Appends a line ``key epoch`` per cell and epoch to the file that ``TRAINED_EPOCHS_LOG`` names."""

    def start(self, cells: Sequence[Cell]) -> BatchRun:
        run: Any = super().start(cells)
        epochs = run.epochs

        def logged(should_stop: Callable[[], bool]) -> Iterator[EngineReport]:
            for epoch, reports in epochs(should_stop):
                with Path(os.environ[LOG]).open("a") as file:
                    file.write("".join(f"{key} {epoch}\n" for key in reports))
                yield epoch, reports

        run.epochs = logged
        return run  # type: ignore[no-any-return]
