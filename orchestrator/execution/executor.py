"""One process that does work items: a slot's worker, or the command line itself. No Ray in it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmap_model import references
from orchestrator.execution.engine import Engine, ModelEngine
from orchestrator.execution.item_run import ItemRun
from orchestrator.ledger import Ledger
from orchestrator.ledger.patient import PatientStorage
from orchestrator.ledger.storage import open_storage
from orchestrator.work.doing import Doing
from orchestrator.work.events import Emit, WorkEvent
from orchestrator.work.inputs import Inputs, require_same
from orchestrator.work.item import Control, WorkItem


class Executor:
    """Backbone and data, loaded once, and the ledger that takes the results.

    Args:
        dataset, backbone: ``DatasetSpec`` and ``BackboneSpec`` as dictionaries.
        storage: root of the ledger.
        device: a torch device.
        precision: of the cells: ``fp64`` loads the backbone in double precision.
        threads: of torch on the CPU; None leaves them as they are.
        cache_dir: where prepared data is kept.
        compute: ``Execution`` as a dictionary.
        gpu_share: of the GPU's memory that this process may take.
        sources: files that loading the data needs, text by location: those of an own layout of images.
        engine: in place of the real one, for tests.
    """

    def __init__(
        self,
        dataset: dict[str, Any],
        backbone: dict[str, Any],
        storage: str,
        *,
        device: str = "cpu",
        precision: str = "fp32",
        threads: int | None = None,
        cache_dir: str | Path | None = None,
        compute: dict[str, Any] | None = None,
        gpu_share: float = 1.0,
        sources: Mapping[str, str] | None = None,
        engine: Engine | None = None,
    ) -> None:
        _provide(sources or {})
        self._storage = PatientStorage(open_storage(storage), self._waits)
        self.ledger = Ledger(self._storage)
        self.engine = engine or ModelEngine(
            dataset,
            backbone,
            device=device,
            precision=precision,
            threads=threads,
            cache_dir=cache_dir,
            compute=compute,
            gpu_share=gpu_share,
        )
        self._job: ItemRun | None = None

    def load(self) -> None:
        """Load backbone and data now rather than with the first item that trains."""
        self.engine.load()

    def memory(self) -> dict[str, int] | None:
        """Bytes of the GPU that this process had at most (``peak``) and that there are (``total``).

        The peak is what torch had reserved and the allowance ``CONTEXT``; None on a CPU.
        """
        if not self.engine.device.startswith("cuda"):
            return None
        import torch

        from mmap_model.training.memory import CONTEXT

        peak = torch.cuda.max_memory_reserved(self.engine.device) + CONTEXT
        return {"peak": peak, "total": torch.cuda.mem_get_info(self.engine.device)[1]}

    def doing(self) -> Doing | None:
        """What it does at this moment; None between two items. Called from other threads."""
        if (loads := self.engine.loads) is not None:
            return Doing(stage=loads)
        job = self._job
        return None if job is None or job.over else job.doing

    def run(self, item: WorkItem, emit: Emit, control: Callable[[], Control] = Control) -> None:
        """Do one item. Everything that happens is told through ``emit``; the last event is ``Done``.

        Args:
            item: what to do.
            emit: takes them: ``orchestrator.work.events.WorkEvent``.
            control: asked before every step whether to go on; must answer at once.

        Raises:
            OtherInputs: the data or the weights here are not those of the item's study. Nothing was done and
                nothing told: the item is for another process.
        """
        _provide(item.sources)
        self._require_inputs(item)
        self._job = ItemRun(self.engine, self.ledger, item, emit, control)
        self._job.run()

    def _require_inputs(self, item: WorkItem) -> None:
        if item.inputs:
            require_same(
                Inputs.from_dict(item.inputs),
                self.engine.inputs,
                opening=f"node {platform.node()} has other {{what}} than study {item.study!r} was begun with",
                fix="copy those {what} to this node, or leave it out; they may also have been replaced while "
                "the study ran",
            )

    def _waits(self, reason: str) -> None:
        if self._job is not None:
            self._job.waits(reason)

    def give_up(self, error: str, traceback: str) -> list[WorkEvent]:
        """Record the cells in training as failed because they hang; the events that say so.

        Called from another thread while ``run`` makes no progress; the process must end afterwards.
        """
        return [] if self._job is None else self._job.give_up(error, traceback)


def _provide(sources: Mapping[str, str]) -> None:
    for location, text in sources.items():
        references.provide(location, text)
