"""Finding the records of a study from its name or file."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmap_model.errors import nearest
from mmap_model.paths import expanded
from orchestrator.commands import STORAGE
from orchestrator.study.errors import StudyError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyStore
    from orchestrator.study import Study


@dataclass(frozen=True)
class Stored:
    """A study with its records. ``study`` is the stored one; see `find_stored` for where its images are."""

    study: Study
    store: StudyStore
    ledger: Ledger


def find_stored(name_or_path: str, storage: str | None) -> Stored:
    """The records of a packaged study, of a study file, or of any study by the name it is stored under.

    Images may move: where those of the stored study are not here, they are at the place that the study file
    says, if they are there. Whether they are the same ones is told when they are read.

    Raises:
        StudyError: nothing of that name was ever run there.
    """
    from orchestrator.ledger import Ledger, StudyStore
    from orchestrator.study import study_from_plain

    given = _study_of(name_or_path)
    name, root = _name_and_storage(name_or_path, given, storage)
    store = StudyStore(root, name)
    plain = store.load_study()
    if plain is None:
        known = store.storage.names("studies")
        hint = nearest(name, known) if known else "it holds no study yet"
        sweep = shlex.join(["orchestrator", "sweep", name_or_path])
        raise StudyError(
            f"study {name!r} was never run in {store.storage.locate('')}",
            where="STUDY",
            fix=f"{hint}; run it with: {sweep}, or give --storage",
        )
    stored = study_from_plain(plain, f"studies/{name}/study.json")
    return Stored(_with_images_here(stored, given), store, Ledger(store.storage))


def name_and_storage(name_or_path: str, storage: str | None) -> tuple[str, str]:
    """Name of a study, and the storage of its records as it was given: ``storage``, or the study's own."""
    return _name_and_storage(name_or_path, _study_of(name_or_path), storage)


def _name_and_storage(name_or_path: str, given: Study | None, storage: str | None) -> tuple[str, str]:
    if given is not None:
        return given.name, storage or given.storage
    return name_or_path, storage or STORAGE


def _study_of(name_or_path: str) -> Study | None:
    """What a packaged study or a study file says; None for the name of another study."""
    from orchestrator.study import load_study, packaged_studies

    if name_or_path in packaged_studies() or Path(name_or_path).suffix in (".yaml", ".yml"):
        return load_study(name_or_path)
    return None


def _with_images_here(stored: Study, given: Study | None) -> Study:
    """What of the stored dataset is gone is at the place that the file gives; all else is as stored."""
    before = stored.dataset
    if given is None or given.dataset.name != before.name or _is_here(before.root):
        return stored
    if before.store is not None and _is_here(before.store):  # prepared images are read without the others
        return stored
    if given.dataset.root is None or not _is_here(given.dataset.root):
        return stored
    moved = {
        name: place
        for name in ("root", "lists", "excluded", "store")
        if not _is_here(getattr(before, name)) and (place := getattr(given.dataset, name)) is not None
    }
    return stored.model_copy(update={"dataset": replace(before, **moved)})


def _is_here(place: str | None) -> bool:
    """Whether there is something at this place, or none is named; not looked for in a bucket."""
    return place is None or "://" in place or expanded(place).exists()
