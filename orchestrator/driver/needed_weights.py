"""Whose weights the studies of a storage need, as their records say at this moment.

Cells are shared by content: what is no finalist here may be one there. A study that cannot be read may need
anything. Between this decision and the deletion another study may come to need a cell all the same, such as
one that its worker has just found finished: then its own end trains the cell again, see
``orchestrator.execution.scoring``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from mmap_model.errors import InputError
from orchestrator.ledger import Ledger, Storage, StudyStore, TrialRecord
from orchestrator.rows.scoring import finalists


class UnreadableStudy(Exception):
    """Records of a study that cannot be read; the message names them."""


def needed_elsewhere(ledger: Ledger, own: str) -> set[str]:
    """Keys of cells whose weights studies other than ``own`` need.

    Raises:
        UnreadableStudy: what one of them needs cannot be told.
    """
    found: set[str] = set()
    for store in _studies(ledger.storage):
        if store.name != own:
            found |= needed_by(store, ledger)
    return found


def needed_by(store: StudyStore, ledger: Ledger, *, ended: Collection[int] = ()) -> set[str]:
    """Keys of cells whose weights a study needs.

    These are the cells of its finalists, of trials and rows that run or run again, and what is still to be
    scored: its rows, and whatever its driver has set out to score right now.

    Args:
        store: of the study.
        ledger: where its cells are scored.
        ended: numbers of its trials that do not count: its driver knows them better than its records do.

    Raises:
        UnreadableStudy: one of its records is damaged or of a later version.
    """
    try:
        study = store.load_study()
        if study is None:
            return set()
        trials = [trial for trial in store.load_trials() if trial.number not in ended]
        rows = list(store.load_rows().values())
        rows += [TrialRecord.from_dict({"number": -1, **row}) for row in store.load_baselines().values()]
        scoring = _scored_now(store)
    except (InputError, OSError, KeyError, TypeError, ValueError) as error:
        raise UnreadableStudy(f"study {store.name!r}: {error}") from error
    if store.damaged:
        raise UnreadableStudy(f"study {store.name!r}: {store.damaged[0]}")
    keeping = finalists(trials, max(1, int(study.get("finalists", 1))))
    keeping += [trial for trial in (*trials, *rows) if trial.state in ("running", "failed")]
    waiting = {*(key for row in rows for key in row.keys), *scoring}
    return {key for trial in keeping for key in trial.keys} | (waiting - ledger.tests(waiting).keys())


def _scored_now(store: StudyStore) -> list[str]:
    """Cells that the driver at work scores, or that a killed one was about to."""
    last = store.load_invocations()[-1:]
    return [key for invocation in last if invocation.outcome == "running" for key in invocation.scoring]


def _studies(storage: Storage) -> Iterator[StudyStore]:
    """What may be studies; things of other names among them cannot be one."""
    for name in storage.names("studies"):
        with contextlib.suppress(InputError):
            yield StudyStore(storage, name)
