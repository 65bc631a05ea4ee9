"""Cells are committed once, with their files; what is damaged is noticed and given way to."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept_cell import KEY, place, state_of

from orchestrator.ledger import (
    CorruptError,
    DroppedError,
    Ledger,
)
from orchestrator.ledger.cell_records import COPY, RECORD
from orchestrator.ledger.cells import TEST
from orchestrator.ledger.documents import decode


def test_a_committed_cell_is_found_with_its_files(root: str) -> None:
    ledger = Ledger(root)
    assert ledger.get(KEY) is None
    assert ledger.commit(KEY, {"metrics": {"accuracy": 0.5}}, {"predictions.parquet": b"data"})
    again = Ledger(root)
    record = again.get(KEY, verify=True)
    assert record is not None and record["metrics"] == {"accuracy": 0.5}
    assert again.read_file(KEY, "predictions.parquet") == b"data"
    assert again.finished() == {KEY}
    assert again.get_many([KEY, "other"]).keys() == {KEY}


def test_a_cell_is_committed_once(root: str) -> None:
    ledger = Ledger(root)
    assert ledger.commit(KEY, {"metrics": {"accuracy": 0.5}}, {"f": b"first"})
    assert not ledger.commit(KEY, {"metrics": {"accuracy": 0.9}}, {"f": b"second"})
    assert ledger.read_file(KEY, "f") == b"first"


def test_files_without_a_record_are_no_finished_cell(root: str) -> None:
    ledger = Ledger(root)
    ledger.storage.write(f"cells/{KEY}/predictions.parquet", b"data")
    assert ledger.get(KEY) is None
    assert ledger.finished() == set()
    with pytest.raises(CorruptError, match="no committed file"):
        ledger.read_file(KEY, "predictions.parquet")


@pytest.mark.parametrize("damage", [b"", b'{"metrics": {"accu', b"\x00" * 40, b'{"metrics": {}}'])
def test_a_damaged_record_gives_way_to_its_copy(root: str, damage: bytes) -> None:
    ledger = Ledger(root)
    ledger.commit(KEY, {"metrics": {"accuracy": 0.5}}, {"f": b"data"})
    whole = ledger.get(KEY)
    ledger.storage.write(f"cells/{KEY}/{RECORD}", damage)
    assert ledger.get(KEY, verify=True) == whole
    assert len(ledger.damaged) == 1 and "its copy takes its place; moved to" in ledger.damaged[0]
    assert len(ledger.storage.names("quarantine")) == 1
    again = Ledger(root)
    assert (again.get(KEY), again.damaged, again.finished()) == (whole, [], {KEY})
    assert again.read_file(KEY, "f") == b"data"


def test_a_damaged_record_is_no_obstacle_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    ledger.commit(KEY, {"metrics": {"accuracy": 0.5}}, {"f": b"data"})
    ledger.storage.write(f"cells/{KEY}/{RECORD}", b"")

    def refuse(*arguments: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(ledger.storage, "write", refuse)
    monkeypatch.setattr(ledger.storage, "move", refuse)
    assert ledger.read_file(KEY, "f") == b"data"
    assert "could not be moved aside: read-only" in ledger.damaged[0]


def test_a_record_whose_restoring_is_interrupted_is_restored_later(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(root)
    ledger.commit(KEY, {"metrics": {"accuracy": 0.5}}, {"f": b"data"})
    whole = ledger.get(KEY)
    ledger.storage.write(f"cells/{KEY}/{RECORD}", b"damaged")
    write = ledger.storage.write

    def refuse(path: str, data: bytes) -> None:
        if path.endswith(RECORD):
            raise OSError("disk full")
        write(path, data)

    with monkeypatch.context() as full:
        full.setattr(ledger.storage, "write", refuse)
        assert ledger.get(KEY) == whole
    again = Ledger(root)
    assert again.finished() == {KEY}
    assert again.get(KEY) == whole
    assert decode(again.storage.read(f"cells/{KEY}/{RECORD}") or b"") == whole
    aside = [again.storage.read(f"quarantine/{name}") for name in again.storage.names("quarantine")]
    assert aside and set(aside) == {b"damaged"}


def test_the_copy_of_a_record_makes_no_cell_finished(root: str) -> None:
    """A process that dies between the two writes has not committed."""
    ledger = Ledger(root)
    ledger.commit(KEY, {"metrics": {}}, {"f": b"data"})
    ledger.storage.delete(f"cells/{KEY}/{RECORD}")
    assert ledger.get(KEY) is None and ledger.finished() == set() and ledger.damaged == []
    assert ledger.commit(KEY, {"metrics": {}}, {"f": b"data"})


@pytest.mark.parametrize("damage", [b"", b'{"metrics": {"accu', b"\x00" * 40, b'{"metrics": {}}'])
def test_a_record_damaged_with_its_copy_counts_as_absent_and_is_moved_aside(root: str, damage: bytes) -> None:
    ledger = Ledger(root)
    ledger.commit(KEY, {"metrics": {}}, {"f": b"data"})
    ledger.storage.write(f"cells/{KEY}/{RECORD}", damage)
    ledger.storage.write(f"cells/{KEY}/{COPY}", damage)
    assert ledger.get(KEY) is None
    assert len(ledger.damaged) == 1 and "quarantine" in ledger.damaged[0]
    assert ledger.storage.names("quarantine")
    assert ledger.finished() == set()
    assert ledger.commit(KEY, {"metrics": {}}, {"f": b"data"}), "it can be trained again"


@pytest.mark.parametrize("data", [None, b"dat", b"changed"])
def test_verification_notices_a_missing_or_changed_file(root: str, data: bytes | None) -> None:
    ledger = Ledger(root)
    ledger.commit(KEY, {"metrics": {}}, {"f": b"data"})
    path = place(ledger, "f")
    ledger.storage.delete(path) if data is None else ledger.storage.write(path, data)
    assert ledger.get(KEY) is not None
    with pytest.raises(CorruptError):
        ledger.read_file(KEY, "f")
    assert ledger.get(KEY, verify=True) is None
    assert ledger.get(KEY) is None


def test_a_failure_is_kept_until_the_cell_finishes(root: str) -> None:
    ledger = Ledger(root)
    ledger.record_failure(KEY, "the loss was not finite", traceback="Traceback …", study="demo")
    failure = ledger.failure(KEY)
    assert failure is not None and failure["error"] == "the loss was not finite"
    assert (ledger.failed(), ledger.finished()) == ({KEY}, set())
    ledger.commit(KEY, {"metrics": {}}, {})
    assert (ledger.failed(), ledger.finished()) == (set(), {KEY})


def test_a_test_score_of_logits_that_were_not_finite_is_none(root: str) -> None:
    """Earlier versions wrote it: with the accuracy of a guess, and null for the likelihood."""
    ledger = Ledger(root)
    ledger.commit(KEY, {"metrics": {}}, {})
    ledger.commit_test(KEY, {"metrics": {"accuracy": 0.25, "nll": float("nan"), "tasks": {}}}, {})
    assert ledger.tests([KEY]) == {} and ledger.get(KEY) is not None
    assert "its nll was not a finite number" in ledger.damaged[0]


def test_in_flight_states_are_found_by_their_cells_in_order(root: str) -> None:
    ledger = Ledger(root)
    ledger.save_inflight(state_of(["a", "b"], epoch=1))
    ledger.save_inflight(state_of(["a", "b"], epoch=2))
    found = Ledger(root).inflight(["a", "b"])
    assert found == state_of(["a", "b"], epoch=2)
    assert ledger.inflight(["b", "a"]) is None
    assert len(ledger.inflight_batches()) == 1
    ledger.drop_inflight(["a", "b"])
    assert ledger.inflight(["a", "b"]) is None


def test_a_damaged_in_flight_state_counts_as_absent(root: str) -> None:
    ledger = Ledger(root)
    batch = ledger.save_inflight(state_of(["a"], epoch=1))
    data = ledger.storage.read(f"inflight/{batch}")
    assert data is not None
    ledger.storage.write(f"inflight/{batch}", data[:-3])
    assert ledger.inflight(["a"]) is None
    assert ledger.damaged and ledger.inflight_batches() == []


def test_of_a_damaged_in_flight_state_the_one_before_is_left(root: str) -> None:
    ledger = Ledger(root)
    for epoch in (1, 2, 3, 4):
        batch = ledger.save_inflight(state_of(["a"], epoch=epoch))
    assert sorted(ledger.storage.names("inflight")) == [batch, f"{batch}.even"]
    ledger.storage.write(f"inflight/{batch}.even", b"torn")
    found = ledger.inflight(["a"])
    assert found is not None and found.epoch == 3
    ledger.drop_inflight(["a"])
    assert ledger.storage.names("inflight") == []


def test_test_numbers_stay_out_of_the_record(root: str) -> None:
    ledger = Ledger(root)
    ledger.commit(KEY, {"metrics": {"accuracy": 0.5}}, {})
    before = ledger.get(KEY)
    ledger.commit_test(KEY, {"metrics": {"accuracy": 0.4}}, {"test_predictions.parquet": b"t"})
    assert ledger.get(KEY) == before
    test = ledger.test(KEY)
    assert test is not None and test["metrics"] == {"accuracy": 0.4}
    assert ledger.read_file(KEY, "test_predictions.parquet", of=TEST) == b"t"
    assert ledger.tests([KEY, "other"]).keys() == {KEY}


def test_a_failure_is_kept_without_secrets(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    ledger = Ledger(root)
    ledger.record_failure(KEY, "403 for very-secret-key", traceback="http://u:p@host very-secret-key")
    failure = ledger.failure(KEY)
    assert failure is not None
    assert (failure["error"], failure["traceback"]) == ("403 for ***", "http://host ***")


def test_a_dropped_file_leaves_a_whole_record(root: str) -> None:
    ledger = Ledger(root)
    assert ledger.drop(KEY, "w") == 0
    assert ledger.commit(KEY, {"metrics": {"accuracy": 0.5}}, {"w": b"weights", "p": b"p"})
    assert ledger.drop(KEY, "w") == 7
    ledger.storage.write(f"cells/{KEY}/{RECORD}", b"")
    record = Ledger(root).get(KEY, verify=True)
    assert record is not None and record["metrics"] == {"accuracy": 0.5} and list(record["files"]) == ["p"]
    assert record["dropped"]["w"]["bytes"] == 7
    assert ledger.storage.read(place(ledger, "w")) is None and ledger.read_file(KEY, "p") == b"p"
    with pytest.raises(DroppedError, match=r"w of cell 0123456789ab was dropped on .* finalists only"):
        ledger.read_file(KEY, "w")
    assert ledger.drop(KEY, "w") == ledger.drop(KEY, "other") == 0
    assert ledger.damaged == []


def test_a_drop_that_was_interrupted_is_finished_by_the_next(root: str) -> None:
    ledger = Ledger(root)
    ledger.commit(KEY, {}, {"w": b"weights"})
    ledger.drop(KEY, "w")
    ledger.storage.write(place(ledger, "w"), b"weights")
    assert Ledger(root).get(KEY, verify=True) is not None
    ledger.drop(KEY, "w")
    assert ledger.storage.read(place(ledger, "w")) is None


def test_only_a_record_without_its_weights_gives_way_to_another(root: str) -> None:
    ledger = Ledger(root)
    ledger.commit(KEY, {"seconds": 1}, {"w": b"weights"})
    assert not ledger.commit(KEY, {"seconds": 2}, {"w": b"others"})
    ledger.drop(KEY, "w")
    assert ledger.commit(KEY, {"seconds": 3}, {"w": b"weights"})
    record = ledger.get(KEY, verify=True)
    assert record is not None and record["seconds"] == 3 and "dropped" not in record
