"""Finding the records of a study from its name or file."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmap_model.errors import nearest
from orchestrator.commands import STORAGE
from orchestrator.study.errors import StudyError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyStore
    from orchestrator.study import Study


@dataclass(frozen=True)
class Stored:
    """A study with its records. ``study`` is the stored one."""

    study: Study
    store: StudyStore
    ledger: Ledger


def find_stored(name_or_path: str, storage: str | None) -> Stored:
    """The records of a packaged study, of a study file, or of any study by the name it is stored under.

    Raises:
        StudyError: nothing of that name was ever run there.
    """
    from orchestrator.ledger import Ledger, StudyStore
    from orchestrator.study import study_from_plain

    name, root = name_and_storage(name_or_path, storage)
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
    return Stored(stored, store, Ledger(store.storage))


def name_and_storage(name_or_path: str, storage: str | None) -> tuple[str, str]:
    """Name of a study, and the storage of its records as it was given: ``storage``, or the study's own."""
    from orchestrator.study import load_study, packaged_studies

    if name_or_path in packaged_studies() or Path(name_or_path).suffix in (".yaml", ".yml"):
        study = load_study(name_or_path)
        return study.name, storage or study.storage
    return name_or_path, storage or STORAGE
