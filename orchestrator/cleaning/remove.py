"""Removing what a survey found."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from orchestrator.cleaning.item import Removable
from orchestrator.ledger import Storage
from orchestrator.ledger.cell_records import RECORD
from orchestrator.ledger.gather import gather


def remove(storage: Storage, items: Iterable[Removable], confirmed: Collection[str]) -> list[Removable]:
    """Remove items.

    Args:
        storage: that they lie in.
        items: of a survey made just now.
        confirmed: paths that the user agreed to; what has appeared since stays.

    Returns:
        What was removed.
    """
    gone = [item for item in items if item.path in confirmed]
    gather(lambda item: _remove(storage, item), gone)
    return gone


def _remove(storage: Storage, item: Removable) -> None:
    if Path(item.path).is_absolute():
        shutil.rmtree(Path(item.path), ignore_errors=True)
        return
    if item.category == "cells":  # first what makes it count as finished
        storage.delete(f"{item.path}/{RECORD}")
    storage.delete(item.path)
