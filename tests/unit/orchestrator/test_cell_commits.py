"""Workers that finish, score or drop one cell at the same time, step by step, and records of other kinds."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger import Ledger, Storage, open_storage
from orchestrator.ledger.cell_files import names_of, path_of
from orchestrator.ledger.cell_records import COPY, RECORD
from orchestrator.ledger.cells import TEST, WEIGHTS
from orchestrator.ledger.documents import NEWEST, NewerFormatError, decode, digest, encode
from orchestrator.ledger.in_flight import InFlight, batch_key
from orchestrator.ledger.storage import StorageEntry

KEY, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2


@pytest.fixture(params=["local", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "runs")
    return f"fsspec+memory://{secrets.token_hex(4)}/runs"


class Stepped(Storage):
    """Asks before every operation. What it stands before is ``step``: the operation and its path."""

    def __init__(self, behind: Storage, before: Callable[[str], None]) -> None:
        self._behind, self._before = behind, before
        self.root, self.exclusive = behind.root, behind.exclusive

    def read(self, path: str) -> bytes | None:
        self._before(f"read {path}")
        return self._behind.read(path)

    def write(self, path: str, data: bytes) -> None:
        self._before(f"write {path}")
        self._behind.write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        if self.exclusive:
            self._before(f"create {path}")
            return self._behind.create(path, data)
        if self.read(path) is not None:  # two steps, as there
            return False
        self.write(path, data)
        return True

    def delete(self, path: str) -> None:
        self._before(f"delete {path}")
        self._behind.delete(path)

    def move(self, path: str, target: str) -> None:
        self._before(f"move {path}")
        self._behind.move(path, target)

    def names(self, folder: str) -> list[str]:
        self._before(f"names {folder}")
        return self._behind.names(folder)

    def files(self, folder: str) -> Iterator[str]:
        return self._behind.files(folder)

    def everything(self) -> Iterator[StorageEntry]:
        return self._behind.everything()


class Actor:
    """Something done to a ledger in a thread of its own, one operation of the storage at a time."""

    def __init__(self, root: str, act: Callable[[Ledger], Any]) -> None:
        self._go, self._stands = threading.Semaphore(0), queue.SimpleQueue[None]()
        self.over, self.result, self.error = False, None, None
        self.ledger = Ledger(Stepped(open_storage(root), self._before))
        self._thread = threading.Thread(target=self._run, args=(act,), daemon=True)
        self._thread.start()
        self._stands.get(timeout=10)

    def step(self) -> None:
        """Do one operation."""
        self._go.release()
        self._stands.get(timeout=10)

    def finish(self) -> Any:
        """Do the rest; what came out."""
        while not self.over:
            self.step()
        self._thread.join()
        if self.error is not None:
            raise self.error
        return self.result

    def _before(self, operation: str) -> None:
        self._stands.put(None)
        self._go.acquire()

    def _run(self, act: Callable[[Ledger], Any]) -> None:
        try:
            self.result = act(self.ledger)
        except Exception as error:
            self.error = error
        self.over = True
        self._stands.put(None)


def interleaved(root: str, acts: Sequence[Callable[[Ledger], Any]], switches: Sequence[int]) -> list[Any]:
    """Results of two acts, the first one beginning; at each of ``switches`` operations the other goes on."""
    actors = [Actor(root, act) for act in acts]
    active = 0
    for before, until in zip((0, *switches), switches, strict=False):
        for _ in range(until - before):
            if not actors[active].over:
                actors[active].step()
        active = 1 - active
    actors[active].finish()
    return [actor.finish() for actor in actors]


SCHEDULES = [switches for count in (1, 2, 3) for switches in combinations(range(1, 13), count)]


def training(device: str) -> Callable[[Ledger], bool]:
    """A worker that finishes the cell on a device, with that device's numbers."""
    files = {
        name: f"{name} of {device}".encode() for name in (WEIGHTS, "predictions.parquet", "history.json")
    }
    return lambda ledger: ledger.commit(KEY, {"device": device}, files)


def check_own_files(ledger: Ledger) -> str:
    """The device of the record that counts; its files are of the same one."""
    record = ledger.get(KEY, verify=True)
    assert record is not None and ledger.damaged == []
    for name, data in ledger.read_files(KEY, record).items():
        assert data == f"{name} of {record['device']}".encode()
    return str(record["device"])


def test_a_cell_that_two_workers_finish_has_the_files_of_its_record(root: str) -> None:
    for number, switches in enumerate(SCHEDULES):
        place = f"{root}{number}"
        told = interleaved(place, [training("cpu"), training("cuda")], switches)
        ledger = Ledger(place)
        device = check_own_files(ledger)
        if ledger.storage.exclusive:
            assert told == [device == "cpu", device == "cuda"], switches
        else:
            assert told[device == "cuda"], switches
        ledger.storage.write(f"cells/{KEY}/{RECORD}", b"torn")
        assert Ledger(place).get(KEY, verify=True) is not None, "so has its copy"


def test_a_worker_that_stops_before_its_record_and_wakes_later_changes_nothing(root: str) -> None:
    late = Actor(root, training("cpu"))
    while not any(path.endswith("parquet") for path in open_storage(root).files("cells")):
        late.step()
    assert training("cuda")(Ledger(root))
    before = Ledger(root).get(KEY)
    assert before is not None
    scored = {"metrics": {}, "weights": before["files"][WEIGHTS]["sha256"]}
    assert Ledger(root).commit_test(KEY, scored, {})
    assert late.finish() is False
    assert Ledger(root).get(KEY) == before and check_own_files(Ledger(root)) == "cuda"
    assert Ledger(root).test(KEY) is not None


def test_a_cell_that_two_workers_score_has_the_predictions_of_its_score(root: str) -> None:
    training("cpu")(Ledger(root))

    def scoring(study: str) -> Callable[[Ledger], None]:
        files = {"test_predictions.parquet": study.encode()}
        return lambda ledger: ledger.commit_test(KEY, {"metrics": {}, "study": study}, files)

    for switches in SCHEDULES:
        interleaved(root, [scoring("one"), scoring("other")], [s for s in switches if s < 6])
        test = Ledger(root).test(KEY)
        assert test is not None
        assert Ledger(root).read_file(KEY, "test_predictions.parquet", of=TEST) == test["study"].encode()


def test_files_are_read_as_one_record_has_them(root: str) -> None:
    """A cell that is trained again between two reads gives the prompts of both trainings to nobody."""
    training("cpu")(Ledger(root))
    record = Ledger(root).get(KEY)
    assert record is not None
    Ledger(root).drop(KEY, WEIGHTS)
    training("cuda")(Ledger(root))
    del record["files"][WEIGHTS]
    assert set(Ledger(root).read_files(KEY, record).values()) == {
        b"predictions.parquet of cpu",
        b"history.json of cpu",
    }


def test_weights_that_a_stopped_driver_deletes_late_are_missed_at_the_next_look(root: str) -> None:
    training("cpu")(Ledger(root))
    dropping = Actor(root, lambda ledger: ledger.drop(KEY, WEIGHTS))
    while WEIGHTS not in (Ledger(root).get(KEY) or {}).get("dropped", {}):
        dropping.step()
    training("cpu")(Ledger(root))
    dropping.finish()
    assert Ledger(root).get(KEY, verify=True) is None, "the cell is trained again"
    assert training("cpu")(Ledger(root)) and check_own_files(Ledger(root)) == "cpu"


def test_a_broken_file_that_is_mended_meanwhile_is_left_alone(root: str) -> None:
    training("cpu")(Ledger(root))
    record = Ledger(root).get(KEY)
    assert record is not None
    Ledger(root).storage.write(path_of(KEY, WEIGHTS, record["files"][WEIGHTS]), b"torn")
    looking = Actor(root, lambda ledger: ledger.get(KEY, verify=True))
    for _ in range(2):  # it has read the record and the broken file
        looking.step()
    assert Ledger(root).get(KEY, verify=True) is None and training("cuda")(Ledger(root))
    found = looking.finish()
    assert found is not None and found["device"] == "cuda" == check_own_files(Ledger(root))


def test_a_broken_cell_keeps_its_score_only_if_trained_again_to_the_same_weights(root: str) -> None:
    ledger = Ledger(root)
    for device, kept in (("cpu", True), ("cuda", False)):
        training("cpu")(ledger)
        record = ledger.get(KEY)
        assert record is not None
        weights = record["files"][WEIGHTS]["sha256"]
        ledger.commit_test(KEY, {"metrics": {"accuracy": 0.5}, "weights": weights}, {})
        ledger.storage.write(path_of(KEY, WEIGHTS, record["files"][WEIGHTS]), b"torn")
        assert ledger.get(KEY, verify=True) is None and ledger.test(KEY) is not None
        training(device)(ledger)
        assert (ledger.test(KEY) is not None) == kept
    assert "it is the score of other weights" in ledger.damaged[-1]


def test_a_score_without_a_word_on_its_weights_counts_only_with_those_that_were_dropped(root: str) -> None:
    ledger = Ledger(root)
    training("cpu")(ledger)
    ledger.commit_test(KEY, {"metrics": {}}, {})
    ledger.drop(KEY, WEIGHTS)
    training("cpu")(ledger)
    assert ledger.test(KEY) is not None
    ledger.drop(KEY, WEIGHTS)
    training("cuda")(ledger)
    assert ledger.test(KEY) is None


def test_a_score_of_weights_that_were_replaced_meanwhile_is_not_written(root: str) -> None:
    ledger = Ledger(root)
    training("cpu")(ledger)
    record = ledger.get(KEY)
    assert record is not None
    scored = {"metrics": {}, "weights": record["files"][WEIGHTS]["sha256"]}
    ledger.drop(KEY, WEIGHTS)
    assert ledger.commit_test(KEY, scored, {}), "dropped weights are no others"
    training("cuda")(ledger)
    assert not ledger.commit_test(KEY, scored, {}) and ledger.test(KEY) is None


def as_before(root: str, key: str = KEY, of: str = KEY) -> bytes:
    """A cell as versions before names by content wrote it."""
    storage = open_storage(root)
    files = {WEIGHTS: b"weights", "history.json": encode({"epochs": [{"epoch": 1}]})}
    for name, data in files.items():
        storage.write(f"cells/{key}/{name}", data)
    entries = {name: {"sha256": digest(data), "bytes": len(data)} for name, data in files.items()}
    record = encode({"key": of, "files": entries, "metrics": {"accuracy": 0.5}})
    for name in (COPY, RECORD):
        storage.write(f"cells/{key}/{name}", record)
    return record


def test_records_with_plain_names_stay_readable(root: str) -> None:
    as_before(root)
    ledger = Ledger(root)
    record = ledger.get(KEY, verify=True)
    assert record is not None and names_of(record) == {WEIGHTS, "history.json"}
    assert ledger.history(KEY) == [{"epoch": 1}] and ledger.read_file(KEY, WEIGHTS) == b"weights"
    assert ledger.drop(KEY, WEIGHTS) == 7 and ledger.storage.read(f"cells/{KEY}/{WEIGHTS}") is None
    assert b'"record_format": 1' in (ledger.storage.read(f"cells/{KEY}/{RECORD}") or b"")
    assert ledger.commit(KEY, {}, {WEIGHTS: b"weights"}) and ledger.get(KEY, verify=True) is not None
    assert b'"record_format": 2' in (ledger.storage.read(f"cells/{KEY}/{RECORD}") or b"")


def garbage(of: str) -> dict[str, bytes]:
    entry = {"sha256": "0", "path": f"../{OTHER}/x"}
    return {
        "of another cell": encode({"key": of, "files": {}}),
        "of no cell": encode({"trial": 3}),
        "names no files": encode({"key": KEY, "trial": 3}),
        "'w' cannot be read": encode({"key": KEY, "files": {"w": entry}}),
        "checksum": b"{}",
    }


@pytest.mark.parametrize("kind", garbage(OTHER))
def test_a_record_that_is_not_the_cells_gives_way_to_its_copy_or_counts_as_none(root: str, kind: str) -> None:
    data = garbage(OTHER)[kind]
    words = {"of another cell": f"of cell {OTHER[:12]}, not of {KEY[:12]}"}.get(kind, kind)
    as_before(root)
    ledger = Ledger(root)
    ledger.storage.write(f"cells/{KEY}/{RECORD}", data)
    assert ledger.get(KEY, verify=True) == Ledger(root).get(KEY) is not None
    assert len(ledger.damaged) == 1 and words in ledger.damaged[0] and "quarantine" in ledger.damaged[0]
    for name in (RECORD, COPY):
        ledger.storage.write(f"cells/{KEY}/{name}", data)
    again = Ledger(root)
    assert again.get(KEY) is None and again.finished() == set()
    assert len(again.damaged) == 1 and words in again.damaged[0]
    assert training("cpu")(again) and check_own_files(Ledger(root)) == "cpu"


@pytest.mark.parametrize("name", [TEST, "failure.json"])
def test_scores_and_failures_of_other_cells_are_set_aside(root: str, name: str) -> None:
    ledger = Ledger(root)
    ledger.storage.write(f"cells/{KEY}/{name}", encode({"key": OTHER, "files": {}, "metrics": {}}))
    assert ledger.test(KEY) is None and ledger.failure(KEY) is None
    assert len(ledger.damaged) == 1 and f"not of {KEY[:12]}" in ledger.damaged[0]


def test_a_state_of_another_batch_is_set_aside(root: str) -> None:
    ledger = Ledger(root)
    state = InFlight(cells=(), active=(OTHER,), epoch=1, history={}, state=b"s", about={})
    data = ledger.storage.read(f"inflight/{ledger.save_inflight(state)}")
    ledger.storage.write(f"inflight/{batch_key([KEY])}", data or b"")
    assert ledger.inflight([KEY]) is None and "of another batch" in ledger.damaged[0]
    assert ledger.inflight([OTHER]) == state


def test_what_a_later_version_wrote_is_named_and_stays_until_it_is_replaced(root: str) -> None:
    ledger = Ledger(root)
    later = encode({"key": KEY, "files": {}}, record_format=NEWEST + 1)
    with pytest.raises(NewerFormatError, match=f"record_format {NEWEST + 1}"):
        decode(later)
    names = [RECORD, COPY, TEST]
    for name in names:
        ledger.storage.write(f"cells/{KEY}/{name}", later)
    for _ in range(2):
        assert ledger.get(KEY) is None and ledger.test(KEY) is None
    assert [ledger.storage.read(f"cells/{KEY}/{name}") for name in names] == [later] * 3
    assert len(ledger.damaged) == 2 and all("a later version" in line for line in ledger.damaged)
    assert training("cpu")(ledger)
    ledger.commit_test(KEY, {"metrics": {}}, {})
    assert check_own_files(Ledger(root)) == "cpu" and ledger.test(KEY) is not None
    aside = [ledger.storage.read(f"quarantine/{name}") for name in ledger.storage.names("quarantine")]
    assert aside == [later, later]


@pytest.mark.parametrize("number", [0, -1, True, None, "2"])
def test_a_record_format_is_a_positive_number(number: Any) -> None:
    body = (
        encode({"a": 1})
        .partition(b"\n")[2]
        .replace(
            b'"record_format": 1',
            b'"record_format": %b'
            % {True: b"true", None: b"null", "2": b'"2"'}.get(number, str(number).encode()),
        )
    )
    head = b'{"sha256": "' + digest(body).encode() + b'",\n'
    with pytest.raises(Exception, match="is not a record_format"):
        decode(head + body)
