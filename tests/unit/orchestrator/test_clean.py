"""What may go of a storage, and that nothing else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cleaning import remove, survey
from orchestrator.cleaning.item import SETTLED
from orchestrator.cli.main import execute
from orchestrator.ledger import InFlight, Lease, Ledger, StudyStore, TrialRecord, open_storage
from orchestrator.ledger.cell_files import path_of
from orchestrator.ledger.cell_records import COPY, RECORD
from orchestrator.ledger.cells import TEST
from orchestrator.ledger.documents import NEWEST, encode
from orchestrator.ledger.local_state import local_state

KEPT, LOST, PROBE, BUSY = ("0" * 31 + digit for digit in "1234")
HOUR_AGO = time.time() - SETTLED - 60


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MMAP_CACHE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A study with two trials, a cell of each kind, and debris."""
    root = tmp_path / "runs"
    ledger, store = Ledger(root), StudyStore(root, "demo")
    store.save_study({"name": "demo"})
    store.save_trial(TrialRecord(number=0, state="complete", cells=[{"key": KEPT}]))
    store.save_trial(TrialRecord(number=1, state="running", cells=[{"key": BUSY}]))
    for key, kind, study in ((KEPT, "train", "demo"), (LOST, "train", "old"), (PROBE, "probe", "old")):
        ledger.commit(key, {"cell": {"kind": kind}, "study": study}, {"prompts": b"p" * 100})
    ledger.record_failure(BUSY, "loss is NaN")
    _state(ledger, [BUSY], {"study": "demo", "trial": 1})
    _state(ledger, [KEPT], {"study": "demo", "trial": 0})
    _state(ledger, [BUSY, LOST], {"study": "old", "trial": 0})
    (root / "mlflow.db").write_text("theirs")
    (root / "studies" / "demo" / "local" / "ray-abc").mkdir(parents=True)
    (root / "studies" / "demo" / "local" / "ray-abc" / "log").write_text("x")
    (root / "studies" / "demo" / "local" / "outbox").mkdir()
    (root / "studies" / "demo" / "local" / "outbox" / "00000001.jsonl").write_text("{}")
    (root / "quarantine").mkdir()
    (root / "quarantine" / "cells-x").write_text("bad")
    return root


def _state(ledger: Ledger, keys: list[str], about: dict[str, Any]) -> None:
    ledger.save_inflight(InFlight(cells=(), active=tuple(keys), epoch=1, history={}, state=b"s", about=about))


def may_go(root: Path, **options: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in survey(open_storage(root), **options).items:
        found.setdefault(item.category, []).append(item.path)
    return found


def test_what_no_study_refers_to_may_go_and_nothing_else(root: Path) -> None:
    found = survey(open_storage(root))
    by_path = {item.path: item for item in found.items}
    ledger = Ledger(root)
    states = {f"inflight/{name}" for name in ledger.inflight_batches()}
    assert {p for p, i in by_path.items() if i.category == "cells"} == {f"cells/{LOST}"}
    assert by_path[f"cells/{LOST}"].reason == "trained for study 'old', which no longer refers to it"
    gone = {path for path, item in by_path.items() if item.category == "states"}
    assert gone < states and len(gone) == 2
    assert {by_path[path].reason for path in gone} == {
        "its cells are finished",
        "its study 'old' is not here",
    }
    assert by_path["studies/demo/local/ray-abc"].category == "local"
    assert by_path["quarantine/cells-x"].category == "quarantine"
    assert len(by_path) == 5
    assert found.kept["cells"][0] == 2 and found.kept["failed"][0] == 1 and found.kept["states"][0] == 1
    assert [(s.name, s.trials, s.cells) for s in found.studies] == [("demo", 2, 2)]


def test_removing_leaves_everything_else_as_it_was(root: Path) -> None:
    before = {entry.path: (root / entry.path).read_bytes() for entry in open_storage(root).everything()}
    items = survey(open_storage(root)).items
    gone = remove(open_storage(root), items, {item.path for item in items})
    assert gone == items
    after = {entry.path: (root / entry.path).read_bytes() for entry in open_storage(root).everything()}
    removed = {path for path in before if path not in after}
    assert all(any(path.startswith(item.path) for item in items) for path in removed)
    assert after == {path: data for path, data in before.items() if path not in removed}
    assert survey(open_storage(root)).items == []
    assert Ledger(root).get(KEPT, verify=True) is not None


def test_a_survey_changes_nothing_even_where_a_record_is_damaged(root: Path) -> None:
    (root / "cells" / LOST / "record.json").write_text("{")
    (root / "cells" / LOST / "record.copy.json").write_text("{")
    before = sorted(entry.path for entry in open_storage(root).everything())
    reasons = {item.path: item.reason for item in survey(open_storage(root)).items}
    assert reasons[f"cells/{LOST}"] == "its record is damaged"
    assert sorted(entry.path for entry in open_storage(root).everything()) == before


def test_stray_files_among_the_studies_are_left_alone(root: Path) -> None:
    expected = may_go(root)
    (root / "studies" / "notes.txt").write_text(LOST)
    (root / "studies" / ".DS_Store").write_text("x")
    found = survey(open_storage(root))
    assert may_go(root) == expected and [study.name for study in found.studies] == ["demo"]
    assert may_go(root, studies=["notes.txt"]) == expected


def test_a_file_in_place_of_the_studies_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "studies").write_text("x")
    found = survey(open_storage(tmp_path / "records"))
    assert found.items == [] and found.studies == []


def test_a_named_study_goes_with_the_cells_that_only_it_uses(root: Path) -> None:
    other = StudyStore(root, "other")
    other.save_study({"name": "other"})
    assert f"cells/{KEPT}" in may_go(root, studies=["demo"])["cells"]
    other.save_trial(TrialRecord(number=0, state="complete", cells=[{"key": KEPT}]))
    found = may_go(root, studies=["demo"])
    assert found["studies"] == ["studies/demo"] and f"cells/{KEPT}" not in found["cells"]


def test_while_a_study_runs_nothing_goes_that_a_driver_could_use(root: Path) -> None:
    temporary = root / "cells" / LOST / f".test.json.{_dead_pid()}.0123abcd"
    temporary.write_text("")
    _age(root / "cells" / ("f" * 32), HOUR_AGO)
    with StudyStore(root, "demo").driver_lease(interval=0.1) as lease:
        lease.take()  # type: ignore[attr-defined]
        found = may_go(root, studies=["demo"], caches=True)
        assert survey(open_storage(root)).running == ["demo"]
    assert not {"cells", "partial", "leftovers", "studies", "local", "caches"} & set(found)
    assert {"cells", "partial", "leftovers", "local"} <= set(may_go(root))


def test_unfinished_writes_go_once_their_process_is_dead_or_long_silent(root: Path) -> None:
    cell = root / "cells" / KEPT
    ours, dead = f".record.json.{os.getpid()}.0123abcd", f".record.json.{_dead_pid()}.0123abcd"
    (cell / ours).write_text("")
    (cell / dead).write_text("")
    assert may_go(root)["leftovers"] == [f"cells/{KEPT}/{dead}"]
    os.utime(cell / ours, (HOUR_AGO, HOUR_AGO))
    assert sorted(may_go(root)["leftovers"]) == sorted(f"cells/{KEPT}/{name}" for name in (ours, dead))
    (cell / ".hidden").write_text("a file of somebody else")
    assert len(may_go(root)["leftovers"]) == 2


def test_claims_of_dead_processes_go_and_held_ones_stay(root: Path) -> None:
    claim = f"Ledger({str(root)!r}).claim('dead').try_acquire()"
    code = f"import os; from orchestrator.ledger import Ledger; {claim}; os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    storage = open_storage(root)
    leases = [Lease(storage, f"claims/{name}", interval=0.1) for name in ("held", "released")]
    with leases[0] as held, leases[1] as released:
        assert held.try_acquire() is None and released.try_acquire() is None
        released.release()
        assert sorted(may_go(root)["claims"]) == ["claims/dead", "claims/released"]
        assert survey(open_storage(root)).kept["claims"][0] == 1


def test_a_state_of_a_pruned_trial_may_go_and_one_of_a_failed_trial_stays(root: Path) -> None:
    store = StudyStore(root, "demo")
    _state(Ledger(root), [BUSY, PROBE], {"study": "demo", "trial": 2})
    for state, count in (("pruned", 3), ("failed", 2), ("running", 2)):
        store.save_trial(TrialRecord(number=2, state=state))  # type: ignore[arg-type]
        assert len(may_go(root)["states"]) == count


def test_caches_go_only_when_asked(root: Path, caches: Path) -> None:
    (caches / "mmap").mkdir(parents=True)
    (caches / "mmap" / "symbols.npy").write_bytes(bytes(2000))
    assert survey(open_storage(root)).kept["caches"] == (1, 2000)
    items = survey(open_storage(root), caches=True).items
    assert str(caches / "mmap") in [item.path for item in items if item.category == "caches"]
    remove(open_storage(root), items, {str(caches / "mmap")})
    assert not (caches / "mmap").exists()


def test_the_command_shows_first_and_removes_only_after_a_yes(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    before = sorted(entry.path for entry in open_storage(root).everything())

    def left() -> list[str]:
        return sorted(entry.path for entry in open_storage(root).everything())

    for arguments in ([], ["--dry-run"], ["--dry-run", "--yes"], ["--json"]):
        assert execute(["clean", *arguments]) == 0
        assert left() == before
    shown = capsys.readouterr().out
    assert "study demo" in shown and f"cells/{LOST}: trained for study 'old'" in shown and "--remove" in shown
    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert execute(["clean", "--remove"]) == 130 and left() == before
    assert execute(["clean", "--remove", "--yes", "--only", "quarantine"]) == 0
    assert [path for path in before if path not in left()] == ["quarantine/cells-x"]
    capsys.readouterr()
    assert execute(["clean", "--yes", "--json"]) == 0
    removed = [item["path"] for item in json.loads(capsys.readouterr().out)["removed"]]
    assert f"cells/{LOST}" in removed and f"cells/{LOST}/record.json" not in left()
    assert execute(["clean"]) == 0 and "Nothing to clean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--study", "dmeo"], "did you mean 'demo'?"),
        (["--only", "cell"], "did you mean 'cells'?"),
    ],
)
def test_unknown_names_are_refused(
    root: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["clean", *arguments, "--yes"]) == 2
    assert words in capsys.readouterr().err
    assert (root / "quarantine" / "cells-x").exists()


def test_a_running_study_is_not_removed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StudyStore(root, "demo").driver_lease(interval=0.1) as lease:
        lease.take()  # type: ignore[attr-defined]
        assert execute(["clean", "--study", "demo", "--yes"]) == 2
    assert "a driver is running study 'demo'" in capsys.readouterr().err


def test_an_object_store_is_surveyed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger("fsspec+memory://clean/runs")
    ledger.commit(LOST, {"cell": {"kind": "train"}, "study": None}, {"prompts": b"p"})
    items = survey(ledger.storage).items
    assert [(item.category, item.path, item.reason) for item in items] == [
        ("cells", f"cells/{LOST}", "trained for no study")
    ]
    remove(ledger.storage, items, {item.path for item in items})
    assert survey(ledger.storage).items == [] and ledger.get(LOST) is None


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _age(folder: Path, when: float) -> None:
    """A cell that was cut off while it was written down."""
    folder.mkdir()
    (folder / "prompts").write_text("")
    os.utime(folder / "prompts", (when, when))


def surplus(root: Path) -> tuple[str, str]:
    """Files of a cell that another worker left, an hour ago and just now."""
    old, new = (f"cells/{KEPT}/prompts.{digit * 16}" for digit in "ab")
    for path in (old, new):
        (root / path).write_bytes(b"other")
    os.utime(root / old, (HOUR_AGO, HOUR_AGO))
    return old, new


def test_files_that_no_record_names_go_once_they_are_old(root: Path) -> None:
    ledger = Ledger(root)
    ledger.commit_test(KEPT, {"metrics": {}}, {"test_predictions.parquet": b"t"})
    for path in (root / "cells" / KEPT).iterdir():
        os.utime(path, (HOUR_AGO, HOUR_AGO))
    old, _ = surplus(root)
    assert may_go(root)["files"] == [old]
    with StudyStore(root, "demo").driver_lease(interval=0.1) as lease:
        lease.take()  # type: ignore[attr-defined]
        assert "files" not in may_go(root)
    with Lease(ledger.storage, "claims/held", interval=0.1) as claim:
        assert claim.try_acquire() is None
        assert "files" not in may_go(root)
    items = survey(open_storage(root)).items
    remove(open_storage(root), items, {old})
    assert not (root / old).exists()
    assert Ledger(root).get(KEPT, verify=True) is not None
    assert Ledger(root).read_file(KEPT, "test_predictions.parquet", of=TEST) == b"t"


@pytest.mark.parametrize("name", [RECORD, COPY, TEST])
def test_where_a_record_of_a_cell_cannot_be_read_all_its_files_stay(root: Path, name: str) -> None:
    surplus(root)
    later = encode({"key": KEPT, "files": {}}, record_format=NEWEST + 1)
    for data in (b"torn", later):
        (root / "cells" / KEPT / name).write_bytes(data)
        assert "files" not in may_go(root)


def test_files_of_a_copy_that_is_another_workers_stay(root: Path) -> None:
    """It takes the record's place where that is damaged."""
    other = Ledger(root.parent / "other")
    other.commit(KEPT, {"cell": {"kind": "train"}}, {"prompts": b"other"})
    for path in (root.parent / "other" / "cells" / KEPT).iterdir():
        if path.name != RECORD:
            (root / "cells" / KEPT / path.name).write_bytes(path.read_bytes())
            os.utime(root / "cells" / KEPT / path.name, (HOUR_AGO, HOUR_AGO))
    assert "files" not in may_go(root)


@pytest.mark.parametrize("path", ["trials/1.json", "rows/full_ft.json", "baselines.json"])
def test_where_a_study_cannot_be_read_no_finished_cell_goes(
    root: Path, path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    place = root / "studies" / "demo" / path
    place.parent.mkdir(exist_ok=True)
    whole = place.read_bytes() if place.exists() else b""
    later = encode({"number": 1}, record_format=NEWEST + 1)
    for data in (b'{"torn', later):
        place.write_bytes(data)
        assert survey(open_storage(root)).unreadable == [str(place)] and "cells" not in may_go(root)
    assert execute(["clean"]) == 0
    assert f"{place} cannot be read and may refer to any cell" in capsys.readouterr().out
    aside = root / "quarantine" / f"studies-demo-{path.replace('/', '-')}-20260101"
    place.rename(aside)
    assert survey(open_storage(root)).unreadable == [str(aside)] and "cells" not in may_go(root)
    aside.unlink()
    if whole:
        place.write_bytes(whole)
    assert "cells" in may_go(root) and survey(open_storage(root)).unreadable == []


def test_cells_and_states_of_a_later_version_stay(root: Path) -> None:
    later = encode({"key": LOST, "files": {}}, record_format=NEWEST + 1)
    (root / "cells" / LOST / RECORD).write_bytes(later)
    for name in open_storage(root).names("inflight"):
        (root / "inflight" / name).write_bytes(b"mmap-state-2\n")
    found = may_go(root)
    assert "cells" not in found and "states" not in found


def test_a_score_stays_with_a_cell_that_will_be_trained_again(root: Path) -> None:
    ledger = Ledger(root)
    for key in (KEPT, LOST):
        ledger.commit_test(key, {"metrics": {}}, {})
        record = ledger.get(key)
        assert record is not None
        (root / path_of(key, "prompts", record["files"]["prompts"])).write_bytes(b"torn")
        assert ledger.get(key, verify=True) is None
        for path in (root / "cells" / key).iterdir():
            os.utime(path, (HOUR_AGO, HOUR_AGO))
    found = survey(open_storage(root))
    assert found.kept["broken"][0] == 1
    assert may_go(root)["partial"] == [f"cells/{LOST}"]


def test_local_files_of_studies_on_a_bucket_are_seen(caches: Path) -> None:
    storage = open_storage("fsspec+memory://local/runs")
    for name in ("demo", "gone"):
        folder = local_state(storage, name)
        (folder / "outbox").mkdir(parents=True)
        (folder / "outbox" / "news").write_bytes(bytes(10))
        (folder / "ray-abc").mkdir()
        (folder / "ray-abc" / "log").write_bytes(bytes(100))
    elsewhere = local_state(open_storage("fsspec+memory://another/runs"), "demo")
    (elsewhere / "ray-abc").mkdir(parents=True)
    (elsewhere / "ray-abc" / "log").write_bytes(bytes(1000))
    StudyStore(storage, "demo").save_study({"name": "demo"})
    found = survey(storage)
    ours, gone = local_state(storage, "demo"), local_state(storage, "gone")
    assert caches in ours.parents
    assert {(item.path, item.size, item.reason) for item in found.items if item.category == "local"} == {
        (str(ours / "ray-abc"), 100, "its driver is gone"),
        (str(gone), 110, "its study is gone"),
    }
    assert found.kept["local"] == (2, 1010)
    remove(storage, found.items, {item.path for item in found.items})
    assert not gone.exists() and not (ours / "ray-abc").exists()
    assert (ours / "outbox" / "news").exists() and (elsewhere / "ray-abc" / "log").exists()
    with StudyStore(storage, "demo").driver_lease(interval=0.1, settle=0.0) as lease:
        lease.take()  # type: ignore[attr-defined]
        (ours / "ray-new").mkdir()
        assert [item for item in survey(storage).items if item.category == "local"] == []
