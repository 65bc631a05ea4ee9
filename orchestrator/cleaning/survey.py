"""What lies in a storage and on this machine, and what of it may go. Changes nothing.

A cell is referred to if its key stands anywhere in a study's records. While somebody drives a study in this
storage, nothing goes that a driver could be about to use: unreferenced cells, unfinished writes, states.
Files that are no records, such as notes among the studies, are left alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmap_model.data.dataset import default_cache_dir
from orchestrator.ledger import CorruptError, Storage, StudyStore
from orchestrator.ledger.cells import COPY, FAILURE, RECORD
from orchestrator.ledger.documents import decode, decode_state
from orchestrator.ledger.gather import gather
from orchestrator.ledger.holding import look
from orchestrator.ledger.storage import Entry
from orchestrator.ledger.watch import held

CATEGORIES = {
    "cells": "finished cells that no study refers to",
    "partial": "cells whose training was cut off while it was written down",
    "states": "in-flight states that nothing will go on from",
    "claims": "claims that nobody holds any more",
    "leftovers": "unfinished writes of dead processes",
    "local": "Ray's files of drivers that were killed",
    "quarantine": "damaged records that were moved aside",
    "studies": "studies that were named",
    "caches": "what this machine derived and can derive again",
}

SETTLED = 3600.0
"""Seconds after which an unfinished write is nobody's any more, wherever its writer was."""

_KEY = re.compile(rb"\b[0-9a-f]{32}\b")
_TEMPORARY = re.compile(r"\..+\.(?:(\d+)\.[0-9a-f]{8}|[0-9a-f]{12})")
_PROBE = re.compile(r"\.writable-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that may go.

    Attributes:
        category: of ``CATEGORIES``.
        path: below the root; that of a cache is absolute.
        size: bytes.
        reason: why it may go.
    """

    category: str
    path: str
    size: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """A study as its records show it: ``cells`` it refers to, ``size`` of its own records in bytes."""

    name: str
    trials: int
    cells: int
    size: int
    driven: bool


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found.

    Attributes:
        studies: by name.
        kept: number and bytes by kind of what stays: cells, failed, states, claims, caches.
        items: what may go.
        driven: names of studies that somebody drives now.
    """

    studies: list[StudyInfo]
    kept: dict[str, tuple[int, int]]
    items: list[Item]
    driven: list[str]


def survey(
    storage: Storage,
    *,
    studies: Sequence[str] = (),
    caches: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Survey:
    """Look at everything below a storage's root.

    Takes up to half a minute where only watching tells whether the holder of a lease still runs.

    Args:
        storage: of the records.
        studies: names of studies that are to go.
        caches: this machine's caches are to go too.
        tell: told, in words, what is waited for.
    """
    now = time.time()
    entries = sorted(storage.everything(), key=lambda entry: entry.path)
    files = {entry.path for entry in entries}
    names = [name for name in storage.names("studies") if f"studies/{name}" not in files]
    claims = {"/".join(e.path.split("/")[:2]) for e in entries if e.path.startswith("claims/")}
    busy = held(storage, {*claims, *(_lease(name) for name in names)}, tell=tell)
    driven = [name for name in names if _lease(name) in busy]
    leaving = [name for name in studies if name in names and name not in driven]
    staying = [name for name in names if name not in leaving]
    own: dict[str, list[Entry]] = {name: [] for name in names}
    for entry in entries:
        parts = entry.path.split("/")
        if parts[0] == "studies" and len(parts) > 2 and parts[1] in own:
            own[parts[1]].append(entry)
    referred = {name: _references(storage, own[name]) for name in staying}
    every = set().union(*referred.values())
    cells = {entry.path.split("/")[1] for entry in entries if entry.path.startswith("cells/")}
    items: list[Item] = []
    kept: dict[str, tuple[int, int]] = {}
    _sort_cells(storage, entries, every, staying, bool(driven), now, items, kept)
    _sort_states(storage, entries, set(driven), staying, items, kept)
    _sort_claims(storage, entries, busy, items, kept)
    _sort_rest(entries, set(driven), leaving, now, items)
    _sort_caches(caches and not driven, items, kept)
    return Survey(
        studies=[_info(name, own[name], cells & referred.get(name, set()), name in driven) for name in names],
        kept=kept,
        items=items,
        driven=driven,
    )


def _references(storage: Storage, entries: Iterable[Entry]) -> set[str]:
    """Every key that stands in a record of a study with these files."""
    paths = [entry.path for entry in entries if entry.path.split("/")[2] != "local"]
    texts = gather(lambda path: _KEY.findall(storage.read(path) or b""), paths)
    return {key.decode() for keys in texts for key in keys}


def _sort_cells(
    storage: Storage,
    entries: Iterable[Entry],
    referred: set[str],
    studies: Sequence[str],
    driven: bool,
    now: float,
    items: list[Item],
    kept: dict[str, tuple[int, int]],
) -> None:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.path.startswith("cells/") and not _is_temporary(entry.path):
            groups.setdefault(entry.path.split("/")[1], []).append(entry)
    finished = {key for key, files in groups.items() if f"cells/{key}/{RECORD}" in {e.path for e in files}}
    doubtful = [] if driven else [key for key in groups if key in finished and key not in referred]
    reasons = gather(lambda key: _why_unreferred(storage, key, studies), doubtful)
    why = dict(zip(doubtful, reasons, strict=True))
    for key, files in groups.items():
        names, size = {entry.path.split("/")[-1] for entry in files}, sum(entry.size for entry in files)
        path = f"cells/{key}"
        if key in finished:
            if reason := why.get(key, ""):
                items.append(Item(category="cells", path=path, size=size, reason=reason))
            else:
                _count(kept, "cells", size)
        elif FAILURE in names:
            _count(kept, "failed", size)
        elif not driven and now - max(entry.modified for entry in files) > SETTLED:
            items.append(Item(category="partial", path=path, size=size, reason="it has no record"))


def _why_unreferred(storage: Storage, key: str, studies: Sequence[str]) -> str:
    """Empty if the cell is needed after all: a probe is shared by studies that do not name it."""
    record = _record(storage, key)
    if record is None:
        return "its record is damaged"
    if record["cell"]["kind"] == "probe" and studies:
        return ""
    origin = record.get("study")
    return f"trained for study {origin!r}, which refers to it no more" if origin else "trained for no study"


def _record(storage: Storage, key: str) -> dict[str, Any] | None:
    """The record of a finished cell; unlike the ledger this leaves a damaged one where it is."""
    for name in (RECORD, COPY):
        data = storage.read(f"cells/{key}/{name}")
        if data is None:
            return None
        try:
            return decode(data)
        except CorruptError:
            continue
    return None


def _sort_states(
    storage: Storage,
    entries: Iterable[Entry],
    driven: set[str],
    studies: Sequence[str],
    items: list[Item],
    kept: dict[str, tuple[int, int]],
) -> None:
    states = [e for e in entries if e.path.startswith("inflight/") and not _is_temporary(e.path)]
    reasons = gather(lambda entry: _why_no_state(storage, entry.path, driven, studies), states)
    for entry, reason in zip(states, reasons, strict=True):
        if reason:
            items.append(Item(category="states", path=entry.path, size=entry.size, reason=reason))
        else:
            _count(kept, "states", entry.size)


def _why_no_state(storage: Storage, path: str, driven: set[str], studies: Sequence[str]) -> str:
    data = storage.read(path)
    if data is None:
        return ""
    try:
        header, _ = decode_state(data)
    except CorruptError:
        return "it is damaged"
    study, trial = header["about"].get("study"), header["about"].get("trial")
    if study in driven:
        return ""
    if all(_record(storage, key) is not None for key in header["active"]):
        return "its cells are finished"
    if study not in studies:
        return f"its study {study!r} is not here" if study else "of no study"
    record = StudyStore(storage, study).load_trial(trial) if isinstance(trial, int) else None
    if record is not None and record.state in ("complete", "pruned"):
        return f"trial {trial} of {study} is {record.state}; another study could go on from it"
    return ""


def _sort_claims(
    storage: Storage,
    entries: Iterable[Entry],
    busy: Collection[str],
    items: list[Item],
    kept: dict[str, tuple[int, int]],
) -> None:
    sizes: dict[str, int] = {}
    for entry in entries:
        if entry.path.startswith("claims/"):
            folder = "/".join(entry.path.split("/")[:2])
            sizes[folder] = sizes.get(folder, 0) + entry.size
    for folder, size in sizes.items():
        if folder in busy:
            _count(kept, "claims", size)
            continue
        seen = look(storage, folder)
        if seen is None or (seen.holding is not None and seen.holding.released):
            reason = "released"
        elif seen.is_free:
            reason = f"{seen.who} is dead"
        else:
            reason = f"{seen.who} was not heard of while it was watched"
        items.append(Item(category="claims", path=folder, size=size, reason=reason))


def _sort_rest(
    entries: Iterable[Entry], driven: set[str], leaving: Sequence[str], now: float, items: list[Item]
) -> None:
    folders: dict[tuple[str, str], int] = {}
    for entry in entries:
        parts = entry.path.split("/")
        if parts[0] == "studies" and len(parts) > 2 and parts[1] in leaving:
            key = ("studies", f"studies/{parts[1]}")
        elif parts[0] == "studies" and parts[2:3] == ["local"] and parts[3:4] and parts[3].startswith("ray-"):
            if parts[1] in driven:
                continue
            key = ("local", "/".join(parts[:4]))
        elif parts[0] == "quarantine":
            key = ("quarantine", "/".join(parts[:2]))
        elif _is_temporary(entry.path) and _is_abandoned(entry, bool(driven), now):
            key = ("leftovers", entry.path)
        else:
            continue
        folders[key] = folders.get(key, 0) + entry.size
    reasons = {"studies": "you named it", "local": "its driver is gone"}
    for (category, path), size in folders.items():
        reason = reasons.get(category, CATEGORIES[category])
        items.append(Item(category=category, path=path, size=size, reason=reason))


def _sort_caches(wanted: bool, items: list[Item], kept: dict[str, tuple[int, int]]) -> None:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in (default_cache_dir(), base / "mmap_model"):
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        size = sum(path.stat().st_size for path in files)
        if files and wanted:
            items.append(Item(category="caches", path=str(folder), size=size, reason=CATEGORIES["caches"]))
        elif files:
            _count(kept, "caches", size, len(files))


def _info(name: str, entries: Sequence[Entry], cells: set[str], driven: bool) -> StudyInfo:
    trials = re.compile(rf"studies/{re.escape(name)}/trials/\d+\.json")
    return StudyInfo(
        name=name,
        trials=sum(trials.fullmatch(entry.path) is not None for entry in entries),
        cells=len(cells),
        size=sum(entry.size for entry in entries),
        driven=driven,
    )


def is_driven(storage: Storage, name: str, *, tell: Callable[[str], None] = lambda text: None) -> bool:
    """Whether somebody drives a study; takes up to half a minute where only watching tells."""
    return bool(held(storage, [_lease(name)], tell=tell))


def _lease(name: str) -> str:
    return f"studies/{name}/driver"


def _is_temporary(path: str) -> bool:
    name = path.rpartition("/")[2]
    patterns = (_TEMPORARY, _PROBE)
    return path.startswith(".check/") or any(pattern.fullmatch(name) for pattern in patterns)


def _is_abandoned(entry: Entry, driven: bool, now: float) -> bool:
    if driven:
        return False  # how old it is would be a comparison of two clocks
    if now - entry.modified > SETTLED:
        return True
    found = _TEMPORARY.fullmatch(entry.path.rpartition("/")[2])
    if found is None or found[1] is None:
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _count(kept: dict[str, tuple[int, int]], kind: str, size: int, number: int = 1) -> None:
    count, total = kept.get(kind, (0, 0))
    kept[kind] = (count + number, total + size)
