"""Where a study keeps on this machine what is no part of its records: news for MLflow, Ray's files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from orchestrator.ledger.storage import Storage

RAY_FOLDER = "ray-"
"""Begins the names of Ray's folders, one for each run of a driver."""


def local_state(storage: Storage, study: str) -> Path:
    """Folder of a study: beside its records on a local storage, else in the user's cache folder."""
    if storage.exclusive:
        return Path(storage.locate(f"studies/{study}/local"))
    return local_states() / f"{study}-{storage_digest(storage)}"


def local_states() -> Path:
    """Folder of the local state of all studies whose records are elsewhere."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmap-orchestrator"


def storage_digest(storage: Storage) -> str:
    """Tells storages apart in names of folders: 12 hexadecimal digits."""
    return hashlib.sha256(storage.root.encode()).hexdigest()[:12]
