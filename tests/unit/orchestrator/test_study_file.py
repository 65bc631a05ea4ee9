"""The record of a study as a whole: its identity, its copy, and what happens when it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.main import execute
from orchestrator.ledger import LeaseError, StudyDamaged, StudyStore, TrialRecord
from orchestrator.ledger.documents import NEWEST, encode

RECORD, COPY = "studies/demo/study.json", "studies/demo/study.copy.json"


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    store = StudyStore(tmp_path, "demo")
    store.save_study({"name": "demo"})
    return store


def test_a_study_gets_a_random_id_once(store: StudyStore, tmp_path: Path) -> None:
    first = store.id
    assert len(first) == 16 and int(first, 16) >= 0 and not store.adopts
    store.save_study({"name": "demo", "more": 1})
    assert StudyStore(tmp_path, "demo").id == first
    assert store.load_study() == {"name": "demo", "more": 1}
    other = StudyStore(tmp_path / "other", "demo")
    other.save_study({"name": "demo"})
    assert other.id != first


def test_an_older_study_gets_an_id_on_its_first_resume_and_adopts_its_runs(tmp_path: Path) -> None:
    store = StudyStore(tmp_path, "demo")
    store.storage.write(RECORD, encode({"study": {"name": "demo"}, "saved_at": "2026-01-01"}))
    assert (store.id, store.adopts) == ("", False)
    store.save_study({"name": "demo"})
    assert len(store.id) == 16 and store.adopts
    known = store.id
    store.save_study({"name": "demo"})
    assert store.id == known and store.adopts


def test_two_drivers_that_resume_an_older_study_give_it_one_id(tmp_path: Path) -> None:
    old = encode({"study": {"name": "demo"}, "saved_at": "2026-01-01"})
    slow = StudyStore(tmp_path, "demo")
    slow.storage.write(RECORD, old)
    write = slow.storage.write

    def stopped_before_it_writes(path: str, data: bytes) -> None:
        if path == RECORD:
            slow.storage.write = write  # type: ignore[method-assign]
            fast = StudyStore(tmp_path, "demo")
            fast.save_study({"name": "demo"})
            ids.append(fast.id)
        write(path, data)

    ids: list[str] = []
    slow.storage.write = stopped_before_it_writes  # type: ignore[method-assign]
    slow.save_study({"name": "demo"})
    assert ids == [slow.id]


def test_of_two_drivers_that_create_a_study_the_second_is_refused(tmp_path: Path) -> None:
    slow = StudyStore(tmp_path, "demo")
    create = slow.storage.create

    def stopped_before_it_creates(path: str, data: bytes) -> bool:
        StudyStore(tmp_path, "demo").save_study({"name": "demo", "first": True})
        return create(path, data)

    slow.storage.create = stopped_before_it_creates  # type: ignore[method-assign]
    with pytest.raises(LeaseError, match="another driver created"):
        slow.save_study({"name": "demo"})
    assert slow.load_study() == {"name": "demo", "first": True}


FLIPPED = encode({"study": {"name": "demo", "seed": 1}}).replace(b'"seed": 1', b'"seed": 2')
OF_A_TRIAL = encode({"number": 3, "state": "complete"})
OF_ANOTHER = encode({"study": {"name": "other"}, "id": "0" * 16})


@pytest.mark.parametrize("torn", [b"", b'{"sha256": "', FLIPPED, OF_A_TRIAL, OF_ANOTHER, None])
def test_a_torn_study_is_restored_from_its_copy(
    store: StudyStore, tmp_path: Path, torn: bytes | None
) -> None:
    known = store.id
    if torn is None:
        store.storage.delete(RECORD)
    else:
        store.storage.write(RECORD, torn)
    again = StudyStore(tmp_path, "demo")
    assert again.load_study() == {"name": "demo"} and again.id == known
    assert len(again.damaged) == 1
    assert "study.json" in again.damaged[0] and "study.copy.json" in again.damaged[0]
    again.save_study({"name": "demo"})
    healed = StudyStore(tmp_path, "demo")
    assert healed.id == known and healed.damaged == []
    kept = healed.storage.names("quarantine")
    assert len(kept) == (0 if torn is None else 1)


@pytest.mark.parametrize("copied", [True, False])
def test_a_study_whose_settings_cannot_be_read_is_refused_while_it_has_trials(
    store: StudyStore, copied: bool
) -> None:
    store.save_trial(TrialRecord(number=0))
    store.storage.write(RECORD, b"torn")
    if copied:
        store.storage.write(COPY, b"torn")
    else:
        store.storage.delete(COPY)
    for ask in (store.load_study, store.exists, lambda: store.id, lambda: store.save_study({"name": "demo"})):
        with pytest.raises(StudyDamaged) as raised:
            ask()
        assert str(store.storage.locate(RECORD)) in str(raised.value)
        assert ("study.copy.json: " in str(raised.value)) == copied
        assert raised.value.fix is not None and "backup" in raised.value.fix
    assert store.storage.read(RECORD) == b"torn"


def test_a_damaged_study_without_results_is_written_anew(store: StudyStore, tmp_path: Path) -> None:
    store.storage.write(RECORD, b"torn")
    store.storage.write(COPY, b"torn")
    again = StudyStore(tmp_path, "demo")
    assert again.load_study() is None and "written anew" in again.damaged[0]
    again.save_study({"name": "demo"})
    assert again.id and again.load_study() == {"name": "demo"}


@pytest.mark.parametrize("name", [RECORD, COPY])
def test_a_study_that_a_later_version_wrote_is_refused_whatever_lies_beside_it(
    store: StudyStore, name: str
) -> None:
    newer = encode({"study": {"name": "demo"}}, record_format=NEWEST + 1)
    if name == COPY:
        store.storage.write(RECORD, b"torn")
    store.storage.write(name, newer)
    for ask in (store.load_study, lambda: store.save_study({"name": "demo"})):
        with pytest.raises(
            StudyDamaged, match=rf"{name}: a later version of this software wrote it"
        ) as raised:
            ask()
        assert raised.value.fix is not None and "use that version" in raised.value.fix
    assert store.storage.read(name) == newer


def test_status_and_results_say_what_is_wrong_with_a_damaged_study(
    store: StudyStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save_trial(TrialRecord(number=0))
    store.storage.write(RECORD, b"torn")
    store.storage.write(COPY, b"torn")
    for command in ("status", "results"):
        assert execute([command, "demo", "--storage", str(tmp_path)]) == 2
        said = " ".join(capsys.readouterr().err.replace("│", " ").split())
        assert "never run" not in said
        assert "the settings of this study cannot be read, although it has results" in said
        assert "study.json" in said and "study.copy.json" in said and "backup" in said
