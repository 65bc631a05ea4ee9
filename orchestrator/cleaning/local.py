"""What is on this machine outside of the storage: caches, and local files of studies kept on buckets."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from mmap_model.data.dataset import default_cache_dir
from orchestrator.cleaning.item import Findings
from orchestrator.ledger import Storage
from orchestrator.ledger.local_state import RAY_FOLDER, local_states, storage_digest


def sort_caches(wanted: bool, findings: Findings) -> None:
    """Caches may go if they are ``wanted`` to."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in (default_cache_dir(), base / "mmap_model"):
        count, size = _measure(folder)
        if count and wanted:
            findings.add("caches", str(folder), size)
        elif count:
            findings.keep("caches", size, count)


def sort_local_states(
    storage: Storage, staying: Collection[str], running: Collection[str], findings: Findings
) -> None:
    """Local state of studies whose records are no local files.

    Of a study that is gone everything may go, of one that stays what Ray left of a killed driver; what is to
    be told to MLflow stays, and so does whatever belongs to another storage.
    """
    place = "" if storage.exclusive else storage_digest(storage)
    for folder in _folders(local_states()):
        name, _, where = folder.name.rpartition("-")
        gone: list[Path] = []
        if where == place and name not in running:
            gone = [path for path in _folders(folder) if path.name.startswith(RAY_FOLDER)]
            gone = gone if name in staying else [folder]
        for path in gone:
            reason = "its driver is gone" if name in staying else "its study is gone"
            findings.add("local", str(path), _measure(path)[1], reason)
        count, size = _measure(folder)
        removed = [_measure(path) for path in gone]
        if count := count - sum(number for number, _ in removed):
            findings.keep("local", size - sum(bytes_ for _, bytes_ in removed), count)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _measure(folder: Path) -> tuple[int, int]:
    """Number and bytes of the files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return len(files), sum(path.stat().st_size for path in files)
