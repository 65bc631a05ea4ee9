"""Cancelling a trial from another process: a marker among the study's records, which its driver looks for.

A marker carries the fence of the driver that it is meant for: an earlier one that goes on late must not take
it away. The next driver makes those of an earlier one its own (``StudyStore.take_over``).
"""

from __future__ import annotations

from collections.abc import Iterable

from mmap_model.errors import InputError
from orchestrator.ledger import StudyStore

LOOK_EVERY_S = 1.0
"""Seconds between looks at a local store; an object store is asked five times less often."""


def request_cancel(store: StudyStore, number: int) -> None:
    """Ask the driver of a study to stop a trial.

    Raises:
        InputError: there is no such trial, or it does not run.
    """
    record = store.load_trial(number)
    if record is None:
        known = store.trial_numbers()
        raise InputError(
            f"study {store.name!r} has no trial {number}",
            where="TRIAL",
            fix=f"use {known[0]} to {known[-1]}" if known else "it has not started any trial yet",
        )
    if record.state != "running":
        raise InputError(
            f"trial {number} is {record.state}", where="TRIAL", fix="only a running trial can be cancelled"
        )
    store.storage.write(f"{_folder(store)}/{number}.{store.driver_fence()}", b"")


def requested(store: StudyStore) -> dict[int, list[str]]:
    """Markers by the number of the trial that somebody wants cancelled; later drivers' are left out."""
    found: dict[int, list[str]] = {}
    for name in store.storage.names(_folder(store)):
        number, _, fence = name.partition(".")
        if number.isdecimal() and int(fence or 0) <= store.fence:
            found.setdefault(int(number), []).append(name)
    return found


def clear(store: StudyStore, markers: Iterable[str]) -> None:
    """Take markers away."""
    for name in markers:
        store.storage.delete(f"{_folder(store)}/{name}")


def interval(store: StudyStore) -> float:
    """Seconds between looks."""
    return LOOK_EVERY_S if store.storage.exclusive else 5 * LOOK_EVERY_S


def _folder(store: StudyStore) -> str:
    return f"studies/{store.name}/cancel"
