"""Where unfinished cells go on: each from the newest state that was saved of it.

A batch saves one state after every epoch, found by the cells that it was built of, whichever of them have
failed or were left out since. The next run of the same work wants fewer of them: some failed, others were
finished. Who left tells with whom it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mmap_model.cells import KNOWN_FROM_DATASET, Cell
from orchestrator.ledger import InFlight, Ledger
from orchestrator.ledger.gather import gather

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """Cells that go on together.

    Attributes:
        cells: wanted ones, in order.
        built: all that their batch is built of: those of the state, or ``cells``.
        state: that they go on from; None: they begin.
    """

    cells: tuple[Cell, ...]
    built: tuple[Cell, ...]
    state: InFlight | None


def starts_of(
    wanted: Sequence[Cell],
    batches: Iterable[Sequence[str]],
    ledger: Ledger,
    usable: Callable[[InFlight, Sequence[Cell]], bool] = lambda state, built: True,
) -> list[Start]:
    """Return what ``wanted`` cells go on from, in as few starts as their states allow.

    A cell that has failed or was left out in a state does not go on from it. Cells without any state begin
    together.

    Args:
        wanted: unfinished, in order.
        batches: keys of cells that may have been trained together, in order; their halves are tried too.
        ledger: that keeps the states.
        usable: whether a state may be gone on from, with the cells that it was built of.
    """
    left = {cell.key: cell for cell in wanted}
    known = {part: None for batch in (list(left), *batches) for part in _halved(batch)}
    found = [state for state in gather(ledger.inflight, list(known)) if state is not None]
    starts = []
    for state in sorted(found, key=lambda s: (-s.epoch, -len(s.cells))):
        mine = [key for key in left if key in state.active]
        # What the dataset decides is no part of the key, and absent from earlier states.
        decided = {name: getattr(wanted[0], name) for name in KNOWN_FROM_DATASET}
        built = [replace(Cell.from_dict(c), **decided) for c in state.cells]
        if mine and usable(state, built):
            starts.append(Start(tuple(left.pop(key) for key in mine), tuple(built), state))
    rest = tuple(left.values())
    return [*starts, Start(rest, rest, None)] if rest else starts


def companions(key: str, record: Mapping[str, Any], family: Sequence[str]) -> list[str]:
    """Return the batch that a cell was trained in, in order, as its record of success or failure tells it.

    Empty where others than its ``family`` were in it, or nothing is told.
    """
    batch = {key, *record.get("fused_with", ())}
    return [other for other in family if other in batch] if batch <= set(family) else []


def halves(batch: Sequence[T]) -> list[Sequence[T]]:
    """Return the two batches that one becomes where memory does not hold it; a single cell stays alone."""
    middle = (len(batch) + 1) // 2
    return [part for part in (batch[:middle], batch[middle:]) if part]


def _halved(keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """``keys``, their halves, the halves of these, and so on."""
    if keys:
        yield tuple(keys)
    if len(keys) > 1:
        for half in halves(keys):
            yield from _halved(half)
