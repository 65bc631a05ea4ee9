"""Pretended training that goes wrong when it is told to; records, slots and search around it are real.

Workers import it as ``bench:make``. Beside what ``stand_in`` reads, a file of the folder ``STAND_IN`` that is
named like one of ``STRIKES`` hits the first batch of a trial that finds it, and that batch for good.
``times.log`` gets a line ``seconds what kind key epoch pid`` per cell and epoch, and per cell that finished.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stand_in import FOLDER, Engine, Run

from mmap_model.cells import Cell
from orchestrator.execution.executor import Executor

BLOCK = 64 * 2**20
"""Bytes taken at a time by what takes all memory."""


def make(dataset: dict[str, Any], backbone: dict[str, Any], storage: str, **options: Any) -> Executor:
    """The factory that slots are told of."""
    return Executor(dataset, backbone, storage, engine=FaultyEngine(dataset, backbone), **options)


class FaultyEngine(Engine):
    def start(self, cells: Sequence[Cell]) -> Run:
        return FaultyRun(cells)

    def score_test(
        self, cells: Sequence[Cell], files: Mapping[str, Mapping[str, bytes]], check: Callable[[], None]
    ) -> dict[str, dict[str, Any]]:
        """Takes the seconds that ``scores_s`` holds, if it is there."""
        if (FOLDER / "scores_s").exists():
            check()
            note("scoring", cells[0].kind, [cell.key for cell in cells], 0)
            time.sleep(float((FOLDER / "scores_s").read_text()))
        return super().score_test(cells, files, check)


class FaultyRun(Run):
    """A batch that looks for what is to happen to it while it trains."""

    def epochs(self, should_stop: Callable[[], bool]) -> Iterator[tuple[int, dict[str, dict[str, Any]]]]:
        def ask() -> bool:
            for name, strike in STRIKES.items():
                if (FOLDER / name).exists() and self._is_hit(name):
                    strike()
            return should_stop()

        for epoch, reports in super().epochs(ask):
            if (FOLDER / "nan").exists() and self._is_hit("nan"):
                victim = (FOLDER / "nan.keys").read_text().split()[1]
                if victim in reports:
                    reports[victim]["accuracy"] = float("nan")
            yield epoch, reports

    def finish(self) -> dict[str, dict[str, Any]]:
        self._note("finished", self.active)
        return super().finish()

    def _log(self) -> None:
        super()._log()
        self._note("epoch", self.active)

    def _note(self, what: str, keys: Sequence[str]) -> None:
        for key in keys:
            note(what, self._cells[key].kind, [key], self.epoch)

    def _is_hit(self, name: str) -> bool:
        """Whether this is the batch that the fault belongs to; the first of a trial to ask takes it."""
        cells = self._cells
        if any(c.kind != "train" or c.configuration.method == "zero_shot" for c in cells.values()):
            return False
        try:
            with (FOLDER / f"{name}.keys").open("x") as file:
                file.write(" ".join([f"{time.time():.3f}", *cells]))
        except FileExistsError:
            return bool(set((FOLDER / f"{name}.keys").read_text().split()[1:]) & set(cells))
        return True


def note(what: str, kind: str, keys: Sequence[str], epoch: int) -> None:
    """Lines of ``times.log``."""
    at = time.time()
    with (FOLDER / "times.log").open("a") as file:
        file.write("".join(f"{at:.3f} {what} {kind} {key} {epoch} {os.getpid()}\n" for key in keys))


def _raise() -> None:
    raise RuntimeError("the device went away")


def _hang() -> None:
    threading.Event().wait()


def _ask_for_too_much() -> None:
    bytearray(2**60)


def _take_all_memory() -> None:
    """Real memory, page by page, until somebody ends this process."""
    held = []
    while True:
        held.append(bytearray(os.urandom(4096)) * (BLOCK // 4096))
        time.sleep(0.02)


STRIKES: dict[str, Callable[[], None]] = {
    "raises": _raise,
    "hangs": _hang,
    "asks_for_too_much": _ask_for_too_much,
    "takes_all_memory": _take_all_memory,
}
