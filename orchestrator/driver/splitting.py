"""Into how many parts a trial is split over slots, so that the tail of a study leaves few slots idle.

The replicates of a trial train fastest together, as one batch, so that a trial goes to one slot while others
wait for work. Towards the end slots run out of trials one by one.
"""

from __future__ import annotations

EXPECTED = 0.5
"""Share of the slots that counts as free for the last trials: they become free while those are in work.
Counting all of them would shorten the tail further where a cell alone takes its share of the batch's time,
and lengthen it where a cell takes nearly as long as the batch; half of them gains much and loses little."""


def parts(*, slots: int, coming: int, in_work: int, cells: int) -> int:
    """Parts of a trial that is about to be queued.

    Args:
        slots: there are.
        coming: trials to be queued still, this one with them.
        in_work: slots that those queued before take.
        cells: of a trial, at least 1.

    Returns:
        At least 1, at most ``cells``.
    """
    free = max(slots - in_work, int(EXPECTED * slots))
    return max(1, min(free // coming, cells))
