"""Records of cells and studies, on a local folder and on an object store."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmap_model.errors import InputError
from orchestrator.ledger import (
    CorruptError,
    DroppedError,
    InFlight,
    Invocation,
    Ledger,
    StorageError,
    StudyStore,
    TrialRecord,
    WriteBehind,
    check_writable,
    open_storage,
)
from orchestrator.ledger.cell_files import path_of
from orchestrator.ledger.cell_records import COPY, RECORD
from orchestrator.ledger.cells import TEST
from orchestrator.ledger.documents import decode, decode_state, encode, encode_state
from orchestrator.ledger.gather import AT_ONCE, LAST, SLOW_S, gather
from orchestrator.ledger.storage import LocalStorage

KEY = "0123456789abcdef0123456789abcdef"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@pytest.fixture(params=["local", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "runs")
    return f"fsspec+memory://{secrets.token_hex(4)}/runs"


def place(ledger: Ledger, name: str) -> str:
    """Where a file of the cell lies, dropped or not."""
    record = ledger.get(KEY)
    assert record is not None
    return path_of(KEY, name, {**record["files"], **record.get("dropped", {})}[name])


def state_of(keys: list[str], epoch: int = 2) -> InFlight:
    history = {key: [{"epoch": e + 1, "accuracy": 0.5} for e in range(epoch)] for key in keys}
    cells = tuple({"key": key} for key in keys)
    return InFlight(cells, tuple(keys), epoch, history, b"\x00state\xff", {"study": "s"})


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8).filter(lambda k: k != "record_format"), json_values, max_size=4))
def test_documents_survive_writing(document: dict[str, Any]) -> None:
    assert decode(encode(document)) == document
    assert json.loads(encode(document)).items() >= document.items(), "other tools can read it"


@settings(deadline=None)
@given(st.binary(max_size=64), st.data())
def test_truncation_of_a_state_never_goes_unnoticed(payload: bytes, data: st.DataObject) -> None:
    whole = encode_state({"epoch": 3}, payload)
    assert decode_state(whole) == ({"epoch": 3}, payload)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CorruptError):
        decode_state(whole[:cut])


@settings(deadline=None)
@given(st.data())
def test_truncation_of_a_record_never_goes_unnoticed(data: st.DataObject) -> None:
    whole = encode({"metrics": {"accuracy": 0.5}})
    with pytest.raises(CorruptError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_what_utf_8_cannot_hold_survives_writing() -> None:
    """A command line names files as the system gives them, which need not be text."""
    document = {"command": "orchestrator sweep caf\udce9.yaml", "\ud800": "\\\udcff"}
    assert decode(encode(document)) == document
    assert decode_state(encode_state(document, b"x")) == (document, b"x")


def test_numbers_that_json_lacks_become_null() -> None:
    assert decode(encode({"loss": float("nan"), "pair": (1, float("inf"))})) == {
        "loss": None,
        "pair": [1, None],
    }


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


def test_listing_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    for number in range(5):
        ledger.commit(f"{number:032x}", {"metrics": {}}, {"f": b""})

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a listing looked at a file")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "stat", refuse)
    assert len(ledger.finished()) == 5


def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom orchestrator.ledger import open_storage\ns = open_storage(sys.argv[1])\n"
        "i = 0\nwhile True:\n    s.write('d/f', bytes([i % 256]) * 200_000)\n    i += 1\n"
        "    if i == 3: print('go', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stdout is not None and process.stdout.readline()
    process.kill()
    process.wait()
    data = open_storage(tmp_path).read("d/f")
    assert data is not None and len(data) == 200_000 and len(set(data)) == 1
    assert open_storage(tmp_path).names("d") == ["f"]


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path, taken: str) -> None:
    check_writable(tmp_path / "new" / "runs")
    blocked = tmp_path / "blocked"
    if taken == "file":
        blocked.write_text("a file")
        where = blocked / "runs"
    else:
        where = Path("/proc/nowhere")
    with pytest.raises(StorageError, match=r"storage: cannot write to") as caught:
        check_writable(where)
    assert caught.value.fix is not None and "storage=" in caught.value.fix


def test_places_are_named_without_credentials() -> None:
    storage = open_storage("fsspec+memory://key:secret@bucket/runs")
    assert storage.locate("cells/a") == "fsspec+memory://bucket/runs/cells/a"


def test_an_unknown_scheme_is_an_input_error() -> None:
    with pytest.raises(StorageError, match="s3://bucket"):
        open_storage("ftp-ish://bucket/runs")


def test_trials_come_back_by_number(root: str) -> None:
    store = StudyStore(root, "demo")
    for number in (10, 9, 0):
        store.save_trial(TrialRecord(number=number, params={"lr": 0.1 * number}, fence=1))
    store.save_trial(TrialRecord(number=9, state="complete", fence=1, value=0.5))
    trials = StudyStore(root, "demo").load_trials()
    assert [t.number for t in trials] == [0, 9, 10]
    assert (trials[1].state, trials[1].value) == ("complete", 0.5)
    assert store.trial_numbers() == [0, 9, 10]


def test_a_damaged_trial_is_left_out_and_reported(root: str) -> None:
    store = StudyStore(root, "demo")
    store.save_trial(TrialRecord(number=0))
    store.save_trial(TrialRecord(number=1))
    store.storage.write("studies/demo/trials/0.json", b'{"number"')
    assert [t.number for t in store.load_trials()] == [1]
    assert "trials/0.json" in store.damaged[0]


def test_study_file_looks_baselines_and_invocations(root: str) -> None:
    store = StudyStore(root, "demo")
    assert not store.exists() and store.load_test_evaluations() == []
    store.save_study({"name": "demo", "seeds": [1, 2]})
    store.record_test_evaluation(reason="end of sweep", keys=[KEY])
    store.record_test_evaluation(reason="confirm", keys=[])
    store.save_baseline("zero_shot", {"cells": []})
    store.save_baseline("zero_step", {"cells": []})
    first = Invocation(id="20260101000000-0001", trained=[KEY], timing={"training": 1.5})
    store.save_invocation(Invocation(id="20260101000001-0000"))
    store.save_invocation(first)
    assert store.load_study() == {"name": "demo", "seeds": [1, 2]}
    assert [look["reason"] for look in store.load_test_evaluations()] == ["end of sweep", "confirm"]
    assert set(store.load_baselines()) == {"zero_shot", "zero_step"}
    assert [i.id for i in store.load_invocations()] == ["20260101000000-0001", "20260101000001-0000"]
    assert store.load_invocations()[0] == first


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a study"):
        StudyStore(tmp_path, name)


@pytest.mark.parametrize("path", ["../outside", "cells/../../outside", "/etc/passwd", "a\0b"])
def test_no_path_leads_out_of_the_storage(root: str, tmp_path: Path, path: str) -> None:
    storage = open_storage(root)
    storage.write("inside", b"")
    (tmp_path / "outside").write_text("theirs")
    for act in (
        lambda: storage.read(path),
        lambda: storage.write(path, b""),
        lambda: storage.create(path, b""),
        lambda: storage.delete(path),
        lambda: storage.move("inside", path),
        lambda: storage.move(path, "inside"),
        lambda: storage.names(path),
        lambda: list(storage.files(path)),
    ):
        with pytest.raises(StorageError, match="leads out of the storage"):
            act()
    assert (tmp_path / "outside").read_text() == "theirs" and storage.names("") == ["inside"]


def test_credentials_of_a_storage_are_never_shown() -> None:
    key = "AKIAEXAMPLE:not/a+real%2Fkey"
    assert (
        open_storage(f"s3://{key.replace('/', '%2F')}@bucket/runs?region=eu-west-1").locate("x")
        == "s3://bucket/runs/x"
    )
    with pytest.raises(StorageError) as raised:
        open_storage(f"nosuch://{key}@bucket/runs")
    assert "a+real" not in str(raised.value)


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


def test_records_on_a_slow_storage_are_read_side_by_side(tmp_path: Path) -> None:
    keys = [f"{number:032x}" for number in range(LAST + 3 * AT_ONCE)]
    for key in keys:
        Ledger(tmp_path).commit(key, {"metrics": {"accuracy": 0.5}}, {})

    class Slow(LocalStorage):
        """Answers the first few after a while, others once as many as may be under way have asked."""

        rounds = 0
        alone = 0

        def __init__(self) -> None:
            super().__init__(tmp_path)
            self._full = threading.Barrier(AT_ONCE, action=self._count)

        def _count(self) -> None:
            self.rounds += 1

        def read(self, path: str) -> bytes | None:
            if threading.current_thread() is threading.main_thread():
                self.alone += 1
                time.sleep(2 * SLOW_S)
            else:
                self._full.wait(timeout=10)
            return super().read(path)

    slow = Slow()
    found = Ledger(slow).get_many(keys)
    assert list(found) == keys and all(record["metrics"] == {"accuracy": 0.5} for record in found.values())
    assert (slow.alone, slow.rounds) == (LAST, 3)


def test_records_on_a_fast_storage_are_read_one_after_the_other() -> None:
    threads = set()
    gather(lambda _: threads.add(threading.current_thread()), range(200))
    assert threads == {threading.main_thread()}


def test_of_what_is_written_behind_the_latest_stays_and_errors_are_tried_again(tmp_path: Path) -> None:
    away = threading.Event()
    away.set()
    written: list[tuple[str, bytes]] = []

    class Unreliable(LocalStorage):
        def write(self, path: str, data: bytes) -> None:
            if away.is_set():
                raise OSError("the storage is away")
            super().write(path, data)
            written.append((path, data))

    storage = Unreliable(tmp_path)
    behind = WriteBehind(storage, again_s=0.01)
    for number in range(50):
        for path in ("trials/0.json", "trials/1.json"):
            behind.put(path, str(number).encode())
    assert not behind.drain(0.05) and not written
    away.clear()
    assert behind.close(10)
    assert sorted(written) == [("trials/0.json", b"49"), ("trials/1.json", b"49")]
    assert storage.read("trials/0.json") == b"49"
