"""What lies in a storage and on this machine, and what of it may go. Changes nothing.

A cell is referred to if its key stands anywhere in a study's records. While a driver runs a study in this
storage, nothing goes that a driver could be about to use: unreferenced cells and files, unfinished writes,
states. Where a record of a study cannot be read no finished cell goes: it may refer to any.
Files that are no records, such as notes among the studies, are left alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.cleaning.cells import Needs, read_record, sort_cells
from orchestrator.cleaning.item import SETTLED, Findings, Removable, is_temporary, writer_of
from orchestrator.cleaning.local import sort_caches, sort_local_states
from orchestrator.ledger import CorruptError, Storage, StudyStore
from orchestrator.ledger.documents import NewerFormatError, decode, decode_state
from orchestrator.ledger.fences import resolve
from orchestrator.ledger.gather import gather
from orchestrator.ledger.holding import observe
from orchestrator.ledger.local_state import RAY_FOLDER
from orchestrator.ledger.storage import StorageEntry
from orchestrator.ledger.study_store import FENCED
from orchestrator.ledger.watch import held

_KEY = re.compile(rb"\b[0-9a-f]{32}\b")
_ASIDE = re.compile(r"quarantine/studies-.+-(?:trials-|rows-|baselines[.-]).*")


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """A study as its records show it: ``cells`` it refers to, ``size`` of its own records in bytes."""

    name: str
    trials: int
    cells: int
    size: int
    running: bool


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found.

    Attributes:
        studies: by name.
        kept: number and bytes by kind of what stays: cells, failed, states, claims, caches.
        items: what may go.
        running: names of studies that a driver runs now.
        unreadable: records of studies that cannot be read. While there are any, no finished cell may go.
    """

    studies: list[StudyInfo]
    kept: dict[str, tuple[int, int]]
    items: list[Removable]
    running: list[str]
    unreadable: list[str]


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
        caches: this machine's caches can be removed too.
        tell: told, in words, what is waited for.
    """
    now = time.time()
    entries = sorted(storage.everything(), key=lambda entry: entry.path)
    files = {entry.path for entry in entries}
    names = [name for name in storage.names("studies") if f"studies/{name}" not in files]
    claims = {"/".join(e.path.split("/")[:2]) for e in entries if e.path.startswith("claims/")}
    busy = held(storage, {*claims, *(_lease(name) for name in names)}, tell=tell)
    running = [name for name in names if _lease(name) in busy]
    leaving = [name for name in studies if name in names and name not in running]
    staying = [name for name in names if name not in leaving]
    own: dict[str, list[StorageEntry]] = {name: [] for name in names}
    for entry in entries:
        parts = entry.path.split("/")
        if parts[0] == "studies" and len(parts) > 2 and parts[1] in own:
            own[parts[1]].append(entry)
    read = {name: _references(storage, own[name]) for name in staying}
    referred = {name: keys for name, (keys, _) in read.items()}
    unreadable = [storage.locate(path) for _, paths in read.values() for path in paths]
    unreadable += [storage.locate(path) for path in _moved_aside(entries)]
    needs = Needs(
        referred=set().union(*referred.values()),
        complete=not unreadable,
        studies=staying,
        running=bool(running),
        claimed=any(folder in busy for folder in claims),
    )
    cells = {entry.path.split("/")[1] for entry in entries if entry.path.startswith("cells/")}
    findings = Findings()
    sort_cells(storage, entries, needs, now, findings)
    _sort_states(storage, entries, set(running), staying, findings)
    _sort_claims(storage, entries, busy, findings)
    for name in staying:
        if name not in running:
            _sort_late(storage, name, own[name], findings)
    _sort_rest(entries, set(running), leaving, now, findings)
    sort_local_states(storage, staying, running, findings)
    sort_caches(caches and not running, findings)
    return Survey(
        studies=[
            _info(name, own[name], cells & referred.get(name, set()), name in running) for name in names
        ],
        kept=findings.kept,
        items=findings.items,
        running=running,
        unreadable=unreadable,
    )


def _references(storage: Storage, entries: Iterable[StorageEntry]) -> tuple[set[str], list[str]]:
    """Every key that stands in a record of a study with these files, and which of them cannot be read."""

    def look_into(entry: StorageEntry) -> tuple[list[bytes], bool]:
        data = storage.read(entry.path) or b""
        return _KEY.findall(data), not _refers(entry.path) or _is_whole(data)

    own = [entry for entry in entries if entry.path.split("/")[2] != "local"]
    found = gather(look_into, own)
    keys = {key.decode() for keys, _ in found for key in keys}
    return keys, [entry.path for entry, (_, whole) in zip(own, found, strict=True) if not whole]


def _refers(path: str) -> bool:
    """Whether a study's record names the cells of its rows."""
    folder = path.split("/")[2]
    return (
        folder in ("trials", "rows", "baselines", "baselines.json")
        and path.endswith(".json")
        and not is_temporary(path)
    )


def _moved_aside(entries: Iterable[StorageEntry]) -> list[str]:
    """Records of rows that were moved aside: what they referred to is not known either."""
    return [entry.path for entry in entries if _ASIDE.fullmatch(entry.path)]


def _is_whole(data: bytes) -> bool:
    try:
        decode(data)
    except CorruptError:
        return False
    return True


def _sort_states(
    storage: Storage,
    entries: Iterable[StorageEntry],
    running: set[str],
    studies: Sequence[str],
    findings: Findings,
) -> None:
    states = [e for e in entries if e.path.startswith("inflight/") and not is_temporary(e.path)]
    trials = {
        name: {trial.number: trial.state for trial in StudyStore(storage, name).load_trials()}
        for name in (studies if states else ())
    }
    reasons = gather(lambda entry: _why_no_state(storage, entry.path, running, trials), states)
    for entry, reason in zip(states, reasons, strict=True):
        if reason:
            findings.add("states", entry.path, entry.size, reason)
        else:
            findings.keep("states", entry.size)


def _why_no_state(
    storage: Storage, path: str, running: set[str], trials: Mapping[str, Mapping[int, str]]
) -> str:
    data = storage.read(path)
    if data is None:
        return ""
    try:
        header, _ = decode_state(data)
        done = all(read_record(storage, key) is not None for key in header["active"])
    except NewerFormatError:
        return ""
    except CorruptError:
        return "it is damaged"
    study, trial = header["about"].get("study"), header["about"].get("trial")
    if study in running:
        return ""
    if done:
        return "its cells are finished"
    if study not in trials:
        return f"its study {study!r} is not here" if study else "of no study"
    state = trials[study].get(trial)
    if state in ("complete", "pruned"):
        return f"trial {trial} of {study} is {state}; another study could go on from it"
    return ""


def _sort_late(storage: Storage, study: str, entries: Iterable[StorageEntry], findings: Findings) -> None:
    """Records of drivers that were stopped and wrote when another had taken over, and replaced ones."""
    opening = StudyStore(storage, study).opening()
    folders: dict[str, dict[str, StorageEntry]] = {}
    for entry in entries:
        folder, _, file = entry.path.removeprefix(f"studies/{study}/").partition("/")
        if folder in FENCED and not is_temporary(entry.path):
            folders.setdefault(folder, {})[file] = entry
    for folder, files in folders.items():
        resolved = resolve(folder, files, opening)
        reasons = dict.fromkeys(resolved.superseded, "a later driver has replaced it")
        reasons |= dict.fromkeys(resolved.late, "written when a later driver had taken the study over")
        for file, reason in reasons.items():
            findings.add("late", files[file].path, files[file].size, reason)


def _sort_claims(
    storage: Storage,
    entries: Iterable[StorageEntry],
    busy: Collection[str],
    findings: Findings,
) -> None:
    sizes: dict[str, int] = {}
    for entry in entries:
        if entry.path.startswith("claims/"):
            folder = "/".join(entry.path.split("/")[:2])
            sizes[folder] = sizes.get(folder, 0) + entry.size
    for folder, size in sizes.items():
        if folder in busy:
            findings.keep("claims", size)
            continue
        seen = observe(storage, folder)
        if seen is None or (seen.holding is not None and seen.holding.released):
            reason = "released"
        elif seen.is_free:
            reason = f"{seen.who} is dead"
        else:
            reason = f"{seen.who} did not respond while it was watched"
        findings.add("claims", folder, size, reason)


def _sort_rest(
    entries: Iterable[StorageEntry], running: set[str], leaving: Sequence[str], now: float, findings: Findings
) -> None:
    folders: dict[tuple[str, str], int] = {}
    for entry in entries:
        parts = entry.path.split("/")
        if parts[0] == "studies" and len(parts) > 2 and parts[1] in leaving:
            key = ("studies", f"studies/{parts[1]}")
        elif (
            parts[0] == "studies"
            and parts[2:3] == ["local"]
            and parts[3:4]
            and parts[3].startswith(RAY_FOLDER)
        ):
            if parts[1] in running:
                continue
            key = ("local", "/".join(parts[:4]))
        elif parts[0] == "quarantine":
            key = ("quarantine", "/".join(parts[:2]))
        elif is_temporary(entry.path) and _is_abandoned(entry, bool(running), now):
            key = ("leftovers", entry.path)
        else:
            continue
        folders[key] = folders.get(key, 0) + entry.size
    reasons = {"studies": "you named it", "local": "its driver is gone"}
    for (category, path), size in folders.items():
        findings.add(category, path, size, reasons.get(category, ""))


def _info(name: str, entries: Sequence[StorageEntry], cells: set[str], running: bool) -> StudyInfo:
    trial = re.compile(rf"studies/{re.escape(name)}/trials/(\d+)(\.\d+)?\.json")
    return StudyInfo(
        name=name,
        trials=len({found[1] for entry in entries if (found := trial.fullmatch(entry.path))}),
        cells=len(cells),
        size=sum(entry.size for entry in entries),
        running=running,
    )


def is_running(storage: Storage, name: str, *, tell: Callable[[str], None] = lambda text: None) -> bool:
    """Return whether a driver runs a study; takes up to half a minute where only watching tells."""
    return bool(held(storage, [_lease(name)], tell=tell))


def _lease(name: str) -> str:
    return f"studies/{name}/driver"


def _is_abandoned(entry: StorageEntry, running: bool, now: float) -> bool:
    if running:
        return False  # how old it is would be a comparison of two clocks
    if now - entry.modified > SETTLED:
        return True
    if (process := writer_of(entry.path)) is None:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
